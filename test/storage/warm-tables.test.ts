import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { createRetention } from '../../activities/retention.ts'
import { createWarmTables } from '../../activities/warm-tables.ts'
import { lowestIdAt, newId } from '../../domain/ids.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { expungeAttempt, listAttempts } from '../../storage/history/attempts.ts'
import { expungeMessage, findMessage } from '../../storage/history/messages.ts'
import { isLocked, listDayTables } from '../../storage/partitions.ts'
import { createPool, inTransaction, type Pool } from '../../storage/pool.ts'
import { moveDay, placeDayTables, WarmTableError } from '../../storage/warm-tables.ts'
import { eventually } from '../support/eventually.ts'
import { watchLockWaits } from '../support/lock-waits.ts'
import { createTablespace, type TestTablespace } from '../support/tablespace.ts'
import { createStorage, newMessage, type Storage } from './rows.ts'

const DAY_MS = 86_400_000
const RETENTION = { deliveredDays: 30, failedDays: 90, auditDays: 365 }
const todayMs = Math.floor(Date.now() / DAY_MS) * DAY_MS
const FAST = 1e12
/** There is no activity. */
const OUTSIDE = () => ({ heartbeat: () => undefined, cancellationSignal: new AbortController().signal })

let storage: Storage
let warm: TestTablespace
let day = 10

before(async () => {
  storage = await createStorage(12)
  warm = await createTablespace(storage.url)
})
after(async () => {
  await storage.drop()
  await warm.drop()
})

const daysAgo = (days: number) => todayMs - days * DAY_MS
const nameOf = (parent: string, dayMs: number) => `${parent}_${new Date(dayMs).toISOString().slice(0, 10).replaceAll('-', '')}`
const activities = (pool = storage.pool, tablespace: string | null = warm.name) =>
  createWarmTables({
    ...{ pool, retention: RETENTION, context: OUTSIDE },
    warm: tablespace === null ? undefined : { tablespace, hotDays: 7, bytesPerSecond: FAST },
  })

interface Filled {
  readonly dayMs: number
  readonly messages: string
  readonly delivered: string
  readonly failed: string
  readonly all: readonly string[]
}

/** A day of its own for each test: messages whose payloads do not compress, each with an attempt that succeeded and one that failed. */
async function fill(rows = 3000): Promise<Filled> {
  const dayMs = daysAgo(day++)
  const { pool } = storage
  for (const parent of ['message', 'attempt'])
    await pool.query('SELECT create_day($1, $2)', [parent, new Date(dayMs).toISOString().slice(0, 10)])
  await pool.query(
    `INSERT INTO message (id, app_id, event_type, payload, created_at, expires_at)
     SELECT $1 || n, 'app_1', 'e', (SELECT string_agg(md5(n::text || i), '') FROM generate_series(1, 130) i), to_timestamp($3::float8 / 1000),
       now() + interval '60 days' FROM generate_series(1, $2) n`,
    [lowestIdAt('msg', dayMs), rows, dayMs],
  )
  await pool.query(
    `INSERT INTO attempt (message_id, id, endpoint_id, app_id, event_type, url, status, response_code, response_body, duration_ms, trigger, group_id, run_id, created_at)
     SELECT $1 || n, $2 || n || s, 'ep_1', 'app_1', 'e', 'http://x', s, 200, repeat('answer ', 20), 1, 0, $1, gen_random_uuid(), to_timestamp($4::float8 / 1000)
     FROM generate_series(1, $3) n, generate_series(0, 2, 2) s`,
    [lowestIdAt('msg', dayMs), lowestIdAt('atmpt', dayMs), rows, dayMs],
  )
  const messages = nameOf('message', dayMs)
  const [delivered, failed] = [`${nameOf('attempt', dayMs)}_delivered`, `${nameOf('attempt', dayMs)}_failed`]
  return { dayMs, messages, delivered, failed, all: [messages, delivered, failed] }
}

/** Every row of a table, and how many. */
async function contentOf(name: string): Promise<{ rows: number; digest: string | null }> {
  const { rows } = await storage.pool.query<{ rows: number; digest: string | null }>(
    `SELECT count(*) AS rows, md5(string_agg(md5(t::text), '' ORDER BY id)) AS digest FROM ${name} t`,
  )
  return rows[0]!
}

