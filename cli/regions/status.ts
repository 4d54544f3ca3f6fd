/** How all regions are, asked side by side; what does not answer within some seconds is told as that. */
import { setTimeout as delay } from 'node:timers/promises'
import type { TemporalAccess } from '../../config/temporal.ts'
import type { Region, Regions } from '../../domain/regions.ts'
import type { ReplicationState } from '../../storage/replication.ts'
import { CommandFailure, reasonOf } from '../failure.ts'
import { describeReplication } from './global-namespace.ts'
import { namespaceOf, openRegionCluster } from './region-cluster.ts'
import { lagOf } from './standby.ts'
import { remoteClusters, type Cluster } from './temporal-clusters.ts'

const WITHIN_MS = 5000
const GRPC_NOT_FOUND = 5

/** What was found, or why it was not. */
type Asked<T> = ({ readonly answers: true } & T) | { readonly answers: false; readonly reason: string }

interface ApiStatus {
  /** Of `GET /health`. */
  readonly status: number
  /** As it calls itself. */
  readonly name: string
  readonly role: string
}

interface TemporalStatus {
  readonly version: string
  /** Clusters that it was told of, and connects to. */
  readonly peers: readonly string[]
}

/** A namespace as one cluster has it. */
export interface NamespaceAt {
  readonly cluster: string
  readonly activeCluster: string
  readonly clusters: readonly string[]
  readonly failoverVersion: number
  /** Workflows that run; approximate. */
  readonly running: number
}

export interface RegionState {
  readonly name: string
  readonly role: Region['role']
  readonly zone: string | null
  readonly api: Asked<ApiStatus>
  readonly temporal: Asked<TemporalStatus>
  /** Undefined where its address was not given. */
  readonly database: Asked<ReplicationState> | undefined
  readonly namespace: string
  readonly at: readonly NamespaceAt[]
}

export interface RegionsStatus {
  readonly regions: readonly RegionState[]
  /** What is not as it should be, a line each; none: all regions answer, and each namespace has one active cluster. */
  readonly problems: readonly string[]
}

export interface StatusRequest {
  readonly regions: Regions
  /** Addresses of Postgres by the region's name. */
  readonly databases?: Readonly<Record<string, string>>
  readonly access?: TemporalAccess | undefined
  /** For each question. */
  readonly withinMs?: number
}

/** Asks every region for its API and its Temporal cluster, every cluster for every namespace, and the databases named. Never throws for what does not answer. */
export async function regionStatus({ regions, databases = {}, access, withinMs = WITHIN_MS }: StatusRequest): Promise<RegionsStatus> {
  const ask = <T extends object>(work: Promise<T>) => asked(withinMs, work)
  const [apis, clusters, states] = await Promise.all([
    Promise.all(regions.all.map((region) => ask(askApi(region, withinMs)))),
    Promise.all(regions.all.map(({ name }) => openWithin(withinMs, openRegionCluster(regions, name, access)))),
    Promise.all(regions.all.map(async ({ name }) => (databases[name] === undefined ? undefined : await ask(lagOf(databases[name]))))),
  ])
  const open = clusters.flatMap((one) => (one instanceof Error ? [] : [one]))
  try {
    const temporals = await Promise.all(clusters.map((one) => ask(one instanceof Error ? Promise.reject(one) : askTemporal(one))))
    const places = await Promise.all(
      regions.all.map(({ name }) => Promise.all(open.map((cluster) => askNamespace(cluster, namespaceOf(name), withinMs)))),
    )
    const all = regions.all.map(({ name, role, zone }, i): RegionState => {
      const at = places[i]!.filter((one) => one !== undefined)
      return { name, role, zone, api: apis[i]!, temporal: temporals[i]!, database: states[i], namespace: namespaceOf(name), at }
    })
    return { regions: all, problems: problemsOf(all) }
  } finally {
    await Promise.all(open.map((cluster) => cluster.close()))
  }
}

const late = (withinMs: number) => delay(withinMs, new Error(`no answer within ${withinMs / 1000} s`), { ref: false })

