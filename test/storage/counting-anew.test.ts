import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import pino from 'pino'
import { newId } from '../../domain/ids.ts'
import type { AttemptOutcome } from '../../domain/outcome.ts'
import { createEndpointHealth, type EndpointHealth } from '../../storage/endpoint-health.ts'
import { beginAnew, forceClose, openBreaker, readEndpointState } from '../../storage/endpoint-state.ts'
import { createEndpointStates, type EndpointStates } from '../../storage/endpoint-states.ts'
import { readHealth, type EndpointWindow } from '../../storage/endpoint-windows.ts'
import { inTransaction } from '../../storage/pool.ts'
import { createStorage, type Storage } from './rows.ts'

const FAILED: AttemptOutcome = { kind: 'rejected', statusCode: 500, body: '', durationMs: 20 }
const DELIVERED: AttemptOutcome = { kind: 'delivered', statusCode: 200, body: '', durationMs: 20 }

let storage: Storage
let states: EndpointStates
let health: EndpointHealth
let endpoint = { id: '', appId: 'app_1' }
let judged: EndpointWindow[] = []
const log = pino({ level: 'silent' })

before(async () => {
  storage = await createStorage()
  await storage.pool.query(`INSERT INTO application (id, org_id, name) VALUES ('app_1', 'org_1', 'one')`)
  states = await createEndpointStates({ pool: storage.pool, log })
})
beforeEach(async () => {
  endpoint = { id: newId('ep'), appId: 'app_1' }
  await storage.pool.query(`INSERT INTO endpoint (id, app_id, url) VALUES ($1, 'app_1', 'https://example.com')`, [endpoint.id])
  judged = []
  health = createEndpointHealth({
    pool: storage.pool,
    log,
    states,
    health: { minAttempts: 20, failureRate: 0.5 },
    onWindows: (windows) => Promise.resolve(void judged.push(...windows)),
  })
})
afterEach(() => health.stop())
after(async () => {
  await states.stop()
  await storage.drop()
})

async function open(): Promise<void> {
  assert.ok(await openBreaker(storage.pool, endpoint.id, 60_000, { successRate: 0 }))
  await states.changed(endpoint.id)
}
const close = () => inTransaction(storage.pool, (client) => forceClose(client, endpoint.id, 10))
const window = () => readHealth(storage.pool, endpoint.id)

test('what a process has not shared when a breaker is closed is forgotten, and so is what began before', async () => {
  const [onTheirWay, ...others] = Array.from({ length: 6 }, () => health.begin(endpoint))
  await health.stop()
  assert.equal((await window()).inFlight, 6)
  await open()
  for (const ended of others) ended(FAILED)
  await close()
  await states.changed(endpoint.id)
  assert.equal((await window()).inFlight, 6)
  onTheirWay!(FAILED)
  health.begin(endpoint)(DELIVERED)
  await health.stop()
  const { failures, successes, inFlight, consecutiveFailures } = await window()
  assert.deepEqual(
    { failures, successes, inFlight, consecutiveFailures },
    { failures: 0, successes: 1, inFlight: 0, consecutiveFailures: 0 },
  )
})

test('a process that has not heard yet that a breaker was closed adds no answers from before', async () => {
  const ends = Array.from({ length: 3 }, () => health.begin(endpoint))
  await health.stop()
  await open()
  await close()
  for (const ended of ends) ended(FAILED)
  await health.stop()
  const { failures, inFlight, consecutiveFailures } = await window()
  assert.deepEqual({ failures, inFlight, consecutiveFailures }, { failures: 0, inFlight: 0, consecutiveFailures: 0 })
})

test('failures at an endpoint that has another URL now count neither towards its breaker nor towards its disabling', async () => {
  for (let i = 0; i < 10; i++) health.begin(endpoint)(FAILED)
  await health.stop()
  assert.equal((await window()).consecutiveFailures, 10)
  health.begin(endpoint)(FAILED)
  const onItsWay = health.begin(endpoint)
  await inTransaction(storage.pool, (client) => beginAnew(client, endpoint.id, 10))
  await states.changed(endpoint.id)
  assert.equal(health.window(endpoint.id), undefined)
  onItsWay(FAILED)
  await health.stop()
  const { failures, consecutiveFailures, failingSinceMs } = await window()
  assert.deepEqual({ failures, consecutiveFailures, failingSinceMs }, { failures: 0, consecutiveFailures: 0, failingSinceMs: null })
})

test('counts that could not be written are not put back after the breaker was closed', async () => {
  let away = true
  const { promise: asked, resolve } = Promise.withResolvers<void>()
  const { promise: told, reject } = Promise.withResolvers<never>()
  const other = createEndpointHealth({
    pool: Object.assign(Object.create(storage.pool) as typeof storage.pool, {
      query: (...args: Parameters<typeof storage.pool.query>) => {
        resolve()
        return away ? told : storage.pool.query(...args)
      },
    }),
    log,
    states,
    health: { minAttempts: 20, failureRate: 0.5 },
    onWindows: () => Promise.resolve(),
  })
  await open()
  const onItsWay = other.begin(endpoint)
  other.begin(endpoint)(FAILED)
  const stopped = other.stop()
  await asked
  await close()
  await states.changed(endpoint.id)
  reject(Object.assign(new Error('away'), { code: 'ECONNREFUSED' }))
  away = false
  await stopped
  await other.stop()
  const { failures, inFlight } = await window()
  assert.deepEqual({ failures, inFlight }, { failures: 0, inFlight: 1 })
  onItsWay(FAILED)
  await other.stop()
  assert.equal((await window()).inFlight, 0)
})

test('a window from before a breaker was closed does not open it again', async () => {
  health.begin(endpoint)(FAILED)
  await health.stop()
  const [{ countsFromMs }] = judged as [EndpointWindow]
  await open()
  await close()
  assert.equal(await openBreaker(storage.pool, endpoint.id, 60_000, { successRate: 0, countsFromMs }), false)
  const recovering = await readEndpointState(storage.pool, endpoint.id)
  assert.equal(recovering?.breaker, 'recovering')
  assert.ok(await openBreaker(storage.pool, endpoint.id, 60_000, { successRate: 0, countsFromMs: recovering.countsFromMs }))
})
