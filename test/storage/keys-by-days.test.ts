import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { createRetention } from '../../activities/retention.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { NewMessage } from '../../domain/message.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { answerKey, claimKey, findPublished, releaseKey } from '../../storage/idempotency.ts'
import { migrate } from '../../storage/migrate.ts'
import { createDays, dropDay, isLocked, listDayTables } from '../../storage/partitions.ts'
import { createPool, inTransaction, type Pool, type Queryable } from '../../storage/pool.ts'
import { eventually } from '../support/eventually.ts'
import { migrateUpTo } from '../support/migrations.ts'
import { count, createStorage, newMessage, newMessages, type Storage } from './rows.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const MINUTE_MS = 60_000
const OUTSIDE = () => ({ heartbeat: () => undefined, cancellationSignal: new AbortController().signal })
const RETENTION = { deliveredDays: 30, failedDays: 90, auditDays: 365 }
/** The next one. */
const MIDNIGHT_MS = Math.ceil(Date.now() / DAY_MS) * DAY_MS

let storage: Storage
const pools: Pool[] = []

/** Postgres' own clock with what a connection says that it is ahead of it. */
const CLOCK = `CREATE OR REPLACE FUNCTION key_time() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS
  $$ SELECT now() + coalesce(nullif(current_setting('test.ahead', true), ''), '0')::interval $$`

before(async () => {
  storage = await createStorage()
  await storage.pool.query(CLOCK)
})
after(async () => {
  for (const pool of pools) await pool.end()
  await storage.drop()
})

/** A process whose database tells a time of its own; that goes on from there. */
async function processAt(atMs: number): Promise<Pool> {
  const pool = createPool(storage.url, 1)
  pools.push(pool)
  await go(pool, atMs)
  return pool
}

const go = (pool: Queryable, atMs: number) => pool.query(`SELECT set_config('test.ahead', $1, false)`, [`${atMs - Date.now()} ms`])

const publish = (db: Queryable, ...messages: NewMessage[]) => acceptMessages(db, messages, false, 0)
const keyed = (key: string, changes: Partial<NewMessage> = {}) => newMessage({ idempotencyKey: key, ...changes })
/** Whether a message with the key was stored. */
const takes = async (db: Queryable, key: string) => (await publish(db, keyed(key))).accepted.size === 1
const rowsOf = (key: string) => count(storage.pool, 'idempotency_key' as 'message', `hash = '${key}'`)

test('a key that was published with before midnight is known after it, for twelve hours', async () => {
  const takenMs = MIDNIGHT_MS - 10 * 60_000
  const process = await processAt(takenMs)
  const first = keyed('evening')
  assert.equal((await publish(process, first)).accepted.size, 1)
  for (const afterMs of [60_000, 20 * 60_000, 2 * HOUR_MS, 12 * HOUR_MS - 5000]) {
    await go(process, takenMs + afterMs)
    assert.equal(await takes(process, 'evening'), false, String(afterMs))
    assert.equal((await findPublished(process, 'evening'))?.id, first.id)
  }
  await go(process, takenMs + 12 * HOUR_MS + 1000)
  assert.equal(await findPublished(process, 'evening'), undefined)
  assert.equal(await takes(process, 'evening'), true)
  assert.equal(await takes(process, 'evening'), false)
})

test('a key that was published with in the first hour of a day is known for twelve hours', async () => {
  const takenMs = MIDNIGHT_MS + 30 * 60_000
  const process = await processAt(takenMs)
  const first = keyed('night')
  assert.equal((await publish(process, first)).accepted.size, 1)
  for (const afterMs of [60_000, HOUR_MS, 12 * HOUR_MS - 5000]) {
    await go(process, takenMs + afterMs)
    assert.equal(await takes(process, 'night'), false, String(afterMs))
    assert.equal((await findPublished(process, 'night'))?.id, first.id)
  }
  await go(process, takenMs + 12 * HOUR_MS + 1000)
  assert.equal(await takes(process, 'night'), true)
})

test('a key that nobody has forgotten yet is taken anew at the same time of the next day', async () => {
  const process = await processAt(MIDNIGHT_MS - 10 * 60_000)
  assert.equal(await takes(process, 'daily'), true)
  for (const days of [1, 2]) {
    await go(process, MIDNIGHT_MS - 10 * 60_000 + days * DAY_MS)
    assert.equal(await takes(process, 'daily'), true)
    assert.equal(await takes(process, 'daily'), false)
  }
})

