import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Client, Connection } from '@temporalio/client'
import { freePort } from '../../cli/embedded/ports.ts'
import { openBreaker } from '../../storage/endpoint-state.ts'
import { createPool } from '../../storage/pool.ts'
import { eventually } from '../support/eventually.ts'
import { hasPrometheus, startPrometheus, type Series, type TestPrometheus } from '../support/prometheus.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startRedis, type RedisServer } from '../support/redis.ts'
import { startTestService, type TestService } from '../support/service.ts'
import { startMeasuredTemporal } from '../support/temporal.ts'

const FOLDER = fileURLToPath(new URL('../../deploy/grafana/dashboards/', import.meta.url))
/** What Grafana would put in: short, as the load is. */
const RATE_INTERVAL = '30s'
const PATHS = ['/well', '/fails', '/limited', '/throttled', '/broken']

interface Panel {
  readonly title: string
  readonly targets: readonly { readonly expr: string }[]
}

interface Dashboard {
  readonly uid: string
  readonly title: string
  readonly panels: readonly Panel[]
}

const dashboards = globSync('*.json', { cwd: FOLDER }).map((file) => JSON.parse(readFileSync(join(FOLDER, file), 'utf8')) as Dashboard)
const skip = hasPrometheus() ? false : 'Prometheus is not on this machine'

const started: { stop(): Promise<void> }[] = []
let receiver: Receiver
let service: TestService
let prometheus: TestPrometheus

before(async () => {
  if (skip !== false) return
  const [own, sdk, server] = [await freePort(), await freePort(), await freePort()]
  receiver = await startReceiver(({ path }) => ({ status: path === '/fails' ? 500 : path === '/limited' ? 429 : 200 }))
  const temporal = await startMeasuredTemporal(server)
  started.push(temporal)
  const redis: RedisServer | undefined = await startRedis()
  if (redis !== undefined) started.push(redis)
  service = await startTestService({
    temporal,
    env: {
      TIDINGS_METRICS_PORT: String(own),
      TIDINGS_TEMPORAL_METRICS_PORT: String(sdk),
      TIDINGS_RETRY_SCHEDULE: '0.5,0.5',
      TIDINGS_REDIS_URL: redis?.url ?? '',
    },
  })
  started.push(service)
  const job = (name: string, port: number) => ({ job_name: name, static_configs: [{ targets: [`127.0.0.1:${port}`] }] })
  prometheus = await startPrometheus([job('tidings', own), job('temporal-sdk', sdk), job('temporal', server)])
  started.push(prometheus)
  await eventually(prometheus.allUp, (up) => up)
  await temporalTroubles(temporal)
})

after(async () => {
  for (const one of started.reverse()) await one.stop()
  await receiver?.close()
})

/** A task that nobody takes, and a request that the server answers with an error: what the dashboard of the server shows too. */
async function temporalTroubles({ address, namespace }: { address: string; namespace: string }): Promise<void> {
  const connection = await Connection.connect({ address })
  const client = new Client({ connection, namespace })
  await client.workflow.start('nobody', { taskQueue: 'nobody', workflowId: 'nobody' })
  await client.workflow
    .getHandle('nowhere')
    .describe()
    .catch(() => undefined)
  await connection.close()
}

/** Everything that a panel shows happens: successes, retries, dead letters, limits, an open breaker. */
async function createEndpoints(): Promise<string> {
  const { id: appId } = await service.svix.application.create({ name: 'shown' })
  const pool = createPool(service.database.url, 1)
  for (const path of PATHS) {
    const throttleRate = path === '/throttled' ? { throttleRate: 2 } : {}
    const { id } = await service.svix.endpoint.create(appId, { url: `${receiver.url}${path}`, ...throttleRate })
    if (path === '/broken') await openBreaker(pool, id, 60_000, { successRate: 0 })
  }
  await pool.end()
  return appId
}

const resolved = (expr: string) => expr.replaceAll('$__rate_interval', RATE_INTERVAL)

/** A number: a share of nothing is none. */
function hasData(series: readonly Series[]): boolean {
  return series.some(({ value }) => Number.isFinite(Number(value[1])))
}

test('after some load every panel of every dashboard has data', { skip }, async () => {
  const appId = await createEndpoints()
  const empty = async () => {
    await Promise.all(
      Array.from({ length: 10 }, (_, i) => service.svix.message.create(appId, { eventType: 'invoice.paid', payload: { number: i } })),
    )
    await service.svix.endpoint.list(appId)
    const found: string[] = []
    for (const { title, panels } of dashboards) {
      for (const panel of panels) {
        for (const { expr } of panel.targets) {
          if (!hasData(await prometheus.query(resolved(expr)))) found.push(`${title}: ${panel.title}: ${expr}`)
        }
      }
    }
    return found
  }
  assert.deepEqual(await eventually(empty, (left) => left.length === 0, 90_000), [])
})

test('the alert rules are evaluated by a running Prometheus without an error, and nothing that is well is told of', { skip }, async () => {
  const rules = fileURLToPath(new URL('../../deploy/prometheus/tidings.rules.yml', import.meta.url))
  const judge = await startPrometheus([{ job_name: 'tidings', static_configs: [] }], [rules])
  try {
    const states = async () => {
      const answer = await fetch(`${judge.url}/api/v1/rules`).then((response) => response.json())
      const { groups } = (answer as { data: { groups: readonly { rules: readonly { name: string; health: string; state: string }[] }[] } })
        .data
      return groups.flatMap((group) => group.rules)
    }
    const rulesNow = await eventually(states, (all) => all.length > 0 && all.every(({ health }) => health === 'ok'))
    // Nothing is scraped: that alone is told of.
    assert.deepEqual(
      rulesNow.filter(({ state }) => state !== 'inactive').map(({ name }) => name),
      ['TidingsQueuesUnread'],
    )
  } finally {
    await judge.stop()
  }
})

test('dashboards have names of their own, and their panels titles', () => {
  assert.equal(new Set(dashboards.map(({ uid }) => uid)).size, dashboards.length)
  for (const { uid, panels } of dashboards) {
    assert.match(uid, /^tidings/)
    assert.equal(new Set(panels.map(({ title }) => title)).size, panels.length)
  }
})
