/** What is done to the regions of a drill: cut off, lost, taken over, back again, moved home. */
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from '@temporalio/client'
import { deliverUnreplicated } from '../../cli/regions/failback.ts'
import { failOverRegion, type FailoverReport } from '../../cli/regions/failover.ts'
import { describeReplication } from '../../cli/regions/global-namespace.ts'
import { openCluster, type Cluster } from '../../cli/regions/temporal-clusters.ts'
import type { UnreplicatedReport } from '../../cli/regions/unreplicated.ts'
import type { Progress } from '../../cli/progress.ts'
import { createRegions, type Regions } from '../../domain/regions.ts'
import { createPool } from '../../storage/pool.ts'
import { createOpenWorkflows } from '../../workers/open-workflows.ts'
import { removeCluster, restartConfirming, startMessages, startRegionTemporal, startStandby } from './servers.ts'
import { killRegion, startWaiting, type Place, type Processes, type World } from './world.ts'

/** The region is given up after so many health checks in a row that failed. */
const FAILED_CHECKS = 3
const CHECK_EVERY_MS = 500
const CHECK_TIMEOUT_MS = 1000
const READY_TIMEOUT_MS = 60_000
const LOOK_EVERY_MS = 50
const DRAIN_MS = 60_000
/** What is reconciled and compared: all of the drill. */
const SINCE_MS = 3_600_000
const PARTITIONS = 4

/** The regions as an operator at the peer sees them. */
async function regionsOf(world: World): Promise<Regions> {
  const { plan, places, network } = world
  const all = []
  for (const { region, temporal, ports } of places.values()) {
    const { address } = temporal.server
    const isHere = region.name === plan.peer
    const temporalAddress = isHere ? address : (await network.route(plan.peer, region.name, address)).address
    all.push({ ...region, temporalAddress, apiUrl: `http://127.0.0.1:${ports.home}` })
  }
  return createRegions(all, plan.peer, {})
}

/** Cuts the line between two regions for a while. */
export async function split(world: World, forMs: number): Promise<void> {
  const [one, other] = world.plan.split
  await world.network.cut(one, other)
  await delay(forMs)
  await world.network.mend(one, other)
}

/** Kills the region with everything in it. */
export async function lose(world: World): Promise<void> {
  await killRegion(world, world.plan.home)
}

/** Asks as a health check does whether the region is there, and returns when it is not. */
export async function notice(world: World): Promise<void> {
  const { ports } = world.places.get(world.plan.home)!
  for (let failed = 0; failed < FAILED_CHECKS;) {
    const isWell = await fetch(`http://127.0.0.1:${ports.home}/health`, { signal: AbortSignal.timeout(CHECK_TIMEOUT_MS) }).then(
      ({ status }) => status === 200,
      () => false,
    )
    failed = isWell ? 0 : failed + 1
    if (failed < FAILED_CHECKS) await delay(CHECK_EVERY_MS)
  }
}

/** The peer takes the region over. @returns what was done, and ids of the messages that the new primary had when it was promoted */
export async function takeOver(world: World, progress: Progress): Promise<{ report: FailoverReport; promoted: Set<string> }> {
  const { home, peer } = world.plan
  const place = world.places.get(home)!
  const startedAtMs = Date.now()
  const failover = failOverRegion({
    ...{ regions: await regionsOf(world), region: home, to: peer, standbyUrl: place.standby!.url, progress },
    ...{ since: new Date(startedAtMs - SINCE_MS), partitions: PARTITIONS },
  })
  // What waits goes to work as soon as the standby is promoted, while what is undelivered is looked for.
  const [report] = await Promise.all([failover, serveFrom(world, place, peer, place.waiting!)])
  const promoted = await messagesBefore(place.standby!.url, promotedAt(report))
  return { report, promoted }
}

function promotedAt({ steps }: FailoverReport): Date {
  return new Date(steps.find(({ step }) => step === 'promote')!.at)
}

/** Has clients and other regions find a region where it is now. */
async function serveFrom(world: World, place: Place, at: string, processes: Processes): Promise<void> {
  await workingOf(processes)
  place.processes = processes
  place.waiting = undefined
  const { name } = place.region
  const address = `127.0.0.1:${at === name ? place.ports.home : place.ports.away}`
  const routes = [world.apiRoutes.get(name)!, ...world.routesTo(name)]
  await Promise.all(routes.map((route) => world.network.point(route, at, address)))
}

