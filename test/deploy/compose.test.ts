import assert from 'node:assert/strict'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { readConfig, VARIABLES } from '../../config/index.ts'
import { SEARCH_ATTRIBUTES } from '../../domain/names.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const JOBS = ['temporal-schema', 'temporal-namespace']
const WORKERS = ['dispatcher', 'delivery-fast', 'delivery-slow']
const SECRETS = [
  'TIDINGS_JWT_SECRET',
  'TIDINGS_ENCRYPTION_KEY',
  'TIDINGS_DATABASE_PASSWORD',
  'TEMPORAL_DATABASE_PASSWORD',
  'GRAFANA_ADMIN_PASSWORD',
]

interface Service {
  readonly image: string
  readonly build?: { readonly context: string }
  readonly command?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
  readonly healthcheck?: { readonly test: readonly string[] }
  readonly ports?: readonly string[]
  readonly volumes?: readonly string[]
  readonly read_only?: boolean
  readonly cap_drop?: readonly string[]
  readonly user?: string
  readonly profiles?: readonly string[]
}

interface ComposeFile {
  readonly services: Readonly<Record<string, Service>>
  readonly volumes: Readonly<Record<string, unknown>>
}

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')
const text = read('docker-compose.temporal.yml')
const compose = parse(text, { merge: true }) as ComposeFile
const services = Object.entries(compose.services)
const tidings = services.filter(([, service]) => service.build !== undefined)

test('every part that the product needs is there', () => {
  const names = services.map(([name]) => name)
  for (const name of [...JOBS, ...WORKERS, 'api', 'postgres', 'temporal', 'temporal-postgres', 'temporal-ui', 'prometheus', 'grafana']) {
    assert.ok(names.includes(name), name)
  }
})

for (const [name, service] of services) {
  test(`${name}: image pinned, capabilities dropped, and a health check where it is a server`, () => {
    assert.match(service.image, /^[a-z0-9/.-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?$/)
    assert.deepEqual(service.cap_drop, ['ALL'])
    assert.equal(service.healthcheck === undefined, JOBS.includes(name) || WORKERS.includes(name))
    if (name !== 'temporal-ui') assert.equal(service.read_only, true)
  })

  test(`${name}: what it refers to exists`, () => {
    for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
      const target = compose.services[other]
      assert.ok(target, other)
      assert.equal(target.profiles, undefined, `${other} is not always started`)
      assert.equal(condition, JOBS.includes(other) ? 'service_completed_successfully' : 'service_healthy')
    }
    for (const volume of service.volumes ?? []) {
      const source = volume.split(':')[0] ?? ''
      assert.ok(source.startsWith('./') ? existsSync(join(ROOT, source)) : source in compose.volumes, source)
    }
    for (const port of service.ports ?? []) assert.match(port, /^127\.0\.0\.1:\d+:\d+$/)
  })
}

function resolveVariables(value: string): string {
  return value.replaceAll(/\$\{(\w+)(?::([?-])([^}]*))?\}/g, (_, name: string, operator: string | undefined, rest: string) =>
    operator === '-' ? rest : `filled-in-for-${name}-0123456789abcdef`,
  )
}

for (const [name, service] of tidings) {
  test(`${name}: its variables are known to the configuration, which takes their values`, () => {
    const environment = service.environment ?? {}
    assert.match(service.command?.[2] ?? '', /^cli\/(api|worker)\.ts$/)
    for (const variable of Object.keys(environment)) assert.ok((VARIABLES as readonly string[]).includes(variable), variable)
    const config = readConfig(Object.fromEntries(Object.entries(environment).map(([key, value]) => [key, resolveVariables(value)])))
    assert.equal(config.environment, 'production')
    assert.equal(config.temporalAddress, 'temporal:7233')
    assert.equal(config.groupMaxMessages, 100)
  })
}