for (const [name, claimedMs] of [
  ['just before midnight', MIDNIGHT_MS - 1000],
  ['after midnight', MIDNIGHT_MS + 60_000],
  ['as the first hour of a day ends', MIDNIGHT_MS + HOUR_MS - 1000],
  ['at noon', MIDNIGHT_MS + 12 * HOUR_MS],
] as const) {
  test(`a request whose key was claimed ${name} keeps its answer for twelve hours`, async () => {
    const [key, claim] = [`claim ${name}`, randomUUID()]
    const process = await processAt(claimedMs)
    assert.equal(await claimKey(process, key, claim), undefined)
    assert.deepEqual(await claimKey(process, key, randomUUID()), { state: 'claimed' })
    await go(process, claimedMs + 3000)
    assert.deepEqual(await claimKey(process, key, randomUUID()), { state: 'claimed' })
    await answerKey(process, key, claim, 201, Buffer.from('answer'))
    for (const afterMs of [4000, HOUR_MS, 2 * HOUR_MS, 12 * HOUR_MS]) {
      await go(process, claimedMs + afterMs)
      assert.deepEqual(await claimKey(process, key, randomUUID()), { state: 'answered', status: 201, bodyCipher: Buffer.from('answer') })
    }
    await go(process, claimedMs + 12 * HOUR_MS + 4000)
    assert.equal(await claimKey(process, key, randomUUID()), undefined)
  })

  test(`a claim made ${name} is taken over when it has expired, and the answer that comes late is not kept`, async () => {
    const [key, slow, next] = [`slow ${name}`, randomUUID(), randomUUID()]
    const process = await processAt(claimedMs)
    assert.equal(await claimKey(process, key, slow), undefined)
    await go(process, claimedMs + LIMITS.idempotencyWaitMs + 500)
    assert.equal(await claimKey(process, key, next), undefined)
    await answerKey(process, key, next, 201, Buffer.from('next'))
    await answerKey(process, key, slow, 201, Buffer.from('slow'))
    assert.deepEqual(await claimKey(process, key, slow), { state: 'answered', status: 201, bodyCipher: Buffer.from('next') })
  })

  test(`a claim made ${name} that is given back is free`, async () => {
    const [key, claim] = [`returned ${name}`, randomUUID()]
    const process = await processAt(claimedMs)
    assert.equal(await claimKey(process, key, claim), undefined)
    await go(process, claimedMs + 2000)
    await releaseKey(process, key, claim)
    assert.equal(await rowsOf(key), 0)
    assert.equal(await claimKey(process, key, randomUUID()), undefined)
  })
}

const waitsForLock = (pool: Pool, pid: number) =>
  eventually(
    async () => (await pool.query('SELECT FROM pg_locks WHERE pid = $1 AND NOT granted', [pid])).rowCount,
    (waiting) => (waiting ?? 0) > 0,
  )

for (const [name, firstMs, secondMs] of [
  ['on the two sides of midnight', MIDNIGHT_MS - 500, MIDNIGHT_MS + 60_000],
  ['on the two sides of midnight, the first of which is behind', MIDNIGHT_MS + 60_000, MIDNIGHT_MS - MINUTE_MS],
  ['as the first hour of a day ends', MIDNIGHT_MS + HOUR_MS - MINUTE_MS, MIDNIGHT_MS + HOUR_MS + MINUTE_MS],
  ['as the first hour of a day has ended for the first alone', MIDNIGHT_MS + HOUR_MS + MINUTE_MS, MIDNIGHT_MS + HOUR_MS - MINUTE_MS],
  ['at noon', MIDNIGHT_MS + 12 * HOUR_MS, MIDNIGHT_MS + 12 * HOUR_MS],
] as const) {
  test(`of two processes that publish with one key ${name} one stores`, async () => {
    const [first, second] = [await processAt(firstMs), await processAt(secondMs)]
    const { rows } = await second.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
    for (const commits of [true, false]) {
      const key = `${name} ${commits}`
      const client = await first.connect()
      await client.query('BEGIN')
      assert.equal(await takes(client, key), true)
      const rival = takes(second, key)
      await waitsForLock(storage.pool, rows[0]!.pid)
      await client.query(commits ? 'COMMIT' : 'ROLLBACK')
      client.release()
      assert.equal(await rival, !commits)
      for (const process of [first, second]) assert.equal(await takes(process, key), false)
    }
  })
}

test('processes on both sides of midnight, and of the end of its hour, publish each of many keys once, and none waits in a ring', async () => {
  for (const edgeMs of [MIDNIGHT_MS, MIDNIGHT_MS + HOUR_MS]) {
    const rivals = await Promise.all(Array.from({ length: 8 }, (_, n) => processAt(edgeMs + (n % 2 === 0 ? -60_000 : 60_000))))
    for (let round = 0; round < 10; round++) {
      const batches = rivals.map((_, rival) => {
        const messages = newMessages(20).map((message, i) => ({
          ...message,
          idempotencyKey: `${edgeMs} ${round} ${(i * 7 + rival * 11) % 20}`,
        }))
        return rival % 2 === 0 ? messages : messages.toReversed()
      })
      const results = await Promise.all(batches.map((batch, rival) => publish(rivals[rival]!, ...batch)))
      assert.equal(results.flatMap((one) => [...one.accepted]).length, 20)
    }
  }
})

test('a conflict of event ids gives the key back in both tables', async () => {
  const process = await processAt(MIDNIGHT_MS + 10 * 60_000)
  await publish(process, newMessage({ eventId: 'taken' }))
  const refused = await publish(process, keyed('mine', { eventId: 'taken' }))
  assert.deepEqual([refused.accepted.size, refused.repeated.size], [0, 0])
  assert.equal(await rowsOf('mine'), 0)
  assert.equal(await takes(process, 'mine'), true)
  assert.equal(await rowsOf('mine'), 2)
})

