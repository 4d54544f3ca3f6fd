/** What the commands about regions say to somebody who reads it. */
import type { Region } from '../../domain/regions.ts'
import type { ReplicationState } from '../../storage/replication.ts'
import { describeCounts } from '../reconcile/run.ts'
import type { AddRegionReport } from './add.ts'
import type { FailoverReport } from './failover.ts'
import type { RegionState, RegionsStatus } from './status.ts'
import type { UnreplicatedReport } from './unreplicated.ts'

const lines = (all: readonly string[]) => `${all.join('\n')}\n`

export function describeUnreplicated({ compared, missing, known, gone, accepted, put, carried }: UnreplicatedReport): string {
  return lines([
    ...missing.map((one) => `${one.messageId}  ${one.appId}  ${one.acceptedAt}`),
    `${compared} messages compared: ${missing.length} missing, ${known.length} published again since, ${gone} of erased applications`,
    `${accepted} accepted here, ${put} deliveries put into the outbox, ${carried} messages go on in a fan-out that was open`,
  ])
}

export function describeLag({ isStandby, connected, bytes, ms, standbys }: ReplicationState): string {
  if (isStandby) return `standby, ${connected ? 'connected' : 'NOT connected'}: ${bytes} bytes, ${Math.round(ms)} ms behind`
  return ['primary', ...standbys.map((one) => `${one.name}: ${one.state}, ${one.bytes} bytes, ${Math.round(one.ms)} ms behind`)].join('\n')
}

/** What was made, and what an operator does next. */
export function describeAdded({ region, namespace, peers, at }: AddRegionReport, temporalAddressOf: (region: string) => string): string {
  const [home] = at
  const made = `${namespace}: active at ${home!.activeCluster}, at ${home!.clusters.join(', ')}`
  if (peers.length === 0) return lines([made, `nothing is replicated: ${region} has no peers`])
  return lines([
    made,
    'left to do:',
    ...peers.flatMap((peer) => [
      `  at ${peer}, the standby: tidings region standby create --primary <url of ${region}'s Postgres> --data-dir <folder> --name ${peer}`,
      `  at ${peer}, processes that wait for its promotion: TIDINGS_REGION=${region} DATABASE_URL=<url of the standby> ` +
        `TEMPORAL_ADDRESS=${temporalAddressOf(peer)} tidings api (and tidings worker)`,
    ]),
  ])
}

export function describeStatus({ regions, problems }: RegionsStatus): string {
  const servers = table([
    ['region', 'role', 'API', 'Temporal', 'peers', 'Postgres'],
    ...regions.map((one) => [one.name, one.role, apiOf(one), temporalOf(one), peersOf(one), databaseOf(one)]),
  ])
  const namespaces = table([
    ['namespace', 'at', 'active at', 'version', 'running'],
    ...regions.flatMap(({ namespace, at }) =>
      at.map((one) => [namespace, one.cluster, one.activeCluster, String(one.failoverVersion), String(one.running)]),
    ),
  ])
  return lines([
    ...servers,
    '',
    ...namespaces,
    '',
    ...(problems.length === 0 ? ['all regions answer, each namespace has one active cluster'] : problems),
  ])
}

const apiOf = ({ api }: RegionState) => (api.answers ? `${api.status} ${api.name} (${api.role})` : 'no answer')
const temporalOf = ({ temporal }: RegionState) => (temporal.answers ? temporal.version : 'no answer')
const peersOf = ({ temporal }: RegionState) => (temporal.answers ? temporal.peers.join(' ') || 'none' : '')
const databaseOf = ({ database }: RegionState) => {
  if (database === undefined) return ''
  return database.answers ? describeLag(database).replaceAll('\n', '; ') : 'no answer'
}

/** Columns as wide as they have to be. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  )
}

export function describeFailover(report: FailoverReport, { apiUrl }: Region): string {
  const { region, to, planned, dryRun, steps, lag, reconciled } = report
  const times = steps.map(({ step, at, ms }) => `${at}  ${step.padEnd(9)}  ${ms} ms`)
  const behind = `last known lag of the standby: ${lag.bytes} bytes not applied, ${lag.connected ? 'connected' : `last transaction ${Math.round(lag.ms)} ms before`}`
  if (dryRun) return lines([...times, behind, `nothing was changed: ${region} can be ${planned ? 'moved' : 'failed over'} to ${to}`])
  return lines([
    ...times,
    behind,
    `${region} is at ${to}, failover version ${report.failoverVersion}; lead ${apiUrl} to the API there`,
    ...(planned ? ['the old primary is read-only: remove its data directory and make it a standby of the new one (standby create)'] : []),
    ...(reconciled === undefined ? [] : ['reconciled:', ...describeCounts(reconciled).map((line) => `  ${line}`)]),
    ...(report.reconcileFailure === undefined ? [] : [whatIsLeft(report)]),
  ])
}

function whatIsLeft({ region, reconcileFailure }: FailoverReport): string {
  return (
    `NOT reconciled (${reconcileFailure}): with DATABASE_URL, TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE=tidings-${region} of the new place, ` +
    `run tidings reconcile --since 1h`
  )
}

/** The second and third step home. @param from where the region is now */
export function describeWayHome(region: string, from: string): string {
  return lines([
    'the old primary is read-only, and nothing that it has is needed any more. Next:',
    `  1. stop it, and remove its data directory`,
    `  2. tidings region standby create --primary <url of the present primary> --data-dir <folder> --name ${region}, and start it`,
    `  3. start the processes of ${region} at home: they wait for its promotion`,
    `  4. tidings region failover ${region} --to ${region} --planned --primary <present primary> --standby <new standby>, and stop those at ${from}`,
  ])
}
