/** The regions of a drill with everything that runs in them. */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { EmbeddedPostgres } from '../../cli/embedded/postgres.ts'
import { freePort } from '../../cli/embedded/ports.ts'
import type { TemporalServerPrograms } from '../../cli/embedded/temporal-server-program.ts'
import { ensureGlobalNamespace, waitForNamespace } from '../../cli/regions/global-namespace.ts'
import { addRemoteCluster, openCluster } from '../../cli/regions/temporal-clusters.ts'
import type { Progress } from '../../cli/progress.ts'
import type { Cleanup } from '../../cli/stopping.ts'
import type { Region } from '../../domain/regions.ts'
import { startScript, type Service } from '../script.ts'
import { createNetwork, type Network, type Route } from './network.ts'
import { type DrillPlan } from './plan.ts'
import {
  createFolders,
  killPostgres,
  requireQuorum,
  startConfigurationLeader,
  startConfirming,
  startMessages,
  startRegionTemporal,
  startStandby,
  urlBy,
  type Folders,
  type RegionTemporal,
} from './servers.ts'

/** Those of one region: API and workers. */
export interface Processes {
  readonly api: Service
  readonly worker: Service
}

/** What runs for one region, and where. Parts are replaced when the region moves. */
export interface Place {
  readonly region: Region
  /** Where its API listens at home, and where it would at its peer. */
  readonly ports: { readonly home: number; readonly away: number }
  messages: EmbeddedPostgres
  temporal: RegionTemporal
  /** At the first peer, where there is one. */
  standby: EmbeddedPostgres | undefined
  /** Those that serve its traffic. */
  processes: Processes
  /** Those that wait for the standby to be promoted. */
  waiting: Processes | undefined
}

export interface World {
  readonly plan: DrillPlan
  readonly network: Network
  readonly folders: Folders
  readonly secret: string
  readonly cacheDir: string | undefined
  readonly programs: TemporalServerPrograms
  readonly places: ReadonlyMap<string, Place>
  /** Where clients of a region find its API; pointed elsewhere when it moves. */
  readonly apiRoutes: ReadonlyMap<string, Route>
  /** How the other regions reach the API of one. */
  readonly routesTo: (region: string) => readonly Route[]
  /** Members of the cluster for configuration, by region. */
  readonly configuration: Map<string, EmbeddedPostgres>
  /** Starts API and workers for a region. @param at the region whose machines they run on */
  startProcesses(region: string, at: string, databaseUrl: string): Promise<Processes>
  /** Rejects when one of the processes ends without having been asked to. */
  readonly died: Promise<never>
  /** A database of another region, as this one reaches it. */
  databaseBy(from: string, to: string, url: string): Promise<string>
}

export interface WorldOptions {
  readonly plan: DrillPlan
  readonly root: string
  readonly programs: TemporalServerPrograms
  readonly cacheDir: string | undefined
  /** Environment of the service's processes, over the drill's. */
  readonly settings?: Readonly<Record<string, string>>
}

