import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { beginSlowness } from '../../storage/endpoint-state.ts'
import { createRecorder } from '../../storage/recorder.ts'
import { readEndpointUse, readPoolUse } from '../../storage/utilisation-history.ts'
import { newMessage, newRecord, createStorage, type Storage } from './rows.ts'
import { addEndpoint, addSamples } from './scaling-samples.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const SINCE = Date.UTC(2026, 10, 18)
const RANGE = { since: new Date(SINCE), until: new Date(SINCE + DAY_MS) }
let storage: Storage

before(async () => {
  storage = await createStorage()
})

beforeEach(() => storage.pool.query('TRUNCATE scaling_sample, message, outbox, attempt, delivery, endpoint, endpoint_state CASCADE'))
after(() => storage.drop())

/** Messages at these times, each delivered to the endpoint in so long. */
async function deliver(endpointId: string, timesMs: readonly number[], durationMs: (i: number) => number): Promise<void> {
  const { pool } = storage
  const recorder = createRecorder({ pool, onWake: () => undefined })
  const messages = timesMs.map((createdAtMs) =>
    newMessage({ id: newId('msg', createdAtMs), createdAtMs, expiresAtMs: createdAtMs + DAY_MS }),
  )
  for (let i = 0; i < messages.length; i += 200) await acceptMessages(pool, messages.slice(i, i + 200), false, 0)
  const records = messages.map(({ id, createdAtMs }, i) =>
    newRecord({ state: 'delivered', hadRow: false }, { messageId: id, endpointId, durationMs: durationMs(i), createdAtMs }),
  )
  await Promise.all(records.map((record) => recorder.record(record)))
}

const every = (stepMs: number, count: number, fromMs = SINCE) => Array.from({ length: count }, (_, i) => fromMs + i * stepMs)

test('samples are told apart by pool and hour of the day', async () => {
  const at = (hour: number, minute: number, day = 0) => SINCE + day * DAY_MS + hour * HOUR_MS + minute * 60_000
  await addSamples(storage.pool, 'local', [
    { atMs: at(0, 0), workers: 10, utilisation: 0.5 },
    { atMs: at(0, 30), workers: 20, utilisation: 1 },
    { atMs: at(0, 10, 1), workers: 30, utilisation: 0.1 },
    { atMs: at(23, 59), workers: 4, utilisation: 0.25 },
    // Nobody said how busy they were.
    { atMs: at(1, 0), workers: 100, utilisation: null },
    // Before what was asked for.
    { atMs: SINCE - 1, workers: 1000, utilisation: 1 },
  ])
  await addSamples(storage.pool, 'slow', [{ atMs: at(5, 0), workers: 2, utilisation: 0.5 }])
  assert.deepEqual(await readPoolUse(storage.pool, RANGE.since), [
    {
      pool: 'local',
      samples: 4,
      hours: [
        // Busy 5, 20 and 3: the p95 lies between the last two of 3, 5, 20.
        { hour: 0, samples: 3, workers: 20, busy: 28 / 3, busyP95: 18.5 },
        { hour: 23, samples: 1, workers: 4, busy: 1, busyP95: 1 },
      ],
    },
    { pool: 'slow', samples: 1, hours: [{ hour: 5, samples: 1, workers: 2, busy: 1, busyP95: 1 }] },
  ])
  assert.deepEqual(await readPoolUse(storage.pool, new Date(SINCE + 3 * DAY_MS)), [])
})

test('rates and times of endpoints are those of their attempts', async () => {
  const [steady, rare, unused] = [await addEndpoint(storage.pool), await addEndpoint(storage.pool), await addEndpoint(storage.pool)]
  await deliver(steady, every(DAY_MS / 1000, 1000), (i) => (i % 10 === 0 ? 6000 : 100))
  await deliver(rare, every(DAY_MS / 10, 10), () => 50)
  // Outside of what was asked for.
  await deliver(unused, [SINCE - 1000, SINCE + DAY_MS + 1000], () => 50)
  const uses = await readEndpointUse(storage.pool, RANGE)
  assert.deepEqual(
    uses.map(({ endpointId, attempts, meanMs, p95Ms }) => [endpointId, attempts, meanMs, p95Ms]),
    [
      [steady, 1000, 690, 6000],
      [rare, 10, 50, 50],
    ],
  )
  assert.ok(Math.abs(uses[0]!.perS / (1000 / 86_400) - 1) < 0.01, String(uses[0]!.perS))
  assert.ok(Math.abs(uses[1]!.perS / (10 / 86_400) - 1) < 0.01, String(uses[1]!.perS))
})

