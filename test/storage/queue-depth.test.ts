import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createPool, type Pool } from '../../storage/pool.ts'
import { readQueueDepth } from '../../storage/queue-depth.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let database: TestDatabase
let pool: Pool

before(async () => {
  database = await createTestDatabase()
  pool = createPool(database.url, 2)
})

after(async () => {
  await pool?.end()
  await database?.drop()
})

test('of an empty database nothing waits', async () => {
  assert.deepEqual(await readQueueDepth(pool, 10), { outbox: 0, oldestS: 0, later: 0, due: 0, overdueS: 0, deadLetters: 0 })
})

test('it counts rows by what they wait for, up to its bound, and tells the age of the oldest', async () => {
  await pool.query(`INSERT INTO outbox (id, message_id, app_id, event_type, created_at)
    SELECT 'm' || i, 'm' || i, 'app', 'invoice.paid', now() - i * interval '1 s' FROM generate_series(1, 5) i`)
  const deliveries = `INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, next_at, group_id)
    SELECT $1 || i, 'ep', 'app', $1, 1, now() + $2 * interval '1 s', 'g' FROM generate_series(1, $3::int) i`
  await pool.query(deliveries, ['parked', 100, 3])
  await pool.query(
    deliveries.replace('$1 || i', `'late' || i`).replace(`'app', $1`, `'app', 'parked'`).replace('$2', '-20').replace('$3', '$1'),
    [2],
  )
  await pool.query(deliveries, ['dead', 0, 4])
  await pool.query(deliveries, ['retrying', 0, 4])
  const depth = await readQueueDepth(pool, 10)
  assert.deepEqual([depth.outbox, depth.later, depth.due, depth.deadLetters], [5, 3, 2, 4])
  assert.ok(depth.oldestS >= 5 && depth.overdueS >= 20)
  const bounded = await readQueueDepth(pool, 3)
  assert.deepEqual([bounded.outbox, bounded.later + bounded.due, bounded.deadLetters], [3, 3, 3])
})

test('more dead letters than it counts are as many as Postgres estimates', async () => {
  await pool.query(`INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, group_id)
    SELECT 'many' || i, 'ep', 'app', 'dead', 1, 'g' FROM generate_series(1, 3000) i`)
  await pool.query('ANALYZE delivery')
  const { deadLetters } = await readQueueDepth(pool, 10)
  assert.ok(deadLetters > 2000 && deadLetters < 4000, String(deadLetters))
})
