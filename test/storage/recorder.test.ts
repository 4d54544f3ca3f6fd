import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { acceptMessages } from '../../storage/accept.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createRecorder } from '../../storage/recorder.ts'
import type { MailboxWake } from '../../storage/records.ts'
import { count, createStorage, newMessages, newRecord, type Storage } from './rows.ts'

const LATER_MS = 3_600_000
let storage: Storage

before(async () => {
  storage = await createStorage()
})

afterEach(() => storage.pool.query('TRUNCATE attempt, delivery, mailbox, outbox, message'))
after(() => storage.drop())

/** A recorder, what it woke, and how many statements its pool was asked for. */
function recording(pool: Pool = storage.pool) {
  const wakes: MailboxWake[] = []
  let statements = 0
  const counted = { query: (...args: Parameters<Pool['query']>) => (statements++, pool.query(...args)) } as unknown as Pool
  const recorder = createRecorder({ pool: counted, onWake: (wake) => void wakes.push(wake) })
  return { recorder, wakes, statements: () => statements }
}

const DELIVERED = { state: 'delivered', hadRow: false } as const
const parked = (nextAtMs: number, attempts = 6) => ({ state: 'parked', attempts, nextAtMs }) as const
const retrying = (attempts = 1) => ({ state: 'retrying', attempts, nextAtMs: Date.now() + 1000 }) as const

async function states() {
  const { rows } = await storage.pool.query<{ message_id: string; state: string; attempts: number }>(
    'SELECT message_id, state, attempts FROM delivery ORDER BY message_id',
  )
  return rows
}

test('a call returns when its row is committed', async () => {
  const { recorder } = recording()
  const record = newRecord(DELIVERED)
  await recorder.record(record)
  assert.equal(await count(storage.pool, 'attempt', `id = '${record.attempt.id}'`), 1)
})

test('a thousand calls at once are a few statements', async () => {
  const { recorder, statements } = recording()
  await Promise.all(Array.from({ length: 1000 }, () => recorder.record(newRecord(DELIVERED))))
  assert.equal(await count(storage.pool, 'attempt'), 1000)
  assert.ok(statements() <= 3, `${statements()} statements`)
})

test('a success removes the row that waited, and no other', async () => {
  const { recorder } = recording()
  const [ends, stays] = [newRecord(retrying()), newRecord(retrying())]
  await Promise.all([recorder.record(ends), recorder.record(stays)])
  await recorder.record(newRecord({ state: 'delivered', hadRow: true }, { messageId: ends.messageId }))
  assert.deepEqual(await states(), [{ message_id: stays.messageId, state: 'retrying', attempts: 1 }])
})

test('a delivery is retrying, parked, then dead, with its attempts counted and kept', async () => {
  const { recorder } = recording()
  const first = newRecord(retrying(1))
  const { messageId } = first
  await recorder.record(first)
  await recorder.record(newRecord(parked(Date.now() + LATER_MS, 2), { messageId }))
  await recorder.record(newRecord({ state: 'dead', attempts: 3 }, { messageId }))
  assert.deepEqual(await states(), [{ message_id: messageId, state: 'dead', attempts: 3 }])
  assert.equal(await count(storage.pool, 'attempt'), 3)
})

test('what is untracked leaves an attempt and no delivery', async () => {
  const { recorder } = recording()
  await recorder.record(newRecord({ state: 'untracked' }))
  assert.deepEqual([await count(storage.pool, 'attempt'), await count(storage.pool, 'delivery')], [1, 0])
})

test('the outbox rows of a group go with the next record, or by themselves', async () => {
  const { recorder } = recording()
  const [first, second, third] = [newMessages(2), newMessages(2), newMessages(2)]
  for (const messages of [first, second, third]) await acceptMessages(storage.pool, messages, true, 10_000)
  recorder.forgetGroup(first[0]!.id)
  await recorder.record(newRecord(DELIVERED))
  assert.equal(await count(storage.pool, 'outbox', `group_id = '${first[0]!.id}'`), 0)
  assert.equal(await count(storage.pool, 'outbox'), 4)
  recorder.forgetGroup(second[0]!.id)
  await recorder.record(newRecord(parked(Date.now())))
  assert.equal(await count(storage.pool, 'outbox'), 2)
  recorder.forgetGroup(third[0]!.id)
  await recorder.drained()
  assert.equal(await count(storage.pool, 'outbox'), 0)
})