test('where there is more than is looked at, the rate is that of what was looked at', async () => {
  const endpoint = await addEndpoint(storage.pool)
  // Ten a second for the first 40 s of each of two hours.
  const times = [0, 1].flatMap((hour) => every(100, 400, SINCE + hour * HOUR_MS))
  await deliver(endpoint, times, () => 50)
  const range = { since: RANGE.since, until: new Date(SINCE + 2 * HOUR_MS) }
  const sampling = { slices: 2, attemptsPerSlice: 100, endpoints: 10 }
  const [use] = await readEndpointUse(storage.pool, range, sampling)
  assert.equal(use!.attempts, 200)
  // 100 attempts of each hour were read, which came in 9.9 s.
  assert.ok(Math.abs(use!.perS - 100 / 9.9) < 0.1, String(use!.perS))
})

test('one message for many endpoints does not make each of them busy', async () => {
  const endpoints = await Promise.all(Array.from({ length: 60 }, () => addEndpoint(storage.pool)))
  const { pool } = storage
  const message = newMessage({ id: newId('msg', SINCE + 5), createdAtMs: SINCE + 5, expiresAtMs: SINCE + DAY_MS })
  await acceptMessages(pool, [message], false, 0)
  const recorder = createRecorder({ pool, onWake: () => undefined })
  const records = endpoints.map((endpointId) =>
    newRecord({ state: 'delivered', hadRow: false }, { messageId: message.id, endpointId, createdAtMs: SINCE + 20 }),
  )
  await Promise.all(records.map((record) => recorder.record(record)))
  const uses = await readEndpointUse(pool, RANGE, { slices: 1, attemptsPerSlice: 50, endpoints: 100 })
  assert.equal(uses.length, 50)
  for (const { perS } of uses) assert.ok(perS <= 1, String(perS))
})

test('slow, batched, ordered and deleted endpoints are known, and the busiest come first', async () => {
  const { pool } = storage
  const [slow, batched, fifo, deleted] = [
    await addEndpoint(pool),
    await addEndpoint(pool, { batching: { maxEvents: 100, lingerMs: 100 } }),
    await addEndpoint(pool, { ordering: 'fifo' }),
    await addEndpoint(pool),
  ]
  for (const [i, endpoint] of [slow, batched, fifo, deleted].entries()) await deliver(endpoint, every(60_000, 40 - 10 * i), () => 5)
  await beginSlowness(pool, slow, 6000)
  await pool.query('UPDATE endpoint SET deleted_at = now() WHERE id = $1', [deleted])
  const known = (await readEndpointUse(pool, RANGE)).map(({ endpointId, slow: isSlow, queued }) => [endpointId, isSlow, queued])
  assert.deepEqual(known, [
    [slow, true, false],
    [batched, false, true],
    [fifo, false, true],
  ])
  assert.equal((await readEndpointUse(pool, RANGE, { slices: 100, attemptsPerSlice: 1000, endpoints: 1 })).length, 1)
})

test('attempts are read by ranges of their key, never all of them', async () => {
  const endpoint = await addEndpoint(storage.pool)
  await deliver(endpoint, every(1000, 3000), () => 5)
  await storage.pool.query('ANALYZE attempt, message')
  const plans: string[] = []
  const db = {
    query: async ({ text, values }: { text: string; values: unknown[] }) => {
      const { rows } = await storage.pool.query<{ 'QUERY PLAN': string }>(`EXPLAIN ${text}`, values)
      plans.push(rows.map((row) => row['QUERY PLAN']).join('\n'))
      return { rows: [] }
    },
  } as unknown as typeof storage.pool
  await readEndpointUse(db, RANGE, { slices: 20, attemptsPerSlice: 50, endpoints: 10 })
  assert.match(plans[0]!, /Index Scan using attempt_pkey on attempt/)
  assert.doesNotMatch(plans[0]!, /Seq Scan on attempt/)
})
