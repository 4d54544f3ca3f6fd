import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import pino from 'pino'
import { createHealthWatch } from '../../activities/health-watch.ts'
import { readConfig } from '../../config/index.ts'
import { LATENCY_BOUNDS_MS, latencyClassOf, type HealthWindow } from '../../domain/health.ts'
import { newId } from '../../domain/ids.ts'
import { MANAGEMENT_ORGANISATION } from '../../domain/operational.ts'
import { createOwnConfiguration } from '../../storage/configuration.ts'
import { readHealth } from '../../storage/endpoint-windows.ts'
import { readEndpointState } from '../../storage/endpoint-state.ts'
import { createEndpointStates, type EndpointStates } from '../../storage/endpoint-states.ts'
import { createStorage, type Storage } from '../storage/rows.ts'

const DAY_MS = 86_400_000
let storage: Storage
let states: EndpointStates
let endpointId = ''

before(async () => {
  storage = await createStorage()
  states = await createEndpointStates({ pool: storage.pool, log: pino({ level: 'silent' }) })
  // The owner's organisation has an operational endpoint for every type.
  await storage.pool.query(
    `INSERT INTO application (id, org_id, uid, name) VALUES ('app_1', 'org_1', NULL, 'one'), ('app_m', $1, 'org_1', 'management')`,
    [MANAGEMENT_ORGANISATION],
  )
})
beforeEach(async () => {
  await storage.pool.query('TRUNCATE endpoint_state, endpoint_failing, message, outbox, endpoint CASCADE')
  endpointId = newId('ep')
  await storage.pool.query(
    `INSERT INTO endpoint (id, app_id, url) VALUES ($1, 'app_1', 'https://example.com'), ($2, 'app_m', 'https://example.com/told')`,
    [endpointId, newId('ep')],
  )
})
after(async () => {
  await states.stop()
  await storage.drop()
})

interface Told {
  readonly type: string
  readonly data: Record<string, unknown>
}

async function told(): Promise<Told[]> {
  const { rows } = await storage.pool.query<{ payload: string }>(
    'SELECT m.payload FROM message m JOIN outbox o ON o.id = m.id ORDER BY m.id',
  )
  await storage.pool.query('DELETE FROM outbox')
  return rows.map((row) => JSON.parse(row.payload) as Told)
}

async function watch(changes: Partial<HealthWindow>): Promise<Told[]> {
  const rules = readConfig({}).endpointHealth
  const watching = createHealthWatch({
    pool: storage.pool,
    configuration: createOwnConfiguration(storage.pool),
    states,
    ...rules,
    log: pino({ level: 'silent' }),
  })
  const window = { ...(await readHealth(storage.pool, endpointId)), ...changes }
  await watching([{ endpointId, appId: 'app_1', window, countsFromMs: 0 }])
  return told()
}

async function failsSince(days: number, toldDaysAgo: number | null): Promise<void> {
  await storage.pool.query(
    `INSERT INTO endpoint_failing VALUES ($1, 'app_1', 40, now() - $2 * interval '1 day', now() - $3::float8 * interval '1 day')
     ON CONFLICT (endpoint_id) DO UPDATE SET since = excluded.since, told_at = excluded.told_at`,
    [endpointId, days, toldDaysAgo],
  )
}

test('the owner of an endpoint that has failed for four days is warned once, and a day later it is disabled', async () => {
  await failsSince(3.9, null)
  assert.deepEqual(await watch({}), [])
  await failsSince(4.1, null)
  const [warning] = await watch({})
  assert.equal(warning?.type, 'endpoint.disabling')
  const inDays = (Date.parse(warning.data['disabledAt'] as string) - Date.now()) / DAY_MS
  assert.ok(inDays > 0.9 && inDays < 1.1)
  assert.deepEqual(await watch({}), [])
  await failsSince(5.2, 1.1)
  const [disabled] = await watch({})
  assert.deepEqual([disabled?.type, disabled?.data['trigger']], ['endpoint.disabled', 'automatic'])
  const { rows } = await storage.pool.query('SELECT disabled FROM endpoint WHERE id = $1', [endpointId])
  assert.deepEqual(rows, [{ disabled: true }])
  assert.deepEqual(await watch({}), [])
})

test('the owner of an endpoint that has become slow is told once an episode', async () => {
  const latencies = (ms: number) =>
    LATENCY_BOUNDS_MS.map(() => 0)
      .concat(0)
      .with(latencyClassOf(ms), 30)
  const slow = { successes: 30, latencies: latencies(8000) }
  const [first] = await watch(slow)
  assert.equal(first?.type, 'endpoint.slow')
  assert.ok((first.data['p95Ms'] as number) > 5000)
  assert.deepEqual(await watch(slow), [])
  void states.changed(endpointId)
  while (states.get(endpointId) === undefined) await new Promise((resolve) => setImmediate(resolve))
  await watch({ successes: 30, latencies: latencies(300) })
  assert.equal((await readEndpointState(storage.pool, endpointId))?.slowSinceMs, null)
  void states.changed(endpointId)
  while (states.get(endpointId)?.slowSinceMs !== null) await new Promise((resolve) => setImmediate(resolve))
  assert.equal((await watch(slow))[0]?.type, 'endpoint.slow')
})

test('a window that fails opens the breaker, and its owner is told until when', async () => {
  const failing = { successes: 5, failures: 15 }
  const [opened] = await watch(failing)
  assert.deepEqual([opened?.type, opened?.data['successRate']], ['endpoint.breaker.opened', 0.25])
  assert.deepEqual(await watch(failing), [])
  assert.equal((await readEndpointState(storage.pool, endpointId))?.breaker, 'open')
})