test('parking wakes a mailbox that sleeps, or that would wake too late, and only then', async () => {
  const { recorder, wakes } = recording()
  const atMs = Date.now() + LATER_MS
  const park = async (nextAtMs: number) => {
    await recorder.record(newRecord(parked(nextAtMs)))
    return wakes.splice(0)
  }
  assert.deepEqual(await park(atMs), [{ endpointId: 'ep_1', wakeAtMs: atMs }])
  assert.deepEqual(await park(atMs + 1), [])
  assert.deepEqual(await park(atMs - 1000), [{ endpointId: 'ep_1', wakeAtMs: atMs - 1000 }])
  assert.deepEqual(await park(atMs), [])
  await storage.pool.query('UPDATE mailbox SET idle = true, wake_at = NULL')
  assert.deepEqual(await park(atMs + 5000), [{ endpointId: 'ep_1', wakeAtMs: atMs + 5000 }])
})

test('many that are parked at once wake each mailbox once, at its earliest', async () => {
  const { recorder, wakes } = recording()
  const atMs = Date.now() + LATER_MS
  const records = Array.from({ length: 60 }, (_, i) => newRecord(parked(atMs + 1000 - i), { endpointId: `ep_${i % 3}` }))
  await Promise.all(records.map((record) => recorder.record(record)))
  assert.deepEqual(
    wakes.toSorted((a, b) => (a.endpointId < b.endpointId ? -1 : 1)),
    [943, 942, 941].map((offset, i) => ({ endpointId: `ep_${i}`, wakeAtMs: atMs + offset })),
  )
})

test('two attempts of one delivery in one statement are both kept, and the later decides', async () => {
  const { recorder } = recording()
  const first = newRecord(retrying(1))
  const second = newRecord(retrying(2), { messageId: first.messageId })
  await Promise.all([recorder.record(first), recorder.record(second)])
  assert.deepEqual(await states(), [{ message_id: first.messageId, state: 'retrying', attempts: 2 }])
  assert.equal(await count(storage.pool, 'attempt'), 2)
})

test('a record that Postgres does not take fails alone', async () => {
  const { recorder } = recording()
  const good = Array.from({ length: 20 }, (_, i) => newRecord(i % 2 === 0 ? DELIVERED : parked(Date.now())))
  const bad = newRecord(DELIVERED, { responseBody: 'a NUL: \0' })
  const results = await Promise.allSettled([...good.slice(0, 10), bad, ...good.slice(10)].map((record) => recorder.record(record)))
  assert.deepEqual(
    results.map((result) => result.status),
    results.map((_, i) => (i === 10 ? 'rejected' : 'fulfilled')),
  )
  assert.equal(await count(storage.pool, 'attempt'), 20)
})

test('a write that is repeated because its answer was lost changes nothing and succeeds', async () => {
  const { recorder } = recording()
  const records = [newRecord(DELIVERED), newRecord(parked(Date.now() + LATER_MS)), newRecord(retrying())]
  for (let i = 0; i < 3; i++) await Promise.all(records.map((record) => recorder.record({ ...record })))
  assert.deepEqual([await count(storage.pool, 'attempt'), await count(storage.pool, 'delivery')], [3, 2])
})

test('connections that are cut in the middle of writes lose nothing and fail nobody', async () => {
  const pool = createPool(storage.url, 3)
  const { recorder } = recording(pool)
  let recorded = 0
  let cuts = 0
  const writer = async (writes: number) => {
    for (let i = 0; i < writes; i++) {
      await recorder.record(newRecord(i % 3 === 0 ? parked(Date.now() + LATER_MS) : DELIVERED, { endpointId: `ep_${i % 5}` }))
      recorded++
    }
  }
  const writing = Promise.all(Array.from({ length: 20 }, () => writer(40)))
  const done = writing.then(() => true)
  // A cut for every thirty records, wherever the write of the moment is.
  while (!(await Promise.race([done, new Promise<false>((resolve) => setImmediate(() => resolve(false)))]))) {
    if (recorded < cuts * 30) continue
    const { rows } = await storage.pool.query<{ cut: boolean }>(
      `SELECT pg_terminate_backend(pid) AS cut FROM pg_stat_activity
       WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%INTO attempt%'`,
    )
    if (rows.length > 0) cuts++
  }
  assert.ok(cuts > 3, `${cuts} cuts`)
  assert.equal(await count(storage.pool, 'attempt'), 800)
  assert.equal(await count(storage.pool, 'delivery'), 20 * 14)
  await pool.end()
})
