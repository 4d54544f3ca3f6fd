import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createRetention } from '../../activities/retention.ts'
import { lowestIdAt, newId } from '../../domain/ids.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { expungeMessage, findMessage } from '../../storage/history/messages.ts'
import { migrate } from '../../storage/migrate.ts'
import { createDays, dropDay, isLocked, KEPT_MOVED_MAX, listDayTables } from '../../storage/partitions.ts'
import { inTransaction } from '../../storage/pool.ts'
import { createRecorder } from '../../storage/recorder.ts'
import { migrateUpTo } from '../support/migrations.ts'
import { count, createStorage, newMessage, newRecord, type Storage } from './rows.ts'

const DAY_MS = 86_400_000
/** There is no activity. */
const OUTSIDE = () => ({ heartbeat: () => undefined, cancellationSignal: new AbortController().signal })
const RETENTION = { deliveredDays: 30, failedDays: 90, auditDays: 365 }
const todayMs = Math.floor(Date.now() / DAY_MS) * DAY_MS

let storage: Storage

before(async () => {
  storage = await createStorage()
})
after(() => storage.drop())

const tableOf = async (name: string) => (await listDayTables(storage.pool)).find((table) => table.name === name)!
const nameOf = (parent: string, dayMs: number) => `${parent}_${new Date(dayMs).toISOString().slice(0, 10).replaceAll('-', '')}`

/** A message of a time, with an attempt that succeeded and one that failed, half a minute later. */
async function put(atMs: number, { keptDays = 90, deliverAfterDays = 0 } = {}): Promise<string> {
  const { pool } = storage
  const expiresAtMs = atMs + (deliverAfterDays + keptDays) * DAY_MS
  const message = newMessage({
    id: newId('msg', atMs),
    createdAtMs: atMs,
    expiresAtMs,
    payload: `{"n":${atMs}}`,
    eventId: `event-${atMs}-${keptDays}`,
  })
  await acceptMessages(pool, [message], false, 0)
  const recorder = createRecorder({ pool, onWake: () => undefined })
  const of = (id: string) => ({ id, messageId: message.id, createdAtMs: atMs + 30_000 })
  await recorder.record(newRecord({ state: 'delivered', hadRow: false }, of(newId('atmpt', atMs + 30_000))))
  await recorder.record(newRecord({ state: 'dead', attempts: 1 }, { ...of(newId('atmpt', atMs + 30_000)), endpointId: 'ep_2' }))
  await pool.query('UPDATE delivery SET updated_at = to_timestamp($2::float8 / 1000) WHERE message_id = $1', [message.id, atMs + 30_000])
  return message.id
}

const payloadAt = async (id: string, atMs: number) =>
  (
    await storage.pool.query<{ payload: string | null }>(
      'SELECT payload_at(to_timestamp($2::float8 / 1000), id, expires_at, payload) AS payload FROM message WHERE id = $1',
      [id, atMs],
    )
  ).rows[0]?.payload

test('Postgres and the service say alike where a day begins among ids', async () => {
  for (const ms of [Date.now(), todayMs, 1_400_000_000_123, Date.UTC(2027, 1, 28, 23, 59, 59, 999), Date.UTC(2149, 0)]) {
    for (const prefix of ['msg', 'atmpt'] as const) {
      const { rows } = await storage.pool.query<{ id: string }>('SELECT lowest_id_at($1, to_timestamp($2::float8 / 1000)) AS id', [
        prefix,
        ms,
      ])
      assert.equal(rows[0]!.id, lowestIdAt(prefix, ms))
    }
  }
})

test('no attempt is before the first that its message may have, and few days are', async () => {
  const times = Array.from({ length: 2000 }, (_, i) => Date.UTC(2026, 0) + i * 7_919_000)
  const { rows } = await storage.pool.query<{ first: string }>(
    'SELECT earliest_attempt(id) AS first FROM unnest($1::text[]) WITH ORDINALITY AS t (id, n) ORDER BY n',
    [times.map((ms) => newId('msg', ms))],
  )
  const eightMinutes = 8 * 60_000
  const far = rows.filter(({ first }, i) => {
    assert.ok(first <= lowestIdAt('atmpt', times[i]! - eightMinutes))
    return first < lowestIdAt('atmpt', times[i]! - DAY_MS)
  })
  assert.ok(far.length < rows.length / 20)
})