test('keys of a day without a table are taken once, and are in the table when it is made', async () => {
  const dayMs = MIDNIGHT_MS + 60 * DAY_MS
  const process = await processAt(dayMs + 6 * HOUR_MS)
  assert.equal(await takes(process, 'far'), true)
  assert.equal(await takes(process, 'far'), false)
  assert.equal(await count(storage.pool, 'idempotency_key_default' as 'message', `hash = 'far'`), 1)
  assert.equal(await createDays(storage.pool, 'idempotency_key', { fromMs: dayMs, toMs: dayMs }), 1)
  assert.equal(await count(storage.pool, 'idempotency_key_default' as 'message', `hash = 'far'`), 0)
  assert.equal(await takes(process, 'far'), false)
})

test('through days tables of keys are made and dropped, and no key that is kept is forgotten', async () => {
  const retention = createRetention({ pool: storage.pool, retention: RETENTION, context: OUTSIDE })
  const process = await processAt(MIDNIGHT_MS)
  const taken: { readonly key: string; readonly atMs: number }[] = []
  for (let day = 10; day < 16; day++) {
    for (const hour of [0, 5, 11, 17, 23]) {
      const atMs = MIDNIGHT_MS + day * DAY_MS + hour * HOUR_MS + 20 * MINUTE_MS
      await retention.createDayTables({ atMs })
      for (const table of await retention.dueDayTables({ atMs })) await retention.dropDayTable({ table, atMs })
      while ((await retention.removeOldRows({ atMs })).more);
      await go(process, atMs)
      const kept = taken.filter((one) => one.atMs > atMs - 12 * HOUR_MS)
      for (const { key } of kept) assert.equal(await takes(process, key), false, `${key} on day ${day} at ${hour}`)
      taken.push({ key: `at ${day} ${hour}`, atMs })
      assert.equal(await takes(process, taken.at(-1)!.key), true)
      const days = (await listDayTables(storage.pool)).filter(({ parent }) => parent === 'idempotency_key').map(({ dayMs }) => dayMs)
      assert.equal((Math.min(...days) - MIDNIGHT_MS) / DAY_MS, Math.max(10, day - 1), `on day ${day} at ${hour}`)
    }
  }
})

test('a table of keys that others use is left for later, and nobody waits for it', async () => {
  const dayMs = MIDNIGHT_MS - 200 * DAY_MS
  await createDays(storage.pool, 'idempotency_key', { fromMs: dayMs, toMs: dayMs })
  const find = async () => (await listDayTables(storage.pool)).find((one) => one.parent === 'idempotency_key' && one.dayMs === dayMs)!
  const process = await processAt(MIDNIGHT_MS + 3 * HOUR_MS)
  await inTransaction(storage.pool, async (client) => {
    await client.query('SELECT FROM idempotency_key LIMIT 1')
    const dropping = assert.rejects(dropDay(storage.pool, await find(), Date.now()), isLocked)
    const startedAt = performance.now()
    assert.equal(await takes(process, 'meanwhile'), true)
    // 100 ms, and what a busy machine adds.
    assert.ok(performance.now() - startedAt < 1000)
    await dropping
    assert.equal((await find()).attached, true)
  })
  assert.deepEqual(await dropDay(storage.pool, await find(), Date.now()), { dropped: true, kept: 0 })
  assert.equal(await find(), undefined)
})

test('a database with keys from before there were days knows them until they expire', async () => {
  const { pool } = storage
  await pool.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public')
  await migrateUpTo(pool, '0021')
  const [first, claim] = [newMessage(), randomUUID()]
  await publish(pool, first)
  await pool.query(
    `INSERT INTO idempotency_key (hash, message_id, claim, status, body_cipher, expires_at) VALUES
       ('published', $1, NULL, NULL, NULL, now() + interval '11 hours'), ('over', $1, NULL, NULL, NULL, now() - interval '1 hour'),
       ('answered', NULL, gen_random_uuid(), 201, 'answer', now() + interval '11 hours'),
       ('served', NULL, $2, NULL, NULL, now() + interval '5 s')`,
    [first.id, claim],
  )
  await migrate(pool)
  await pool.query(CLOCK)
  const nowMs = Date.now()
  const process = await processAt(nowMs)
  assert.deepEqual(await claimKey(process, 'served', randomUUID()), { state: 'claimed' })
  await answerKey(process, 'served', claim, 200, Buffer.from('served'))
  assert.equal(await takes(process, 'over'), true)
  for (const hours of [0, 5, 10]) {
    await go(process, nowMs + hours * HOUR_MS)
    assert.equal(await takes(process, 'published'), false)
    assert.equal((await findPublished(process, 'published'))?.id, first.id)
    assert.equal((await claimKey(process, 'answered', randomUUID()))?.state, 'answered')
    assert.equal((await claimKey(process, 'served', randomUUID()))?.state, 'answered')
    assert.equal(await takes(process, 'over'), false)
  }
  await go(process, nowMs + 13 * HOUR_MS)
  for (const key of ['published', 'answered', 'served', 'over']) assert.equal(await takes(process, key), true)
})