/** Starts everything. What was started is stopped by `cleanup`. */
export async function startWorld(options: WorldOptions, cleanup: Cleanup, progress: Progress): Promise<World> {
  const { plan, root, programs, cacheDir } = options
  const folders = createFolders(root)
  const network = createNetwork(plan.distanceMs)
  cleanup.add(() => network.close())
  const configuration = await progress.step('starting the servers for configuration', () =>
    startConfiguration({ plan, folders, network, cacheDir }, cleanup),
  )
  const servers = new Map<string, Pick<Place, 'messages' | 'temporal'>>()
  for (const [i, { name }] of plan.regions.entries()) {
    servers.set(
      name,
      await progress.step(`starting Postgres and Temporal of ${name}`, async () => {
        const messages = startMessages(folders.of(name, 'postgres'))
        const temporal = startRegionTemporal(programs, folders.of(name, 'temporal'), { cluster: name, clusterVersion: i + 1 })
        return { messages: await messages, temporal: await temporal }
      }),
    )
  }
  const places = new Map<string, Place>()
  cleanup.add(() => stopPlaces(places, servers))
  await progress.step('pairing the Temporal clusters', () => pairAll(plan, network, servers))

  const addresses = await assignAddresses(plan, network)
  const secret = randomBytes(32).toString('base64url')
  const configurationUrls = await urlsOfConfiguration(plan, network, configuration)
  const { promise: died, reject: fail } = Promise.withResolvers<never>()
  died.catch(() => undefined)
  const start = async (region: string, at: string, databaseUrl: string): Promise<Processes> => {
    const env = {
      ...baseEnvironment(secret, configurationUrls.get(at)!),
      TIDINGS_REGION: region,
      TIDINGS_REGIONS_FILE: writeRegionsFile(folders, { plan, region, at, addresses }),
      TIDINGS_PORT: String(portOf(addresses, region, at)),
      TIDINGS_DATA_DIR: folders.of(at, `data-${region}`),
      DATABASE_URL: databaseUrl,
      TEMPORAL_ADDRESS: (places.get(at)?.temporal ?? servers.get(at)!.temporal).server.address,
      TEMPORAL_NAMESPACE: `tidings-${region}`,
      ...options.settings,
    }
    const logs = folders.of(at, 'logs')
    const run = (script: string, args: readonly string[], ready: string) => {
      const text = new RegExp(`^${ready}|^waiting: `, 'm')
      return startScript({ script, args, ready: text, env, logFile: join(logs, `${region}-${script.replace(/\W/g, '-')}.log`) })
    }
    const [api, worker] = await Promise.all([
      run('cli/api.ts', [], 'tidings ready'),
      run('cli/worker.ts', ['--role', 'all'], 'tidings worker ready'),
    ])
    for (const service of [api, worker]) service.died.catch(fail)
    return { api, worker }
  }
  const world: World = {
    ...{ plan, network, folders, secret, cacheDir, programs, places, configuration, died },
    apiRoutes: addresses.clients,
    routesTo: (region) => [...addresses.apis].filter(([key]) => key.endsWith(`>${region}`)).map(([, route]) => route),
    startProcesses: start,
    databaseBy: async (from, to, url) => urlBy(url, (await network.route(from, to, new URL(url).host)).address),
  }
  const open = async (region: Region): Promise<void> => {
    const { messages, temporal } = servers.get(region.name)!
    const processes = await start(region.name, region.name, messages.url)
    const ports = { home: addresses.ports.get(region.name)!, away: addresses.awayPorts.get(region.name)! }
    places.set(region.name, { region, ports, messages, temporal, standby: undefined, processes, waiting: undefined })
  }
  // The first makes the schema of what all share.
  const [first, ...others] = plan.regions
  await progress.step(`starting API and workers of ${first!.name}`, () => open(first!))
  await progress.step('starting API and workers of the others', () => Promise.all(others.map(open)))
  await startStandbys(world, progress)
  return world
}

interface Parts {
  readonly plan: DrillPlan
  readonly folders: Folders
  readonly network: Network
  readonly cacheDir: string | undefined
}

async function startConfiguration({ plan, folders, network, cacheDir }: Parts, cleanup: Cleanup): Promise<Map<string, EmbeddedPostgres>> {
  const { leader, confirming } = plan.configuration
  const members = new Map<string, EmbeddedPostgres>()
  cleanup.add(async () => void (await Promise.all([...members.values()].map((member) => member.stop()))))
  const first = await startConfigurationLeader(folders.of(leader, 'configuration'))
  members.set(leader, first)
  const { url } = first
  for (const name of confirming) {
    const route = await network.route(name, leader, new URL(url).host)
    members.set(name, await startConfirming(folders.of(name, 'configuration'), name, urlBy(url, route.address), cacheDir))
  }
  if (confirming.length > 0) await requireQuorum(first, confirming)
  return members
}