async function asked<T extends object>(withinMs: number, work: Promise<T>): Promise<Asked<T>> {
  try {
    const answer = await Promise.race([work, late(withinMs)])
    return answer instanceof Error ? { answers: false, reason: answer.message } : { answers: true, ...answer }
  } catch (error) {
    return { answers: false, reason: reasonOf(error) }
  }
}

/** One that opens later is closed. */
async function openWithin(withinMs: number, opening: Promise<Cluster>): Promise<Cluster | Error> {
  try {
    const answer = await Promise.race([opening, late(withinMs)])
    if (answer instanceof Error)
      opening.then(
        (cluster) => cluster.close(),
        () => undefined,
      )
    return answer
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

async function askApi({ apiUrl }: Region, withinMs: number): Promise<ApiStatus> {
  const answer = await fetch(`${apiUrl}/health`, { signal: AbortSignal.timeout(withinMs) }).catch((cause: unknown) => {
    const { cause: inner } = cause as { cause?: unknown }
    throw new Error(`${apiUrl} does not answer (${reasonOf(inner ?? cause)})`, { cause })
  })
  const said = (await answer.json().catch(() => ({}))) as { region?: unknown; role?: unknown }
  return { status: answer.status, name: text(said.region), role: text(said.role) }
}

const text = (value: unknown) => (typeof value === 'string' ? value : '')

async function askTemporal(cluster: Cluster): Promise<TemporalStatus> {
  const peers = (await remoteClusters(cluster)).filter(({ isConnected }) => isConnected).map(({ name }) => name)
  return { version: cluster.serverVersion, peers: peers.sort() }
}

/** Undefined where the cluster does not have it, or did not say. */
async function askNamespace(cluster: Cluster, namespace: string, withinMs: number): Promise<NamespaceAt | undefined> {
  try {
    const found = await Promise.race([describeReplication(cluster, namespace), late(withinMs)])
    if (found instanceof Error) throw found
    const { activeCluster, clusters, failoverVersion, running } = found
    return { cluster: cluster.name, activeCluster: activeCluster || cluster.name, clusters, failoverVersion, running }
  } catch (error) {
    const { cause } = error as { cause?: { code?: unknown } }
    if (error instanceof CommandFailure && cause?.code === GRPC_NOT_FOUND) return undefined
    return { cluster: cluster.name, activeCluster: '', clusters: [], failoverVersion: 0, running: 0 }
  }
}

function problemsOf(all: readonly RegionState[]): string[] {
  return all.flatMap((region) => [...problemsOfServers(region), ...problemsOfNamespace(region, all)])
}

function problemsOfServers({ name, role, api, temporal, database }: RegionState): string[] {
  const problems: string[] = []
  if (!api.answers) problems.push(`${name}: ${api.reason}`)
  else if (api.name !== name) problems.push(`${name}: its API calls itself ${JSON.stringify(api.name)}`)
  // A standby takes no traffic, and says so with 503.
  else if (api.status !== 200 && role === 'active') problems.push(`${name}: its API takes no traffic (${api.status})`)
  if (!temporal.answers) problems.push(`${name}: ${temporal.reason}`)
  if (database?.answers === false) problems.push(`${name}: ${database.reason}`)
  return problems
}

function problemsOfNamespace({ namespace, at }: RegionState, all: readonly RegionState[]): string[] {
  if (at.length === 0) return [`${namespace}: no cluster has it`]
  const silent = at.filter((one) => one.activeCluster === '').map((one) => `${namespace}: ${one.cluster} does not describe it`)
  if (silent.length > 0) return silent
  if (new Set(at.map((one) => `${one.activeCluster} ${one.failoverVersion}`)).size > 1) {
    return [`${namespace}: ${at.map((one) => `${one.cluster} says ${one.activeCluster}`).join(', ')}`]
  }
  const { activeCluster, clusters } = at[0]!
  const answering = new Set(all.filter(({ temporal }) => temporal.answers).map(({ name }) => name))
  const absent = clusters.filter((name) => answering.has(name) && !at.some((one) => one.cluster === name))
  return [
    ...(at.some((one) => one.cluster === activeCluster)
      ? []
      : [`${namespace}: is active at ${activeCluster}, which does not answer or does not have it`]),
    ...absent.map((name) => `${namespace}: has not reached ${name}`),
  ]
}