test('what belongs to a day without a table is kept, and is in the table when it is made', async () => {
  const dayMs = todayMs + 40 * DAY_MS
  const id = await put(dayMs + 1000)
  assert.equal(await count(storage.pool, 'message_default' as 'message'), 1)
  assert.equal(await count(storage.pool, 'attempt_default' as 'attempt'), 2)
  for (const parent of ['message', 'attempt'] as const)
    assert.equal(await createDays(storage.pool, parent, { fromMs: dayMs, toMs: dayMs }), 1)
  assert.equal(await createDays(storage.pool, 'message', { fromMs: dayMs, toMs: dayMs }), 0)
  assert.equal(await count(storage.pool, 'message_default' as 'message'), 0)
  assert.equal(await count(storage.pool, `${nameOf('attempt', dayMs)}_failed` as 'attempt'), 1)
  assert.equal((await findMessage(storage.pool, 'app_1', id, { withPayload: true }))?.payload, `{"n":${dayMs + 1000}}`)
})

test('a payload that ends early is read until then, and can be removed before', async () => {
  const [kept, removed] = [await put(Date.now(), { keptDays: 5 }), await put(Date.now(), { keptDays: 6 })]
  assert.equal(await count(storage.pool, 'message', `id = '${kept}' AND payload IS NULL`), 1)
  const table = nameOf('message_payload', todayMs + 5 * DAY_MS)
  assert.equal(await count(storage.pool, table as 'message'), 1)
  assert.match((await findMessage(storage.pool, 'app_1', kept, { withPayload: true }))!.payload!, /^\{"n":/)
  await expungeMessage(storage.pool, removed)
  assert.equal((await findMessage(storage.pool, 'app_1', removed, { withPayload: true }))!.payload, null)
  assert.equal(await count(storage.pool, 'message_payload' as 'message', `message_id = '${removed}'`), 0)
  assert.equal(await payloadAt(kept, Date.now() + 5 * DAY_MS + 1000), null)
})

test('a table that others use is left for later, and nobody waits for it', async () => {
  const dayMs = todayMs - 200 * DAY_MS
  await createDays(storage.pool, 'message', { fromMs: dayMs, toMs: dayMs })
  const table = await tableOf(nameOf('message', dayMs))
  await inTransaction(storage.pool, async (client) => {
    await client.query('SELECT FROM message LIMIT 1')
    await assert.rejects(dropDay(storage.pool, table, Date.now()), isLocked)
    assert.equal((await tableOf(table.name)).attached, true)
  })
  assert.deepEqual(await dropDay(storage.pool, table, Date.now()), { dropped: true, kept: 0 })
  assert.equal(await tableOf(table.name), undefined)
})

test('a table that was taken out by a process that died then is dropped', async () => {
  const dayMs = todayMs - 201 * DAY_MS
  await createDays(storage.pool, 'message', { fromMs: dayMs, toMs: dayMs })
  const name = nameOf('message', dayMs)
  await storage.pool.query(`ALTER TABLE message DETACH PARTITION ${name}`)
  assert.equal((await tableOf(name)).attached, false)
  const retention = createRetention({ pool: storage.pool, retention: RETENTION, context: OUTSIDE })
  const due = await retention.dueDayTables({ atMs: Date.now() })
  assert.deepEqual(
    due.map((one) => one.name),
    [name],
  )
  await retention.dropDayTable({ table: due[0]!, atMs: Date.now() })
  assert.deepEqual(await retention.dueDayTables({ atMs: Date.now() }), [])
})

test('a table of which much is kept beyond its time stays', async () => {
  const dayMs = todayMs - 202 * DAY_MS
  await createDays(storage.pool, 'message', { fromMs: dayMs, toMs: dayMs })
  await storage.pool.query(
    `INSERT INTO message (id, app_id, event_type, created_at, expires_at)
     SELECT $1 || n, 'app_1', 'e', now(), now() + interval '1 day' FROM generate_series(1, $2) n`,
    [lowestIdAt('msg', dayMs), KEPT_MOVED_MAX + 1],
  )
  const table = await tableOf(nameOf('message', dayMs))
  assert.deepEqual(await dropDay(storage.pool, table, Date.now()), { dropped: false, keeps: KEPT_MOVED_MAX + 1 })
  assert.equal((await tableOf(table.name)).attached, true)
})

test('through 120 days what is to be kept is there, and nothing else', async () => {
  const fresh = await createStorage()
  const shared = storage
  storage = fresh
  try {
    const { pool } = fresh
    const retention = createRetention({ pool, retention: RETENTION, context: OUTSIDE })
    const put5: [number, string][] = []
    const put90: [number, string][] = []
    const later: [number, string][] = []
    for (let day = 0; day < 120; day++) {
      const dayMs = todayMs + day * DAY_MS
      const atMs = dayMs + 3_600_000
      await retention.createDayTables({ atMs })
      put5.push([day, await put(dayMs + 2 * 3_600_000, { keptDays: 5 })])
      put90.push([day, await put(dayMs + 23 * 3_600_000)])
      if (day % 10 === 0) later.push([day, await put(dayMs + 4 * 3_600_000, { deliverAfterDays: 20 })])
      for (const table of await retention.dueDayTables({ atMs })) await retention.dropDayTable({ table, atMs })
      while ((await retention.removeOldRows({ atMs })).more);
      if (day % 7 !== 0 && day < 115) continue
      const ids = async (text: string) => new Set((await pool.query<{ id: string }>(text)).rows.map(({ id }) => id))
      const within = (all: [number, string][], days: number) => all.filter(([of]) => of >= day - days).map(([, id]) => id)
      const messages = [...within(put5, 90), ...within(put90, 90), ...within(later, 110)]
      assert.deepEqual(await ids('SELECT id FROM message'), new Set(messages), `messages on day ${day}`)
      const attempted = (days: number) => new Set([put5, put90, later].flatMap((all) => within(all, days)))
      assert.deepEqual(await ids('SELECT message_id AS id FROM attempt WHERE status = 0'), attempted(30), `successes on day ${day}`)
      assert.deepEqual(await ids('SELECT message_id AS id FROM attempt WHERE status <> 0'), attempted(90), `failures on day ${day}`)
      assert.deepEqual(await ids('SELECT message_id AS id FROM delivery'), attempted(90), `dead letters on day ${day}`)
      assert.deepEqual(await ids('SELECT message_id AS id FROM message_event_id'), new Set(messages), `event ids on day ${day}`)
      // The table of the day on which they end goes the day after.
      assert.deepEqual(await ids('SELECT message_id AS id FROM message_payload'), new Set(within(put5, 5)), `short payloads on day ${day}`)
      for (const [of, id] of put5)
        if (of >= day - 90)
          assert.equal((await payloadAt(id, atMs)) !== null, of > day - 5 || of === day - 5, `payload of day ${of} on day ${day}`)
    }
    const left = await listDayTables(pool)
    const oldest = (parents: readonly string[]) =>
      Math.min(...left.filter(({ parent }) => parents.includes(parent)).map(({ dayMs }) => (dayMs - todayMs) / DAY_MS))
    assert.equal(oldest(['message', 'attempt', 'message_payload']), 119 - 90)
    assert.deepEqual([oldest(['idempotency_key']), oldest(['audit_log'])], [119 - 1, 0])
  } finally {
    storage = shared
    await fresh.drop()
  }
})

test('a database with history from before there were days keeps it, and drops it when the last of it is old enough', async () => {
  const { pool } = storage
  await pool.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public')
  await migrateUpTo(pool, '0019')
  const times = [todayMs - 60 * DAY_MS, todayMs - DAY_MS, Date.now(), todayMs + 3 * DAY_MS]
  for (const ms of times) {
    const id = newId('msg', ms)
    await pool.query(
      `INSERT INTO message (id, app_id, event_type, payload, expires_at) VALUES ($1, 'app_1', 'e', '{}', now() + interval '9 days')`,
      [id],
    )
    await pool.query(
      `INSERT INTO attempt (message_id, id, endpoint_id, app_id, event_type, url, status, response_code, response_body, duration_ms, trigger, group_id, run_id, created_at)
       SELECT $1, $2 || s, 'ep_1', 'app_1', 'e', 'http://x', s, 0, '', 0, 0, $1, gen_random_uuid(), now() FROM generate_series(0, 2, 2) s`,
      [id, newId('atmpt', ms)],
    )
  }
  await migrate(pool)
  assert.equal(await count(pool, 'message', `payload_at(now(), id, expires_at, payload) = '{}'`), 4)
  assert.equal(await count(pool, 'attempt'), 8)
  const before = (await listDayTables(pool)).filter(({ name }) => name.includes('_before_'))
  assert.deepEqual(
    before.map(({ parent, dayMs }) => [parent, dayMs]),
    [
      ['attempt', todayMs],
      ['message', todayMs],
    ],
  )
  await put(Date.now())
  const retention = createRetention({ pool, retention: RETENTION, context: OUTSIDE })
  for (const [days, messages] of [
    [90, 5],
    [91, 1],
  ] as const) {
    const atMs = todayMs + days * DAY_MS
    await retention.createDayTables({ atMs })
    for (const table of await retention.dueDayTables({ atMs })) await retention.dropDayTable({ table, atMs })
    assert.equal(await count(pool, 'message'), messages)
  }
})