test('no secret has a default', () => {
  for (const name of SECRETS) {
    const uses = [...text.matchAll(new RegExp(`\\$\\{${name}([^}]*)\\}`, 'g'))]
    assert.ok(uses.length > 0, name)
    for (const [, rest] of uses) assert.match(rest ?? '', /^:\?./, name)
    assert.match(read('deploy/example.env'), new RegExp(`^${name}=$`, 'm'))
  }
})

test('the namespace job creates the search attributes that the workflows use', () => {
  const script = read('deploy/temporal/namespace.sh')
  for (const name of Object.values(SEARCH_ATTRIBUTES)) assert.match(script, new RegExp(`\\b${name}\\b`))
})

test('the server has the limits that groups of 100 need', () => {
  const settings = parse(read('deploy/temporal/dynamic-config.yaml')) as Record<string, { value: unknown }[]>
  assert.deepEqual(settings['frontend.searchAttributesSizeOfValueLimit'], [{ value: 8192 }])
  assert.deepEqual(settings['matching.enableFairness'], [{ value: true }])
})

interface ScrapeJob {
  readonly job_name: string
  readonly static_configs?: readonly { readonly targets: readonly string[] }[]
  readonly dns_sd_configs?: readonly { readonly names: readonly string[]; readonly port: number }[]
}

const scrapeJobs = () => (parse(read('deploy/prometheus.yml')) as { scrape_configs: readonly ScrapeJob[] }).scrape_configs

test('Prometheus scrapes every process of Tidings, on the port that each serves its metrics on', () => {
  for (const [job, variable] of [
    ['tidings', 'TIDINGS_METRICS_PORT'],
    ['temporal-sdk', 'TIDINGS_TEMPORAL_METRICS_PORT'],
  ] as const) {
    const [discovery] = scrapeJobs().find((one) => one.job_name === job)?.dns_sd_configs ?? []
    assert.deepEqual([...discovery!.names].sort(), tidings.map(([name]) => name).sort())
    for (const [name, { environment }] of tidings) assert.equal(environment?.[variable], String(discovery!.port), name)
  }
})

test('Prometheus has the alert rules where its configuration looks for them', () => {
  const { rule_files: rules } = parse(read('deploy/prometheus.yml')) as { rule_files: readonly string[] }
  assert.deepEqual(rules, ['prometheus/*.rules.yml'])
  assert.ok(compose.services['prometheus']?.volumes?.includes('./deploy/prometheus:/etc/prometheus/prometheus:ro'))
  assert.ok(existsSync(join(ROOT, 'deploy/prometheus/tidings.rules.yml')))
})

test('Prometheus scrapes services of this file, and Grafana reads Prometheus', () => {
  for (const target of scrapeJobs().flatMap(({ static_configs: targets = [] }) => targets.flatMap((config) => config.targets))) {
    const host = target.split(':')[0] ?? ''
    assert.ok(host === '127.0.0.1' || host in compose.services, host)
  }
  assert.match(read('deploy/grafana/provisioning/datasources/prometheus.yml'), /http:\/\/prometheus:9090/)
  for (const file of readdirSync(join(ROOT, 'deploy/grafana/dashboards'))) JSON.parse(read(`deploy/grafana/dashboards/${file}`))
})

test('the image runs as an ordinary user on a pinned Node 24 and copies only folders that exist', () => {
  const dockerfile = read('Dockerfile')
  const bases = [...dockerfile.matchAll(/^FROM (\S+)/gm)].map(([, base]) => base ?? '')
  assert.equal(bases.length, 2)
  for (const base of bases) assert.match(base, /^node:24\.\d+\.\d+-bookworm-slim$/)
  assert.ok(dockerfile.lastIndexOf('USER node') > dockerfile.lastIndexOf('COPY'))
  assert.match(dockerfile, /npm ci --omit=dev/)
  const allowed = read('.dockerignore')
    .split('\n')
    .filter((line) => line.startsWith('!'))
    .map((line) => line.slice(1))
  for (const [, sources] of dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)) {
    for (const source of (sources ?? '').split(' ')) {
      assert.ok(existsSync(join(ROOT, source)), source)
      assert.ok(allowed.includes(source), `${source} is kept out by .dockerignore`)
    }
  }
})
