import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import pino from 'pino'
import type { AttemptOutcome } from '../../domain/outcome.ts'
import { createEndpointHealth, type EndpointHealth } from '../../storage/endpoint-health.ts'
import { createEndpointStates, type EndpointStates } from '../../storage/endpoint-states.ts'
import { readHealth, type EndpointWindow } from '../../storage/endpoint-windows.ts'
import { eventually } from '../support/eventually.ts'
import { createStorage, type Storage } from './rows.ts'

let storage: Storage
let states: EndpointStates
const running: EndpointHealth[] = []
const log = pino({ level: 'silent' })
const RULES = { minAttempts: 20, failureRate: 0.5 }
const ENDPOINT = { id: 'ep_1', appId: 'app_1' }

before(async () => {
  storage = await createStorage()
  states = await createEndpointStates({ pool: storage.pool, log })
})
afterEach(async () => {
  for (const one of running.splice(0)) await one.stop()
  await storage.pool.query('TRUNCATE endpoint_health, endpoint_failing')
})
after(async () => {
  await states.stop()
  await storage.drop()
})

function processHealth(onWindows: (windows: readonly EndpointWindow[]) => void = () => undefined): EndpointHealth {
  const health = createEndpointHealth({
    pool: storage.pool,
    states,
    log,
    health: RULES,
    onWindows: (windows) => Promise.resolve(onWindows(windows)),
  })
  running.push(health)
  return health
}

const answer = (statusCode: number, durationMs = 20): AttemptOutcome => ({
  kind: statusCode < 300 ? 'delivered' : 'rejected',
  statusCode,
  body: '',
  durationMs,
})

test('what several processes count of an endpoint is one window', async () => {
  const [first, second] = [processHealth(), processHealth()]
  for (let i = 0; i < 7; i++) first.begin(ENDPOINT)(answer(200))
  for (let i = 0; i < 3; i++) second.begin(ENDPOINT)(answer(429, 600))
  second.begin(ENDPOINT)(answer(503, 700))
  await first.stop()
  await second.stop()
  const window = await readHealth(storage.pool, ENDPOINT.id)
  assert.equal(window.successes, 7)
  assert.equal(window.failures, 4)
  assert.equal(window.rateLimited, 3)
  assert.deepEqual(window.recent, { successes: 7, overloaded: 4, attempts: 11 })
  assert.equal(window.inFlight, 0)
  assert.equal(window.consecutiveFailures, 4)
  assert.deepEqual(second.window(ENDPOINT.id), window)
  assert.equal(
    window.latencies.reduce((total, count) => total + count, 0),
    11,
  )
})

test('a write answers with the merged windows, and no write is made where nothing was counted', async () => {
  const writes: (readonly EndpointWindow[])[] = []
  const { promise: written, resolve } = Promise.withResolvers<void>()
  const health = processHealth((windows) => {
    writes.push(windows)
    resolve()
  })
  health.begin(ENDPOINT)(answer(500))
  health.begin({ id: 'ep_2', appId: 'app_1' })(answer(200))
  await written
  assert.deepEqual(writes[0]!.map(({ endpointId }) => endpointId).sort(), ['ep_1', 'ep_2'])
  await health.stop()
  assert.equal(writes.length, 1)
})

test('consecutive failures are counted over processes, and end with a success', async () => {
  const [first, second] = [processHealth(), processHealth()]
  for (const health of [first, second]) {
    health.begin(ENDPOINT)(answer(500))
    health.begin(ENDPOINT)(answer(500))
    await health.stop()
  }
  const failing = await readHealth(storage.pool, ENDPOINT.id)
  assert.equal(failing.consecutiveFailures, 4)
  assert.ok(failing.failingSinceMs !== null && failing.failingSinceMs <= Date.now())
  const third = processHealth()
  third.begin(ENDPOINT)(answer(500))
  third.begin(ENDPOINT)(answer(200))
  third.begin(ENDPOINT)(answer(500))
  await third.stop()
  assert.equal((await readHealth(storage.pool, ENDPOINT.id)).consecutiveFailures, 1)
  const fourth = processHealth()
  fourth.begin(ENDPOINT)(answer(200))
  await fourth.stop()
  const well = await readHealth(storage.pool, ENDPOINT.id)
  assert.equal(well.consecutiveFailures, 0)
  assert.equal(well.failingSinceMs, null)
})

