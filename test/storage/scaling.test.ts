import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { LATENCY_BOUNDS_MS, latencyClassOf } from '../../domain/health.ts'
import type { ScalingDecision, ScalingSample } from '../../domain/scaling.ts'
import { keepDecision, keepSample, readDecisions, readWaiting } from '../../storage/scaling.ts'
import { forgetWorker, readFleet, reportWorker, type WorkerIdentity, type WorkerReport } from '../../storage/workers.ts'
import { createStorage, type Storage } from './rows.ts'

let storage: Storage

before(async () => {
  storage = await createStorage(4)
})
afterEach(() =>
  storage.pool.query(
    'TRUNCATE worker, scaling_sample, scaling_decision, outbox, delivery, mailbox, endpoint, endpoint_state, token_bucket CASCADE',
  ),
)
after(() => storage.drop())

const NOTHING = { depth: 0, oldestMs: 0, rateLimited: 0 }

async function outbox(rows: number, ageS: number): Promise<void> {
  await storage.pool.query(
    `INSERT INTO outbox (id, message_id, app_id, event_type, created_at)
     SELECT 'o' || n, 'm' || n, 'app_1', 't', now() - $2 * interval '1 s' FROM generate_series(1, $1::int) n`,
    [rows, ageS],
  )
}

interface Parked {
  readonly endpointId: string
  readonly rows: number
  /** Due so long ago; negative: in so long. */
  readonly dueS: number
  readonly attempts?: number
  readonly keys?: number
  readonly ordering?: string
}

async function parked({ endpointId, rows, dueS, attempts = 1, keys = 0, ordering = 'none' }: Parked): Promise<void> {
  await storage.pool.query(
    `INSERT INTO endpoint (id, app_id, url, ordering) VALUES ($1, 'app_1', 'https://example.com', $2) ON CONFLICT DO NOTHING`,
    [endpointId, ordering],
  )
  await storage.pool.query(
    `INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, next_at, group_id, ordering_key)
     SELECT 'm' || n, $1, 'app_1', 'parked', $4, now() - $3 * interval '1 s', 'g', CASE WHEN $5 > 0 THEN 'k' || n % $5 END
     FROM generate_series(1, $2::int) n`,
    [endpointId, rows, dueS, attempts, keys],
  )
  await storage.pool.query("INSERT INTO mailbox (endpoint_id, idle, wake_at) VALUES ($1, false, now() - $2 * interval '1 s')", [
    endpointId,
    dueS,
  ])
}

test('nothing waits', async () => {
  assert.deepEqual(await readWaiting(storage.pool), NOTHING)
})

test('rows of the outbox and due deliveries of mailboxes wait for a worker; those that are not due wait for nobody', async () => {
  await outbox(30, 5)
  await parked({ endpointId: 'ep_due', rows: 20, dueS: 9 })
  await parked({ endpointId: 'ep_later', rows: 7, dueS: -3600 })
  const { depth, oldestMs, rateLimited } = await readWaiting(storage.pool)
  assert.deepEqual([depth, rateLimited], [50, 0])
  assert.ok(oldestMs >= 9000 && oldestMs < 60_000, `${oldestMs}`)
})

test('behind a breaker that is not closed, or a bucket that has just given all it had, deliveries wait for their endpoint', async () => {
  for (const endpointId of ['ep_broken', 'ep_limited', 'ep_rested', 'ep_rich']) await parked({ endpointId, rows: 10, dueS: 1 })
  await parked({ endpointId: 'ep_held', rows: 5, dueS: -60, attempts: 0 })
  await storage.pool.query(
    `INSERT INTO endpoint_state (endpoint_id, app_id, breaker) VALUES ('ep_broken', 'app_1', 'recovering'), ('ep_held', 'app_1', 'open')`,
  )
  await storage.pool.query(`INSERT INTO token_bucket (key, tokens, at, granted) VALUES
    ('endpoint ep_limited', 0.4, now(), 1), ('endpoint ep_rested', 0, now() - interval '1 minute', 1), ('endpoint ep_rich', 5, now(), 1)`)
  assert.deepEqual([(await readWaiting(storage.pool)).depth, (await readWaiting(storage.pool)).rateLimited], [20, 25])
})

