import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { parse } from 'yaml'
import { readConfig, VARIABLES } from '../../config/index.ts'
import {
  COMPOSE_FOLDER,
  COMPOSE_PLACES,
  EXAMPLE,
  noCompose as skip,
  placesOf,
  REGIONS_FOLDER,
  regionsOf,
  resolveCompose,
  SECRETS,
  TEMPLATE,
  templateVariables,
  type ComposeProject,
  type ComposeService,
} from './regions.ts'

const REGIONS_FILE = join(COMPOSE_FOLDER, 'regions.json')
const PROCESSES = ['api', 'dispatcher', 'delivery-fast', 'delivery-slow']
const JOBS = ['postgres-copy', 'temporal-schema', 'region']
const JOINING = 'regions'

const projects = new Map<string, ComposeProject>()
before(async () => {
  if (skip !== false) return
  for (const place of COMPOSE_PLACES) projects.set(place, await resolveCompose(place))
})

const projectOf = (place: string): ComposeProject => projects.get(place)!
const serviceOf = (place: string, name: string): ComposeService => {
  const service = projectOf(place).services[name]
  assert.ok(service, `${place}: ${name}`)
  return service
}
const four = () => [...projects].filter(([place]) => place !== 'one')

/** A path of the container, on this machine. */
function mounted(service: ComposeService, path: string): string {
  const volume = service.volumes?.find(({ target }) => target === path)
  assert.ok(volume, path)
  return volume.source
}

test('the regions are those of config/regions.json, at other addresses', () => {
  const read = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as { regions: Record<string, object>; distancesMs: object }
  const [example, own] = [read(EXAMPLE), read(REGIONS_FILE)]
  assert.deepEqual(own.distancesMs, example.distancesMs)
  const without = (regions: Record<string, object>) =>
    Object.entries(regions).map(([name, region]) => [name, { ...region, apiUrl: '', temporalAddress: '' }])
  assert.deepEqual(without(own.regions), without(example.regions))
})

test('there is a place for one region, for each of the four, and for each active one at its peers', () => {
  assert.deepEqual(COMPOSE_PLACES, ['one', ...placesOf(REGIONS_FILE).map(({ name }) => name)].sort())
})

