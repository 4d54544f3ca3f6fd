import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { beginSlowness } from '../../storage/endpoint-state.ts'
import { createRecorder } from '../../storage/recorder.ts'
import { rollUp } from '../../storage/rollups.ts'
import { readEndpointUse, readPoolUse } from '../../storage/utilisation-history.ts'
import { newMessage, newRecord, createStorage, type Storage } from './rows.ts'
import { addEndpoint, addSamples } from './scaling-samples.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const SINCE = Date.UTC(2026, 10, 18)
const RANGE = { since: new Date(SINCE), until: new Date(SINCE + DAY_MS) }
/** When all of it is rolled up. */
const NOW = SINCE + DAY_MS + HOUR_MS
let storage: Storage

before(async () => {
  storage = await createStorage()
})

beforeEach(async () => {
  await storage.pool.query(
    'TRUNCATE scaling_sample, message, outbox, attempt, delivery, endpoint, endpoint_state, rollup_minute, rollup_hour, rollup_day, rollup_late CASCADE',
  )
  await storage.pool.query('UPDATE rollup_progress SET begins = $1, through = $1', [RANGE.since])
})
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
    newRecord(
      { state: 'delivered', hadRow: false },
      { id: newId('atmpt', createdAtMs), messageId: id, endpointId, durationMs: durationMs(i), createdAtMs },
    ),
  )
  await Promise.all(records.map((record) => recorder.record(record)))
}

async function rollUpAll(nowMs = NOW): Promise<void> {
  while ((await rollUp(storage.pool, nowMs)) !== undefined);
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
  await rollUpAll()
  const uses = await readEndpointUse(storage.pool, RANGE, { nowMs: NOW })
  assert.deepEqual(
    uses.map(({ endpointId, attempts, meanMs, p95Ms }) => [endpointId, attempts, meanMs, p95Ms]),
    [
      // A tenth is in the class from 5 to 10 s, and within classes times are taken to lie evenly.
      [steady, 1000, 690, 7500],
      [rare, 10, 50, 48.75],
    ],
  )
  assert.deepEqual(
    uses.map(({ perS }) => perS),
    [1000 / 86_400, 10 / 86_400],
  )
})

test('of what is not rolled up yet nothing is told, and rates are of the time that is', async () => {
  const endpoint = await addEndpoint(storage.pool)
  await deliver(endpoint, every(1000, 60), () => 50)
  await rollUpAll(SINCE + 60_000 + LIMITS.rollupSettleMs)
  const [use] = await readEndpointUse(storage.pool, RANGE, { nowMs: NOW })
  assert.deepEqual([use!.attempts, use!.perS], [60, 1])
  assert.deepEqual(await readEndpointUse(storage.pool, { since: new Date(NOW), until: new Date(NOW + 1) }, { nowMs: NOW }), [])
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
  await rollUpAll()
  const known = (await readEndpointUse(pool, RANGE, { nowMs: NOW })).map(({ endpointId, slow: isSlow, queued }) => [
    endpointId,
    isSlow,
    queued,
  ])
  assert.deepEqual(known, [
    [slow, true, false],
    [batched, false, true],
    [fifo, false, true],
  ])
  assert.equal((await readEndpointUse(pool, RANGE, { endpoints: 1, nowMs: NOW })).length, 1)
})