test('requests on their way are counted, what was interrupted or blocked says nothing of the endpoint', async () => {
  const health = processHealth()
  const first = health.begin(ENDPOINT)
  const second = health.begin(ENDPOINT)
  const third = health.begin(ENDPOINT)
  await health.stop()
  assert.equal((await readHealth(storage.pool, ENDPOINT.id)).inFlight, 3)
  first({ kind: 'interrupted', statusCode: 0, body: '', durationMs: 5 })
  second({ kind: 'blocked', statusCode: 0, body: '', durationMs: 5 })
  third(answer(200))
  await health.stop()
  const window = await readHealth(storage.pool, ENDPOINT.id)
  assert.equal(window.inFlight, 0)
  assert.equal(window.successes + window.failures, 1)
})

test('a window holds five minutes: older slots count no more, and are written over', async () => {
  const counters = 'successes, failures, rate_limited, overloaded, in_flight'
  const latencies = ['5', '10', '25', '50', '100', '250', '500', '1000', '2500', '5000', '10000', '30000'].map((ms) => `within_${ms}`)
  const epoch = Math.floor(Date.now() / 10_000)
  await storage.pool.query(
    `INSERT INTO endpoint_health (endpoint_id, slot, epoch, ${counters}, ${latencies.join(', ')}, over_30000)
     SELECT 'ep_1', e % 30, e, 5, 5, 0, 0, 0, ${latencies.map(() => 0).join(', ')}, 0 FROM unnest($1::bigint[]) AS t (e)`,
    [[epoch - 30, epoch - 32, epoch - 1]],
  )
  const before = await readHealth(storage.pool, ENDPOINT.id)
  assert.equal(before.successes, 5)
  const health = processHealth()
  health.begin(ENDPOINT)(answer(200))
  await health.stop()
  const after = await readHealth(storage.pool, ENDPOINT.id)
  assert.equal(after.successes, 6)
  assert.deepEqual(after, health.window(ENDPOINT.id))
})

test('counts that cannot be written for now are written later', async () => {
  let away = true
  const failing = createEndpointHealth({
    states,
    pool: Object.assign(Object.create(storage.pool) as typeof storage.pool, {
      query: (...args: Parameters<typeof storage.pool.query>) => {
        if (away) return Promise.reject(Object.assign(new Error('away'), { code: 'ECONNREFUSED' }))
        return storage.pool.query(...args)
      },
    }),
    log,
    health: RULES,
    onWindows: () => Promise.resolve(),
  })
  running.push(failing)
  failing.begin(ENDPOINT)(answer(500))
  await failing.stop()
  away = false
  failing.begin(ENDPOINT)(answer(500))
  await failing.stop()
  assert.equal((await readHealth(storage.pool, ENDPOINT.id)).consecutiveFailures, 2)
})

test('what is counted while a write takes long is written after it', async () => {
  const { promise: first, resolve: begun } = Promise.withResolvers<void>()
  const { promise: slow, resolve: goOn } = Promise.withResolvers<void>()
  let writes = 0
  const health = createEndpointHealth({
    pool: storage.pool,
    states,
    log,
    health: RULES,
    onWindows: async () => {
      writes++
      begun()
      await slow
    },
  })
  running.push(health)
  health.begin(ENDPOINT)(answer(500))
  await first
  health.begin(ENDPOINT)(answer(500))
  // Its turn comes, half a second later, while the first write is not over.
  await new Promise((resolve) => setTimeout(resolve, 600))
  goOn()
  await eventually(
    () => Promise.resolve(writes),
    (count) => count === 2,
  )
  assert.equal((await readHealth(storage.pool, ENDPOINT.id)).failures, 2)
})

test('failures that become too many are shared at once, and only then', async () => {
  const judged: number[] = []
  const health = processHealth((windows) => judged.push(...windows.map(({ window }) => window.failures)))
  for (let i = 0; i < RULES.minAttempts - 1; i++) health.begin(ENDPOINT)(answer(500))
  assert.equal(health.tipping(ENDPOINT.id), undefined)
  health.begin(ENDPOINT)(answer(500))
  await health.tipping(ENDPOINT.id)
  assert.deepEqual(judged, [RULES.minAttempts])
  health.begin(ENDPOINT)(answer(500))
  assert.equal(health.tipping(ENDPOINT.id), undefined)
})