for (const place of COMPOSE_PLACES) {
  test(`${place}: images are pinned, capabilities dropped, and every server has a health check`, { skip }, () => {
    for (const [name, service] of Object.entries(projectOf(place).services)) {
      assert.match(service.image, /^[a-z0-9/.-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?$/, name)
      assert.deepEqual(service.cap_drop, ['ALL'], name)
      if (name !== 'temporal-ui') assert.equal(service.read_only, true, name)
      const unchecked = service.healthcheck === undefined || service.healthcheck.disable === true
      assert.equal(unchecked, [...JOBS, ...PROCESSES.slice(1)].includes(name), name)
      for (const { host_ip: ip } of service.ports ?? []) assert.equal(ip, '127.0.0.1', name)
    }
  })

  test(`${place}: what is mounted and built from exists`, { skip }, () => {
    const { services, volumes = {} } = projectOf(place)
    for (const [name, { volumes: mounts = [], build }] of Object.entries(services)) {
      for (const { type, source } of mounts) assert.ok(type === 'bind' ? existsSync(source) : source in volumes, `${name}: ${source}`)
      if (build !== undefined) assert.ok(existsSync(join(build.context, 'Dockerfile')), name)
    }
  })

  test(`${place}: processes have variables that the configuration takes, and the Temporal and Postgres that are meant`, { skip }, () => {
    const meant = placesOf(REGIONS_FILE).find(({ name }) => name === place) ?? { name: 'us-east', region: 'us-east', peer: undefined }
    for (const name of [...PROCESSES, 'region']) {
      const service = serviceOf(place, name)
      const environment = { ...service.environment }
      for (const variable of Object.keys(environment)) assert.ok((VARIABLES as readonly string[]).includes(variable), variable)
      const file = environment['TIDINGS_REGIONS_FILE']
      if (file) environment['TIDINGS_REGIONS_FILE'] = mounted(service, file)
      const config = readConfig(environment)
      assert.equal(config.environment, 'production')
      assert.equal(config.region, meant.region)
      assert.equal(config.temporalNamespace, `tidings-${meant.region}`)
      const { temporalAddress } = regionsOf(REGIONS_FILE, meant.peer ?? meant.region).own
      assert.equal(config.temporalAddress, temporalAddress)
      assert.equal(new URL(config.databaseUrl ?? '').hostname, `postgres.${meant.name}`)
      assert.equal(config.regions === undefined, place === 'one')
      assert.equal(config.configDatabaseUrls.length, place === 'one' ? 0 : 3)
      assert.equal(config.regionForwarding, place !== 'one')
    }
  })

  test(`${place}: a standby is copied from the region's Postgres, and nothing else is`, { skip }, () => {
    const { peer, region } = placesOf(REGIONS_FILE).find(({ name }) => name === place) ?? { peer: undefined, region: '' }
    const { STANDBY_OF, STANDBY_NAME } = serviceOf(place, 'postgres-copy').environment ?? {}
    assert.deepEqual([STANDBY_OF, STANDBY_NAME], peer === undefined ? ['', ''] : [`postgres.${region}`, peer])
    assert.equal(serviceOf(place, 'postgres').depends_on?.['postgres-copy']?.condition, 'service_completed_successfully')
  })

  test(`${place}: its network is its own, but for what other regions reach`, { skip }, () => {
    const { name, networks, services } = projectOf(place)
    assert.deepEqual(Object.keys(networks).sort(), ['default', JOINING])
    assert.equal(networks['default']?.name, `${name}_default`)
    assert.deepEqual([networks[JOINING]?.name, networks[JOINING]?.external], ['tidings-regions', true])
    const alone = Object.keys(services).filter((one) => !(JOINING in services[one]!.networks))
    const temporal = ['temporal-postgres', 'temporal-schema', 'temporal-ui'].filter((one) => one in services)
    assert.deepEqual(alone.sort(), temporal)
  })
}

test('every host that a process, a cluster or the regions file names is one container, which those who call it can reach', { skip }, () => {
  const places = four()
  const containers = places.flatMap(([place, { services }]) => Object.entries(services).map(([name, one]) => ({ place, name, one })))
  const named = (host: string) => containers.filter(({ one }) => (one.networks[JOINING]?.aliases ?? []).includes(host))
  const hosts = new Set<string>()
  for (const { one } of containers) {
    const { DATABASE_URL, CONFIG_DATABASE_URLS, TEMPORAL_ADDRESS, STANDBY_OF, PATRONI_ETCD3_HOSTS } = one.environment ?? {}
    const texts = [DATABASE_URL, ...(CONFIG_DATABASE_URLS ?? '').split(',')].filter(Boolean).map((url) => new URL(url!).hostname)
    const addresses = [TEMPORAL_ADDRESS, ...(PATRONI_ETCD3_HOSTS ?? '').split(','), STANDBY_OF].filter(Boolean)
    for (const host of [...texts, ...addresses.map((address) => address!.split(':')[0]!)]) hosts.add(host)
  }
  for (const { apiUrl, temporalAddress } of regionsOf(REGIONS_FILE, 'us-east').all) {
    hosts.add(new URL(apiUrl).hostname).add(temporalAddress.split(':')[0]!)
  }
  for (const host of hosts) {
    assert.equal(named(host).length, 1, host)
    assert.match(host, /^(api|postgres|temporal|configuration|etcd)\.[a-z-]+$/)
  }
})

test('ports of this machine are taken once', { skip }, () => {
  const ports = four().flatMap(([, { services }]) =>
    Object.values(services).flatMap(({ ports = [] }) => ports.map((port) => port.published)),
  )
  assert.deepEqual(ports, [...new Set(ports)])
})

test('each Temporal cluster has what the template needs, and a name and version of its own', { skip }, () => {
  const { known, required } = templateVariables()
  assert.deepEqual(required, ['TEMPORAL_CLUSTER', 'TEMPORAL_CLUSTER_VERSION'])
  const clusters = four().flatMap(([place, { services }]) => ('temporal' in services ? [[place, services['temporal']] as const] : []))
  const versions = new Set<string>()
  for (const [place, service] of clusters) {
    const environment = service.environment ?? {}
    for (const variable of Object.keys(environment)) assert.ok(known.includes(variable), variable)
    for (const variable of [...required, 'POSTGRES_SEEDS', 'POSTGRES_USER', 'POSTGRES_PWD']) assert.ok(environment[variable], variable)
    assert.equal(environment['TEMPORAL_CLUSTER'], place)
    assert.equal(environment['TEMPORAL_CLUSTER_ADDRESS'], regionsOf(REGIONS_FILE, place).own.temporalAddress)
    assert.equal(mounted(service, environment['TEMPORAL_SERVER_CONFIG_FILE_PATH']!), TEMPLATE)
    versions.add(environment['TEMPORAL_CLUSTER_VERSION'] ?? '')
  }
  assert.deepEqual([...versions].sort(), ['1', '2', '3', '4'])
  assert.equal(serviceOf('one', 'temporal').environment?.['TEMPORAL_CLUSTER_VERSION'], '1')
})

test('the configuration has three members in three regions, with an etcd each, and processes know all of them', { skip }, () => {
  const members = four().flatMap(([place, { services }]) => ('configuration' in services ? [place] : []))
  assert.equal(members.length, 3)
  const environment = serviceOf('us-east', 'api').environment ?? {}
  const urls = (environment['CONFIG_DATABASE_URLS'] ?? '').split(',').map((url) => new URL(url).hostname)
  assert.deepEqual(urls.sort(), members.map((name) => `configuration.${name}`).sort())
  for (const place of members) {
    const { environment: own = {} } = serviceOf(place, 'configuration')
    assert.deepEqual(own['PATRONI_ETCD3_HOSTS']?.split(',').sort(), members.map((name) => `etcd.${name}:2379`).sort())
    assert.equal(own['PATRONI_POSTGRESQL_CONNECT_ADDRESS'], `configuration.${place}:5432`)
    const command = serviceOf(place, 'etcd').command ?? []
    const cluster = command.find((one) => one.startsWith('--initial-cluster='))?.slice('--initial-cluster='.length)
    assert.deepEqual(cluster?.split(',').sort(), members.map((name) => `${name}=http://etcd.${name}:2380`).sort())
    assert.ok(command.includes(`--name=${place}`))
  }
})

test('no secret has a default, and none is in a file', { skip }, async () => {
  const full = Object.fromEntries(SECRETS.map((name) => [name, 'filled-in']))
  for (const name of SECRETS) {
    await assert.rejects(resolveCompose('us-east', { ...full, [name]: '' }), new RegExp(name), name)
  }
})

test('the configuration cluster is set up as the documentation says', () => {
  const page = readFileSync(join(REGIONS_FOLDER, '../../docs/regions.md'), 'utf8')
  const documented = /```yaml\n([\s\S]*?)```/.exec(page)?.[1]
  const file = parse(readFileSync(join(REGIONS_FOLDER, 'configuration/patroni.yaml'), 'utf8')) as { bootstrap: { dcs: object } }
  assert.partialDeepStrictEqual(file.bootstrap.dcs, parse(documented ?? '') as object)
  const dockerfile = readFileSync(join(REGIONS_FOLDER, 'configuration/Dockerfile'), 'utf8')
  const postgres = /image: (postgres:\S+)/.exec(readFileSync(join(REGIONS_FOLDER, '../../docker-compose.temporal.yml'), 'utf8'))?.[1]
  assert.match(dockerfile, new RegExp(`^FROM ${postgres}$`, 'm'))
  for (const [, source] of dockerfile.matchAll(/^COPY (.+) \S+$/gm)) {
    for (const name of source!.split(' ')) assert.ok(existsSync(join(REGIONS_FOLDER, 'configuration', name)), name)
  }
})

test('scripts are such to a shell', () => {
  for (const script of globSync('**/*.sh', { cwd: REGIONS_FOLDER })) execFileSync('sh', ['-n', join(REGIONS_FOLDER, script)])
})
