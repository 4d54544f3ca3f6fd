/** Takes a region over at another: Temporal's namespace first, then Postgres, so that what waits for the promotion finds both. */
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from '@temporalio/client'
import type { TemporalAccess } from '../../config/temporal.ts'
import type { ReconcileCounts } from '../../domain/reconcile.ts'
import type { Regions } from '../../domain/regions.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { newestMessageAt, readDatabaseServer, type DatabaseServer } from '../../storage/takeover.ts'
import { CommandFailure, reasonOf } from '../failure.ts'
import { silentProgress, type Progress } from '../progress.ts'
import { countsOf, runReconcile } from '../reconcile/run.ts'
import { fence, liftFence, waitUntilDrained, waitUntilReplayed } from './fence.ts'
import { describeReplication, failOver, handOver } from './global-namespace.ts'
import { namespaceOf, openRegionCluster } from './region-cluster.ts'
import { lagOf, promote } from './standby.ts'
import type { Cluster } from './temporal-clusters.ts'

const HEALTH_TIMEOUT_MS = 3000
// A machine that has just lost another may be busy.
const CONNECT_TIMEOUT_MS = 15_000
/** Of a primary that is expected to be gone. */
const GONE_TIMEOUT_MS = 3000
/** A cluster forwards calls to the one that was active until its processes have heard of the failover. */
const RECONCILE_TRIES_MS = 30_000
const RETRY_MS = 1000

export interface FailoverRequest {
  /** Of the regions file. */
  readonly regions: Regions
  /** Whose messages and workflows are taken over. */
  readonly region: string
  /** Where they go: a peer of the region, or, to move them home, the region itself. */
  readonly to: string
  /** `postgres://` of the region's standby there, with a user that may promote it. */
  readonly standbyUrl: string
  /** Of the region's primary. A planned failover needs it; after a disaster it is looked at: nobody may answer there. */
  readonly primaryUrl?: string | undefined
  /** Set: both sides answer, nothing is lost or repeated. So long have the region's processes to end, and then the standby to apply all. */
  readonly planned?: { readonly drainMs: number } | undefined
  /** Goes on where the region, or connections to its primary, are still there. */
  readonly force?: boolean
  /** Makes sure that it can be done, and changes nothing. */
  readonly dryRun?: boolean
  /** After a disaster: what was accepted since then is reconciled. */
  readonly since: Date
  /** `TIDINGS_PARTITIONS` of the region's processes. */
  readonly partitions: number
  /** Of all Temporal clusters; absent: they take everybody, without TLS. */
  readonly access?: TemporalAccess | undefined
  readonly progress?: Progress
}

export type FailoverStep = 'check' | 'drain' | 'fence' | 'replay' | 'temporal' | 'promote' | 'reconcile'

export interface FailoverReport {
  readonly region: string
  readonly to: string
  readonly planned: boolean
  readonly dryRun: boolean
  /** In their order: when each began (ISO 8601), and how long it took. */
  readonly steps: readonly { readonly step: FailoverStep; readonly at: string; readonly ms: number }[]
  /** Of the standby, before anything was done: received and not applied, and since its last transaction. */
  readonly lag: { readonly connected: boolean; readonly bytes: number; readonly ms: number }
  /** Of the namespace; undefined in a dry run. */
  readonly failoverVersion: number | undefined
  /** What was started again. Undefined where nothing had to be: planned, or a dry run. */
  readonly reconciled: ReconcileCounts | undefined
  /** Why what is undelivered could not be reconciled: it is to be done by hand, everything else is done. */
  readonly reconcileFailure: string | undefined
}

interface Run {
  readonly request: FailoverRequest
  readonly namespace: string
  readonly to: Cluster
  readonly standby: Pool
  readonly primary: Pool | undefined
  readonly progress: Progress
  step<T>(step: FailoverStep, text: string, work: () => Promise<T>): Promise<T>
}

/**
 * Makes another region's Temporal cluster the active one of a region's namespace, promotes the standby there, and reconciles.
 * Processes that wait for the promotion (`tidings api`, `tidings worker`) go on from there.
 * @throws {CommandFailure} `failover_refused` where nothing was done; `failover_failed`, `temporal_failed` or
 * `postgres_failed` saying where things are
 */