test('of an ordered queue only the head can be sent, and of each key one', async () => {
  await parked({ endpointId: 'ep_fifo', rows: 10, dueS: 1, ordering: 'fifo' })
  await parked({ endpointId: 'ep_keys', rows: 10, dueS: 1, keys: 3, ordering: 'fifo-by-key' })
  const { depth, rateLimited } = await readWaiting(storage.pool)
  assert.deepEqual([depth, rateLimited], [1 + 3, 9 + 7])
})

const worker = (id: string, changes: Partial<WorkerIdentity> = {}): WorkerIdentity => ({
  id,
  roles: ['delivery'],
  lanes: ['fast'],
  host: 'here',
  pid: 1,
  version: '1',
  startedAtMs: Date.now(),
  reportMs: 15_000,
  ...changes,
})

function report(changes: Partial<WorkerReport> & { readonly firstMs?: readonly number[] } = {}): WorkerReport {
  const firstRequests = Array<number>(LATENCY_BOUNDS_MS.length + 1).fill(0)
  for (const ms of changes.firstMs ?? []) firstRequests[latencyClassOf(ms)]!++
  return { utilisation: 0.2, slotsUsed: 10, slots: 100, attempts: 100, endpointFailures: 3, ownFailures: 1, firstRequests, ...changes }
}

test('the fleet is what its workers have reported last', async () => {
  await reportWorker(storage.pool, worker('a'), report({ utilisation: 0.9 }))
  await reportWorker(storage.pool, worker('a'), report({ utilisation: 0.4, firstMs: Array<number>(99).fill(20) }))
  await reportWorker(storage.pool, worker('b'), report({ slotsUsed: 80, firstMs: [4000] }))
  const fleet = await readFleet(storage.pool)
  assert.ok(Math.abs(fleet.utilisation! - 0.6) < 1e-9, 'of each the fuller of its time and its slots')
  assert.deepEqual([fleet.workers, fleet.attempts, fleet.endpointFailures, fleet.ownFailures, fleet.firstRequests], [2, 200, 6, 2, 100])
  assert.ok(fleet.firstRequestP99Ms! <= 25, `${fleet.firstRequestP99Ms}`)
})

test('who has been silent for three reports does not count, and who stops leaves with those that are long gone', async () => {
  for (const [id, silentS] of [
    ['live', 40],
    ['silent', 46],
    ['gone', 4000],
  ] as const) {
    await reportWorker(storage.pool, worker(id), report())
    await storage.pool.query(`UPDATE worker SET seen_at = now() - $2 * interval '1 s' WHERE id = $1`, [id, silentS])
  }
  assert.equal((await readFleet(storage.pool)).workers, 1)
  await forgetWorker(storage.pool, 'live')
  assert.deepEqual(await readFleet(storage.pool), {
    ...(await readFleet(storage.pool)),
    workers: 0,
    utilisation: null,
    firstRequestP99Ms: null,
  })
  assert.deepEqual((await storage.pool.query('SELECT id FROM worker')).rows, [{ id: 'silent' }])
})

const SAMPLE: ScalingSample = {
  atMs: Date.now(),
  workers: 12,
  ready: 11,
  depth: 3,
  rateLimited: 0,
  oldestMs: 1500,
  utilisation: null,
  firstRequestP99Ms: 12.5,
  firstRequests: 40,
  attempts: 50,
  endpointFailures: 2,
  ownFailures: 0,
}

test('a sample and a decision are kept once, however often they are written, and for thirty days', async () => {
  const decision: ScalingDecision = { atMs: SAMPLE.atMs, action: 'up', from: 10, to: 12, rule: 'depth', reason: 'because' }
  const old = { ...SAMPLE, atMs: SAMPLE.atMs - 31 * 86_400_000 }
  await keepSample(storage.pool, 'one', old)
  await keepDecision(storage.pool, 'one', { ...decision, atMs: old.atMs }, null)
  for (let i = 0; i < 2; i++) {
    await keepSample(storage.pool, 'one', SAMPLE)
    await keepDecision(storage.pool, 'one', decision, SAMPLE)
  }
  assert.equal((await storage.pool.query('SELECT FROM scaling_sample')).rowCount, 1)
  assert.deepEqual(await readDecisions(storage.pool, 'one', 10), [decision])
  assert.deepEqual(await readDecisions(storage.pool, 'other', 10), [])
  const { rows } = await storage.pool.query<{ sample: ScalingSample }>('SELECT sample FROM scaling_decision')
  assert.deepEqual(rows[0]?.sample, SAMPLE)
})