/** The members as each region reaches them. */
async function urlsOfConfiguration(
  { regions }: DrillPlan,
  network: Network,
  members: ReadonlyMap<string, EmbeddedPostgres>,
): Promise<Map<string, string>> {
  const byRegion = new Map<string, string>()
  for (const { name } of regions) {
    const urls: string[] = []
    for (const [at, { url }] of members)
      urls.push(at === name ? url : urlBy(url, (await network.route(name, at, new URL(url).host)).address))
    byRegion.set(name, urls.join(','))
  }
  return byRegion
}

async function pairAll({ regions }: DrillPlan, network: Network, servers: ReadonlyMap<string, Pick<Place, 'temporal'>>): Promise<void> {
  const addressOf = (name: string) => servers.get(name)!.temporal.server.address
  const told = new Set<string>()
  const tell = async (name: string, other: string): Promise<void> => {
    if (told.has(`${name}>${other}`)) return
    told.add(`${name}>${other}`)
    const route = await network.route(name, other, addressOf(other))
    const [cluster, remote] = await Promise.all([
      openCluster({ address: addressOf(name) }),
      openCluster({ address: addressOf(other), peerAddress: route.address }),
    ])
    await addRemoteCluster(cluster, remote).finally(() => Promise.all([cluster.close(), remote.close()]))
  }
  for (const { name, peers } of regions)
    for (const peer of peers)
      for (const [a, b] of [
        [name, peer],
        [peer, name],
      ] as const)
        await tell(a, b)
  for (const { name, peers } of regions) {
    const cluster = await openCluster({ address: addressOf(name) })
    const namespace = `tidings-${name}`
    await ensureGlobalNamespace(cluster, { namespace, clusters: [name, ...peers], activeCluster: name }).finally(() => cluster.close())
    for (const peer of peers) {
      const other = await openCluster({ address: addressOf(peer) })
      await waitForNamespace(other, namespace).finally(() => other.close())
    }
  }
}

interface Addresses {
  /** Of each region's API at home. */
  readonly ports: ReadonlyMap<string, number>
  /** Of its API at its peer. */
  readonly awayPorts: ReadonlyMap<string, number>
  /** `from>to`: how a region reaches the API of another. */
  readonly apis: ReadonlyMap<string, Route>
  /** How clients in a region reach its API. */
  readonly clients: ReadonlyMap<string, Route>
}

async function assignAddresses({ regions }: DrillPlan, network: Network): Promise<Addresses> {
  const ports = new Map<string, number>()
  const awayPorts = new Map<string, number>()
  const apis = new Map<string, Route>()
  const clients = new Map<string, Route>()
  const taken = new Set<number>()
  const take = async () => {
    let port = await freePort()
    while (taken.has(port)) port = await freePort()
    taken.add(port)
    return port
  }
  for (const { name } of regions) {
    ports.set(name, await take())
    awayPorts.set(name, await take())
  }
  for (const { name: to } of regions) {
    const address = `127.0.0.1:${ports.get(to)}`
    clients.set(to, await network.route(to, to, address))
    for (const { name: from } of regions) if (from !== to) apis.set(`${from}>${to}`, await network.route(from, to, address))
  }
  return { ports, awayPorts, apis, clients }
}

function portOf({ ports, awayPorts }: Addresses, region: string, at: string): number {
  return (region === at ? ports : awayPorts).get(region)!
}