async function workingOf({ api, worker }: Processes): Promise<void> {
  const endMs = performance.now() + READY_TIMEOUT_MS
  const isReady = () => /^tidings ready/m.test(api.said()) && /^tidings worker ready/m.test(worker.said())
  while (!isReady()) {
    if (performance.now() > endMs)
      throw new Error(`what waited has not started:\n${api.said().slice(-2000)}\n${worker.said().slice(-2000)}`)
    await Promise.race([delay(LOOK_EVERY_MS), api.died, worker.died])
  }
}

async function messagesBefore(url: string, at: Date): Promise<Set<string>> {
  const pool = createPool(url, 1)
  try {
    const { rows } = await pool.query<{ id: string }>('SELECT id FROM message WHERE created_at < $1', [at])
    return new Set(rows.map(({ id }) => id))
  } finally {
    await pool.end()
  }
}

/** The lost region's servers come back, without its processes: what it alone had accepted is delivered. */
export async function bringBack(world: World, progress: Progress): Promise<UnreplicatedReport> {
  const { home, peer } = world.plan
  const place = world.places.get(home)!
  await restoreMember(world, home)
  // It must not follow configuration: the region that took over does, by the same name.
  const alone = { max_logical_replication_workers: '0' }
  const old = await startMessages(world.folders.of(home, 'postgres'), 0, alone)
  place.messages = old
  const version = world.plan.regions.findIndex(({ name }) => name === home) + 1
  place.temporal = await startRegionTemporal(world.programs, world.folders.of(home, 'temporal'), { cluster: home, clusterVersion: version })
  const cluster = await openCluster({ address: world.places.get(peer)!.temporal.server.address })
  try {
    const client = new Client({ connection: cluster.connection, namespace: `tidings-${home}` })
    return await deliverUnreplicated({
      ...{ oldUrl: old.url, newUrl: place.standby!.url, sinceMs: Date.now() - SINCE_MS },
      ...{ openWorkflows: createOpenWorkflows(client), progress },
    })
  } finally {
    await cluster.close()
  }
}

/** The region's member of the cluster for configuration confirms again. */
async function restoreMember({ configuration, folders, plan }: World, region: string): Promise<void> {
  const member = configuration.get(region)
  if (member === undefined || region === plan.configuration.leader) return
  configuration.set(region, await restartConfirming(folders.of(region, 'configuration'), member.port))
}

/** Moves the region home: what was its standby is its primary, and a new standby is made where it was lost. */
export async function moveHome(world: World, progress: Progress): Promise<FailoverReport> {
  const { home, peer } = world.plan
  const place = world.places.get(home)!
  const present = place.standby!
  await place.messages.stop()
  const dataDir = world.folders.of(home, 'postgres')
  removeCluster(dataDir)
  const primaryUrl = await world.databaseBy(home, peer, present.url)
  const standby = await progress.step(`copying ${home} back`, () => startStandby(dataDir, home, primaryUrl, world.cacheDir))
  place.messages = standby
  await startWaiting(world, home, home, standby.url)
  await untilPassive(await openCluster({ address: place.temporal.server.address }), `tidings-${home}`, peer)
  const away = place.processes
  const stopping = Promise.all([away.worker.stop(), away.api.stop()])
  const report = await failOverRegion({
    ...{ regions: await regionsOf(world), region: home, to: home, standbyUrl: standby.url, primaryUrl: present.url, progress },
    ...{ planned: { drainMs: DRAIN_MS }, since: new Date(), partitions: PARTITIONS },
  })
  await stopping
  await serveFrom(world, place, home, place.waiting!)
  return report
}

/** A cluster that returns hears of the failover after a second or two. */
async function untilPassive(cluster: Cluster, namespace: string, active: string): Promise<void> {
  try {
    const endMs = performance.now() + READY_TIMEOUT_MS
    while ((await describeReplication(cluster, namespace)).activeCluster !== active) {
      if (performance.now() > endMs) throw new Error(`${cluster.name} has not heard that ${namespace} is active at ${active}`)
      await delay(LOOK_EVERY_MS)
    }
  } finally {
    await cluster.close()
  }
}