export async function failOverRegion(request: FailoverRequest): Promise<FailoverReport> {
  const { regions, region, to, access, progress = silentProgress } = request
  requirePeer(request)
  const steps: { step: FailoverStep; at: string; ms: number }[] = []
  const cluster = await openRegionCluster(regions, to, access)
  const standby = createPool(request.standbyUrl, 4, { connectMs: CONNECT_TIMEOUT_MS })
  const connectMs = request.planned === undefined ? GONE_TIMEOUT_MS : CONNECT_TIMEOUT_MS
  const primary = request.primaryUrl === undefined ? undefined : createPool(request.primaryUrl, 1, { connectMs })
  const run: Run = {
    ...{ request, namespace: namespaceOf(region), to: cluster, standby, primary, progress },
    async step(step, text, work) {
      const at = new Date().toISOString()
      const since = performance.now()
      try {
        return await progress.step(text, work)
      } finally {
        steps.push({ step, at, ms: Math.round(performance.now() - since) })
      }
    },
  }
  try {
    const lag = await run.step('check', `looking at ${to} and the standby`, () => check(run))
    const done = request.dryRun === true ? undefined : await (request.planned === undefined ? afterDisaster(run) : asPlanned(run))
    const { planned, dryRun = false } = request
    const none = { failoverVersion: undefined, reconciled: undefined, reconcileFailure: undefined }
    return { region, to, planned: planned !== undefined, dryRun, steps, lag, ...none, ...done }
  } finally {
    await Promise.all([cluster.close(), standby.end(), primary?.end()])
  }
}

function refuse(text: string): never {
  throw new CommandFailure('failover_refused', text)
}

function requirePeer({ regions, region, to, planned, primaryUrl }: FailoverRequest): void {
  const { peers } = regions.get(region)
  if (to !== region && !peers.includes(to)) {
    refuse(`${to} is no peer of ${region}: its data is replicated to ${peers.length === 0 ? 'no region' : peers.join(', ')}`)
  }
  if (planned !== undefined && primaryUrl === undefined) refuse('a planned failover needs --primary, the region’s present primary')
}

/** What must hold before anything is changed. @returns how far behind the standby is */
async function check(run: Run): Promise<FailoverReport['lag']> {
  const { request, namespace, to, progress } = run
  const found = await describeReplication(to, namespace)
  if (!found.isGlobal || !found.clusters.includes(to.name)) {
    refuse(`the namespace ${namespace} is not replicated to ${to.name}: tidings region add ${request.region}`)
  }
  const standby = await lookAt(run.standby, request.standbyUrl)
  if (!standby.isStandby) {
    const isDone = found.activeCluster === to.name
    const done = `${namespace} is active at ${to.name} already: what may be left is tidings reconcile --since …`
    refuse(`${hostOf(request.standbyUrl)} is no standby, it is a primary${isDone ? `; ${done}` : ''}`)
  }
  if (request.planned === undefined) await requireLost(run)
  else await requireBoth(run, standby)
  const { connected, bytes, ms } = await lagOf(request.standbyUrl)
  const heard = connected ? 'hears of its primary' : `has applied its last transaction ${Math.round(ms)} ms ago`
  progress.say(`the standby ${heard}, ${bytes} bytes received and not applied; ${namespace} is active at ${found.activeCluster}`)
  return { connected, bytes, ms }
}

const hostOf = (url: string) => new URL(url).host

async function lookAt(pool: Pool, url: string): Promise<DatabaseServer> {
  try {
    return await readDatabaseServer(pool)
  } catch (cause) {
    throw new CommandFailure('postgres_failed', `Postgres at ${hostOf(url)} does not answer as it should: ${reasonOf(cause)}`, { cause })
  }
}

/** Two halves that both accept would diverge. */
async function requireLost({ request, primary, progress }: Run): Promise<void> {
  const { regions, region, force, primaryUrl } = request
  const isAlive = (what: string) => {
    const why = `${what}: two active halves would diverge`
    if (force !== true) refuse(`${why}. Stop the region first, or go on with --force; --planned moves it without a loss`)
    progress.say(`${why}; going on (--force)`)
  }
  const { apiUrl } = regions.get(region)
  if (await isHealthy(apiUrl)) isAlive(`the API of ${region} answers at ${apiUrl}/health`)
  if (primary === undefined || primaryUrl === undefined) return
  const answers = await primary.query('SELECT').then(
    () => true,
    () => false,
  )
  if (answers) isAlive(`the old primary takes connections at ${hostOf(primaryUrl)}`)
}

async function isHealthy(apiUrl: string): Promise<boolean> {
  try {
    return (await fetch(`${apiUrl}/health`, { signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) })).status === 200
  } catch {
    return false
  }
}

async function requireBoth({ request, primary }: Run, standby: DatabaseServer): Promise<void> {
  const url = request.primaryUrl!
  const found = await lookAt(primary!, url)
  if (found.isStandby) refuse(`${hostOf(url)} is a standby: --primary names the present primary`)
  if (found.systemId !== standby.systemId) refuse(`${hostOf(request.standbyUrl)} is no standby of ${hostOf(url)}: it is of another cluster`)
  if (!standby.isReceiving) refuse(`the standby ${hostOf(request.standbyUrl)} is not connected to its primary`)
}