/** The regions as one of them sees the others from the machines that it is on. */
function writeRegionsFile(
  folders: Folders,
  { plan, region, at, addresses }: { plan: DrillPlan; region: string; at: string; addresses: Addresses },
): string {
  const regions = plan.regions.map(({ name, zone, role, peers }) => {
    const address =
      name === region || name === at ? `127.0.0.1:${portOf(addresses, name, at)}` : addresses.apis.get(`${at}>${name}`)!.address
    return [name, { zone, role, peers, apiUrl: `http://${address}`, temporalAddress: '127.0.0.1:7233' }] as const
  })
  const pairs = plan.regions.flatMap(({ name }, i) => plan.regions.slice(i + 1).map((other) => [name, other.name] as const))
  const distancesMs = Object.fromEntries(pairs.map(([one, other]) => [`${one}|${other}`, plan.distanceMs(one, other)]))
  const file = join(folders.of(at), `regions-of-${region}.json`)
  writeFileSync(file, JSON.stringify({ regions: Object.fromEntries(regions), distancesMs }))
  return file
}

function baseEnvironment(secret: string, configurationUrls: string): Record<string, string | undefined> {
  return {
    ...process.env,
    NODE_TEST_CONTEXT: undefined,
    MALLOC_ARENA_MAX: '2',
    TIDINGS_ENV: 'production',
    TIDINGS_JWT_SECRET: secret,
    TIDINGS_ENCRYPTION_KEY: `${secret}, for encryption`,
    TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8',
    TIDINGS_RATE_LIMIT: '0',
    // What is busy is the machine that all regions share, of which no process knows.
    TIDINGS_GROUP_LINGER_MS: '250',
    TIDINGS_GROUP_MAX: '100',
    TIDINGS_REGION_FORWARDING: 'true',
    TIDINGS_LOG_LEVEL: 'info',
    CONFIG_DATABASE_URLS: configurationUrls,
  }
}

/** Copies of each region's messages at its first peer, with processes that wait there. */
async function startStandbys(world: World, progress: Progress): Promise<void> {
  for (const place of world.places.values()) {
    const { name, role, peers } = place.region
    const [peer] = peers
    if (peer === undefined || role === 'standby') continue
    await progress.step(`copying ${name} to ${peer}`, async () => {
      const primaryUrl = await world.databaseBy(peer, name, place.messages.url)
      place.standby = await startStandby(world.folders.of(peer, `standby-of-${name}`), peer, primaryUrl, world.cacheDir)
    })
  }
  const { home, peer } = world.plan
  await progress.step(`starting what waits at ${peer} for ${home}`, () =>
    startWaiting(world, home, peer, world.places.get(home)!.standby!.url),
  )
}

/** Starts processes for a region on a standby of it. */
export async function startWaiting(world: World, name: string, at: string, standbyUrl: string): Promise<void> {
  const place = world.places.get(name)!
  place.waiting = await world.startProcesses(name, at, standbyUrl)
}

async function stopPlaces(
  places: ReadonlyMap<string, Place>,
  servers: ReadonlyMap<string, Pick<Place, 'messages' | 'temporal'>>,
): Promise<void> {
  const processes = [...places.values()].flatMap((place) => [place.processes, place.waiting])
  await Promise.all(processes.flatMap((one) => (one === undefined ? [] : [one.api.stop(), one.worker.stop()])))
  // What has no place yet was started as well.
  const all = [...servers].map(([name, started]) => places.get(name) ?? { ...started, standby: undefined })
  await Promise.all(all.map(({ temporal }) => temporal.server.stop()))
  const databases = all.flatMap(({ messages, standby, temporal }) => [
    messages,
    temporal.postgres,
    ...(standby === undefined ? [] : [standby]),
  ])
  await Promise.all(databases.map((server) => server.stop()))
}

/** `kill -9` of everything that a region has. */
export async function killRegion(world: World, name: string): Promise<void> {
  const { processes, messages, temporal } = world.places.get(name)!
  const member = name === world.plan.configuration.leader ? undefined : world.configuration.get(name)
  process.kill(temporal.server.pid, 'SIGKILL')
  await Promise.all([
    ...[processes.api.kill(), processes.worker.kill(), temporal.server.ended],
    ...[messages, temporal.postgres, ...(member === undefined ? [] : [member])].map(killPostgres),
  ])
}