/** Where a table, its indexes, and what is stored apart from its rows, with its index, are. */
async function placesOf(name: string): Promise<string[]> {
  const { rows } = await storage.pool.query<{ place: string }>(
    `WITH own AS (SELECT oid, reltoastrelid FROM pg_class WHERE oid = $1::regclass),
       tables AS (SELECT oid FROM own UNION SELECT reltoastrelid FROM own),
       all_of AS (SELECT oid FROM tables UNION SELECT indexrelid FROM pg_index JOIN tables ON indrelid = tables.oid)
     SELECT coalesce(t.spcname, 'default') AS place FROM all_of JOIN pg_class c USING (oid) LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace`,
    [name],
  )
  return rows.map(({ place }) => place)
}

const left = async () => {
  const { rows } = await storage.pool.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relname ~ '^(message|attempt)_.*_(copy|moved)$' UNION ALL SELECT day_table FROM day_move
     UNION ALL SELECT day_table FROM day_change UNION ALL SELECT tgname FROM pg_trigger WHERE tgname = 'day_move'`,
  )
  return rows.map(({ name }) => name)
}

test('a day is in the warm tablespace with its indexes and what is stored apart, and is what it was', async () => {
  const { dayMs, all, messages, delivered } = await fill()
  const contents = await Promise.all(all.map(contentOf))
  const { warmDayTables, moveDayTable } = activities()
  const due = (await warmDayTables({ atMs: Date.now() })).map(({ name }) => name)
  assert.deepEqual(due.toSorted(), all.toSorted())
  for (const name of due) assert.equal(await moveDayTable({ name, atMs: Date.now(), untilMs: Date.now() + 60_000 }), true)
  for (const [i, name] of all.entries()) {
    const places = await placesOf(name)
    assert.ok(places.length >= 4, `${places.length}`)
    assert.deepEqual(new Set(places), new Set([warm.name]), name)
    assert.deepEqual(await contentOf(name), contents[i])
  }
  const { rows } = await storage.pool.query<{ what: string }>(
    `SELECT c.relname || ' ' || coalesce(c.reloptions::text, '') AS what FROM pg_class c
     WHERE c.oid = ANY($1::regclass[]) AND (c.reloptions IS NOT NULL OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid)
       OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = c.oid AND conname = 'day_move_bound') OR NOT c.relispartition)
     UNION ALL SELECT 'index ' || x.indexrelid::regclass FROM pg_index x LEFT JOIN pg_inherits i ON i.inhrelid = x.indexrelid
     WHERE x.indrelid = ANY($1::regclass[]) AND (i.inhrelid IS NULL OR NOT x.indisvalid)`,
    [`{${all.join(',')}}`],
  )
  assert.deepEqual(rows, [])
  assert.deepEqual(await left(), [])
  assert.deepEqual(await warmDayTables({ atMs: Date.now() }), [])
  assert.equal(await moveDayTable({ name: messages, atMs: Date.now(), untilMs: Date.now() + 1000 }), true)

  // Read as before, and dropped as before; tables of new days are where they always were.
  const id = `${lowestIdAt('msg', dayMs)}7`
  assert.equal((await findMessage(storage.pool, 'app_1', id, { withPayload: true }))!.payload!.length, 130 * 32)
  const retention = createRetention({ pool: storage.pool, retention: RETENTION, context: OUTSIDE })
  const table = (await listDayTables(storage.pool)).find(({ name }) => name === delivered)!
  assert.deepEqual(await retention.dropDayTable({ table, atMs: Date.now() }), { dropped: true, kept: 0 })
  assert.deepEqual(new Set(await placesOf(nameOf('message', todayMs))), new Set(['default']))
})

test('a table becomes a partition without being read', async () => {
  const { messages } = await fill(10)
  const notices: string[] = []
  const client = await storage.pool.connect()
  try {
    client.on('notice', ({ message }) => notices.push(message ?? ''))
    await moveDay(storage.pool, messages, { tablespace: warm.name, bytesPerSecond: FAST, isOver: () => false })
    // Exchanged once more, back, where it is seen what Postgres says.
    await client.query(`SELECT begin_day_move('${messages}', 'pg_default'); SELECT copy_day_pages('${messages}', 1000)`)
    await client.query(`SET client_min_messages = debug1`)
    await client.query(`SELECT swap_day('${messages}', 1000000)`)
    await client.query('RESET client_min_messages')
    await client.query(`SELECT end_day_move('${messages}')`)
  } finally {
    client.removeAllListeners('notice')
    client.release()
  }
  assert.match(notices.join('\n'), new RegExp(`partition constraint for table "${messages}" is implied by existing constraints`))
  assert.equal((await contentOf(messages)).rows, 10)
  assert.deepEqual(new Set(await placesOf(messages)), new Set(['default']))
  await moveDay(storage.pool, messages, { tablespace: warm.name, bytesPerSecond: FAST })
})

test('what changes while a table is copied is so in the copy, and a move that was stopped goes on', async () => {
  const { dayMs, messages, failed } = await fill()
  const { pool } = storage
  const [low, lowAttempt] = [lowestIdAt('msg', dayMs), lowestIdAt('atmpt', dayMs)]
  const change = async (from: number) => {
    await expungeMessage(pool, `${low}${from}`)
    await pool.query('UPDATE message SET cancelled_at = now() WHERE id = $1', [`${low}${from + 1}`])
    await pool.query('DELETE FROM message WHERE id = ANY($1::text[])', [[`${low}${from + 2}`, `${low}${from + 3}`]])
    await acceptMessages(pool, [newMessage({ id: newId('msg', dayMs + from * 1000), createdAtMs: dayMs })], false, 0)
    assert.equal(await expungeAttempt(pool, `${low}${from}`, `${lowAttempt}${from}2`), true)
    await pool.query('DELETE FROM attempt WHERE message_id = $1', [`${low}${from + 1}`])
    // Deleted and there again, and there and deleted again.
    await pool.query('WITH gone AS (DELETE FROM message WHERE id = $1 RETURNING *) INSERT INTO message SELECT * FROM gone', [
      `${low}${from + 4}`,
    ])
    const brief = newMessage({ id: newId('msg', dayMs + from * 1000 + 1), createdAtMs: dayMs })
    await acceptMessages(pool, [brief], false, 0)
    await pool.query('DELETE FROM message WHERE id = $1', [brief.id])
  }
  for (const name of [messages, failed]) {
    let asked = 0
    const stopped = await moveDay(pool, name, { tablespace: warm.name, bytesPerSecond: FAST, isOver: () => ++asked > 1 })
    assert.equal(stopped, false)
    assert.equal((await placeDayTables(pool)).find((table) => table.name === name)!.begun, true)
  }
  assert.deepEqual((await left()).filter((name) => name === 'day_move').length, 2)
  for (const from of [10, 1500, 2900]) await change(from)
  const contents = [await contentOf(messages), await contentOf(failed)]
  for (const name of [messages, failed]) assert.equal(await moveDay(pool, name, { tablespace: warm.name, bytesPerSecond: FAST }), true)
  assert.deepEqual([await contentOf(messages), await contentOf(failed)], contents)
  assert.deepEqual(await left(), [])
})

test('a copy that lacks a row never takes the place of its table', async () => {
  const { messages } = await fill(50)
  const move = { tablespace: warm.name, bytesPerSecond: FAST }
  let asked = 0
  await moveDay(storage.pool, messages, { ...move, isOver: () => ++asked > 1 })
  await storage.pool.query(`DELETE FROM ${messages}_copy WHERE id LIKE '%7'`)
  await assert.rejects(moveDay(storage.pool, messages, move), (error) => error instanceof WarmTableError && error.code === 'rows_differ')
  assert.deepEqual(await left(), [])
  assert.equal((await contentOf(messages)).rows, 50)
  assert.equal(await moveDay(storage.pool, messages, move), true)
})

test('what a process that died has left goes, whatever it was at', async () => {
  const filled = await fill(50)
  const { pool } = storage
  const move = { tablespace: warm.name, bytesPerSecond: FAST }
  // Exchanged, and not dropped: of what is there no row is missing or double.
  await pool.query(`SELECT begin_day_move('${filled.messages}', '${warm.name}'); SELECT copy_day_pages('${filled.messages}', 1000);
    SELECT swap_day('${filled.messages}', 1000000)`)
  assert.equal((await contentOf(filled.messages)).rows, 50)
  // Copied, where the tablespace is another one now; and copied, where the table is dropped meanwhile.
  let asked = 0
  const stop = { ...move, isOver: () => ++asked % 2 === 0 }
  await moveDay(pool, filled.delivered, stop)
  await moveDay(pool, filled.failed, stop)
  const retention = createRetention({ pool, retention: RETENTION, context: OUTSIDE })
  const table = (await listDayTables(pool)).find(({ name }) => name === filled.failed)!
  await retention.dropDayTable({ table, atMs: Date.now() })
  await activities().warmDayTables({ atMs: Date.now() })
  assert.deepEqual(
    (await left()).filter((name) => name !== 'day_move'),
    [`${filled.delivered}_copy`, filled.delivered],
  )
  assert.deepEqual(await activities(pool, null).warmDayTables({ atMs: Date.now() }), [])
  assert.deepEqual(await left(), [])
  assert.equal((await contentOf(filled.delivered)).rows, 50)
  assert.equal(await moveDay(pool, filled.delivered, move), true)
})

test('two that move the same table at a time move it once', async () => {
  const { messages } = await fill()
  const content = await contentOf(messages)
  const move = () => activities().moveDayTable({ name: messages, atMs: Date.now(), untilMs: Date.now() + 60_000 })
  const both = await Promise.allSettled([move(), pause(100).then(move)])
  assert.ok(both.some((one) => one.status === 'fulfilled' && one.value))
  // As Temporal does with one that has failed.
  assert.equal(await move(), true)
  assert.deepEqual(await contentOf(messages), content)
  assert.deepEqual(new Set(await placesOf(messages)), new Set([warm.name]))
  assert.deepEqual(await left(), [])
})

test('who has an older snapshot sees every row, and who uses the table is waited for', async () => {
  const { dayMs, messages } = await fill(50)
  const { pool } = storage
  const ids = [lowestIdAt('msg', dayMs), lowestIdAt('msg', dayMs + DAY_MS)]
  const seen = 'SELECT count(*) AS rows FROM message WHERE id >= $1 AND id < $2'
  const move = { tablespace: warm.name, bytesPerSecond: FAST }
  let moving: Promise<boolean> | undefined
  await inTransaction(pool, async (client) => {
    await client.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ')
    await client.query('SELECT 1')
    moving = moveDay(pool, messages, move)
    await eventually(
      async () => (await pool.query<{ checked: boolean }>('SELECT checked FROM day_move')).rows[0]?.checked,
      (checked) => checked === true,
    )
    await pause(200)
    assert.deepEqual((await client.query(seen, ids)).rows, [{ rows: 50 }])
    assert.equal((await pool.query('SELECT FROM day_move WHERE NOT swapped')).rowCount, 1)
  })
  assert.equal(await moving, true)
  const other = await fill(50)
  await inTransaction(pool, async (client) => {
    await client.query('SELECT FROM message LIMIT 1')
    await assert.rejects(moveDay(pool, other.messages, move), isLocked)
  })
  assert.equal(await moveDay(pool, other.messages, move), true)
})

test('a tablespace that is not there, or may not be used, is named', async () => {
  const { pool } = storage
  const failing = (tablespace: string, of: Pool = pool) => activities(of, tablespace).warmDayTables({ atMs: Date.now() })
  await assert.rejects(failing('nowhere'), /the tablespace "nowhere" of TIDINGS_WARM_TABLESPACE is not there: CREATE TABLESPACE/)
  const role = `${warm.name}_reader`
  await pool.query(`CREATE ROLE ${role}; GRANT SELECT, UPDATE ON day_move TO ${role}; GRANT ${role} TO CURRENT_USER`)
  const reader = createPool(`${storage.url}?options=-c%20role%3D${role}`, 1)
  try {
    await assert.rejects(failing(warm.name, reader), /may not be used by this role: GRANT CREATE ON TABLESPACE/)
  } finally {
    await reader.end()
    await pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
  }
})

/** Reads and writes until it is told to stop; each of its statements gives up where it has to wait for a lock for 100 ms. */
async function useAllTheTime(days: readonly Filled[], rows: number): Promise<() => Promise<Record<string, number>>> {
  const pool = createPool(`${storage.url}?options=-c%20lock_timeout%3D100`, 8)
  const done: Record<string, number> = {}
  let stopped = false
  const loop = async (what: string, everyMs: number, work: (n: number) => Promise<unknown>) => {
    for (let n = 0; !stopped; n++) {
      await work(n)
      done[what] = n + 1
      await pause(everyMs)
    }
  }
  const some = (n: number) => days[n % days.length]!
  const of = ({ dayMs }: Filled) => [lowestIdAt('msg', dayMs), lowestIdAt('msg', dayMs + DAY_MS)]
  const seen = 'SELECT count(*) AS rows FROM message WHERE id >= $1 AND id < $2'
  const row = (n: number) => `${lowestIdAt('msg', some(n).dayMs)}${1 + (n % rows)}`
  const working = [
    loop('accepted', 2, () => acceptMessages(pool, [newMessage()], false, 0)),
    loop('listed', 5, () => listAttempts(pool, 'app_1', { endpointId: 'ep_1' }, { limit: 50, order: 'descending' })),
    loop('without a day', 5, () => pool.query(`SELECT count(*) FROM attempt WHERE endpoint_id = 'ep_2'`)),
    loop('counted', 5, async (n) => assert.deepEqual((await pool.query(seen, of(some(n)))).rows, [{ rows }])),
    loop('counted in an older snapshot', 40, (n) =>
      inTransaction(pool, async (client) => {
        await client.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ')
        await client.query('SELECT 1')
        await pause(15)
        assert.deepEqual((await client.query(seen, of(some(n)))).rows, [{ rows }])
      }),
    ),
    loop('updated messages', 90, (n) => pool.query('UPDATE message SET cancelled_at = now() WHERE id = $1', [row(n)])),
    loop('updated attempts', 90, (n) => pool.query(`UPDATE attempt SET response_body = 'gone' WHERE message_id = $1`, [row(n)])),
  ]
  return async () => {
    stopped = true
    try {
      await Promise.all(working)
    } finally {
      await pool.end()
    }
    return done
  }
}

test('under load nobody waits for a lock for 100 ms, and every change is there', async (t) => {
  const rows = 2000
  const days = [await fill(rows), await fill(rows)]
  const stop = await useAllTheTime(days, rows)
  const watched = await watchLockWaits(storage.url)
  const { warmDayTables, moveDayTable } = activities()
  await pause(500)
  const mine = new Set(days.flatMap(({ all }) => all))
  const toMove = async () => (await warmDayTables({ atMs: Date.now() })).filter(({ name }) => mine.has(name))
  const tables = await toMove()
  assert.equal(tables.length, 6)
  let tries = 0
  for (const { name } of tables) {
    for (let moved = false; !moved && tries < 60; tries++) {
      moved = await moveDayTable({ name, atMs: Date.now(), untilMs: Date.now() + 60_000 }).catch((error: unknown) => {
        assert.equal((error as { type?: unknown }).type, 'Locked')
        return pause(300, false)
      })
    }
  }
  const [done, waits] = [await stop(), await watched()]
  t.diagnostic(`${tries} tries for 6 tables; ${JSON.stringify(done)}; waits for locks: ${JSON.stringify(waits)}`)
  assert.deepEqual(await toMove(), [])
  assert.ok(waits.longestMs < 100, `${waits.longestMs} ms`)
  assert.deepEqual(await left(), [])
  for (const { messages, delivered, failed, dayMs } of days) {
    const low = lowestIdAt('msg', dayMs)
    for (const name of [messages, delivered, failed]) {
      assert.equal((await contentOf(name)).rows, rows)
      assert.deepEqual(new Set(await placesOf(name)), new Set([warm.name]))
    }
    const changed = async (text: string) => (await storage.pool.query<{ n: number }>(text, [`${low}%`])).rows[0]!.n
    const wanted = (n: number) => Math.ceil(n / days.length) - (dayMs === days[0]!.dayMs ? 0 : n % 2)
    assert.equal(
      await changed('SELECT count(*) AS n FROM message WHERE id LIKE $1 AND cancelled_at IS NOT NULL'),
      wanted(done['updated messages']!),
    )
    assert.equal(
      await changed(`SELECT count(*) AS n FROM attempt WHERE message_id LIKE $1 AND response_body = 'gone'`),
      2 * wanted(done['updated attempts']!),
    )
  }
})