type Done = Pick<FailoverReport, 'failoverVersion' | 'reconciled' | 'reconcileFailure'>

async function afterDisaster(run: Run): Promise<Done> {
  const { namespace, to, request } = run
  const { failoverVersion } = await run.step('temporal', `making ${to.name} active for ${namespace}`, () => failOver(to, namespace))
  // What is accepted from now on is under way. The clock of the region that was lost may have been ahead.
  const newest = await newestMessageAt(run.standby)
  const until = new Date(Math.max(Date.now(), (newest?.getTime() ?? 0) + 1))
  await stating(
    `${namespace} is active at ${to.name}; tidings region standby lag --url … says whether the standby is promoted, standby promote does it`,
    () => run.step('promote', `promoting ${hostOf(request.standbyUrl)}`, () => promoteOpen(run)),
  )
  try {
    const reconciled = await run.step('reconcile', 'reconciling what is undelivered', () => reconcile(run, until))
    return { failoverVersion, reconciled, reconcileFailure: undefined }
  } catch (cause) {
    return { failoverVersion, reconciled: undefined, reconcileFailure: reasonOf(cause) }
  }
}

async function promoteOpen({ request, standby }: Run): Promise<void> {
  await promote(request.standbyUrl)
  // A copy of a server that was fenced is fenced, and a primary that hands over receives no configuration.
  await liftFence(standby)
}

async function reconcile({ request, namespace, to, standby, progress }: Run, until: Date): Promise<ReconcileCounts> {
  const client = new Client({ connection: to.connection, namespace })
  const wanted = { since: request.since.toISOString(), until: until.toISOString(), changed: false, dryRun: false }
  const endMs = performance.now() + RECONCILE_TRIES_MS
  for (;;) {
    try {
      return countsOf(await runReconcile({ client, pool: standby, partitions: request.partitions, request: wanted, progress }))
    } catch (cause) {
      if (performance.now() > endMs) throw cause
      progress.say(`again in a second: ${reasonOf(cause)}`)
      await delay(RETRY_MS)
    }
  }
}

async function asPlanned(run: Run): Promise<Done> {
  const { request, namespace, to, progress } = run
  const primary = run.primary!
  const from = await openActive(run)
  try {
    const drainMs = request.planned!.drainMs
    const drained = () => waitUntilDrained(primary, drainMs, request.force === true, progress)
    await run.step('drain', 'waiting until no process is connected to the primary', drained)
    let isHandedOver = false
    try {
      await run.step('fence', 'making the primary read-only', () => fence(primary))
      await run.step('replay', 'waiting until the standby has everything', () => waitUntilReplayed(primary, run.standby, drainMs))
      const { failoverVersion } = await run.step('temporal', `handing ${namespace} over to ${to.name}`, () => handOver(from, to, namespace))
      isHandedOver = true
      await run.step('promote', `promoting ${hostOf(request.standbyUrl)}`, () => promoteOpen(run))
      return { failoverVersion, reconciled: undefined, reconcileFailure: undefined }
    } catch (cause) {
      throw await undone(run, isHandedOver, cause)
    }
  } finally {
    await from.close()
  }
}

/** The cluster at which the namespace is active. */
async function openActive({ request, namespace, to }: Run): Promise<Cluster> {
  const { activeCluster } = await describeReplication(to, namespace)
  if (!request.regions.has(activeCluster)) refuse(`${namespace} is active at ${activeCluster}, which the regions file does not name`)
  return openRegionCluster(request.regions, activeCluster, request.access)
}

/** Lets the primary write again where the standby is one still, so that the region can go on where it was. */
async function undone({ namespace, to, primary, standby }: Run, isHandedOver: boolean, cause: unknown): Promise<CommandFailure> {
  const where = isHandedOver ? `${namespace} is active at ${to.name}` : `${namespace} is where it was`
  const fail = (text: string) => new CommandFailure('failover_failed', `${reasonOf(cause)}. ${text}`, { cause })
  const isStandby = await readDatabaseServer(standby).then(
    (server) => server.isStandby,
    () => undefined,
  )
  if (isStandby !== true) {
    const what = isStandby === false ? 'the standby has been promoted' : 'it is not known whether the standby has been promoted'
    return fail(`${where}, ${what}: the old primary stays read-only`)
  }
  try {
    await liftFence(primary!)
  } catch (error) {
    return fail(`${where}; the primary is read-only still (${reasonOf(error)}): ALTER SYSTEM RESET default_transaction_read_only there`)
  }
  return fail(`${where}, the primary takes writes again: start the region’s processes again, they work there`)
}

/** Says where things are when `work` fails. */
async function stating<T>(where: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    throw new CommandFailure('failover_failed', `${reasonOf(cause)}. ${where}`, { cause })
  }
}
