import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { createRetention } from '../../activities/retention.ts'
import { newId } from '../../domain/ids.ts'
import { insertAuditEntry, listAuditEntries, type AuditEntry } from '../../storage/audit-log.ts'
import { migrate } from '../../storage/migrate.ts'
import { createDays, dropDay, isLocked, listDayTables } from '../../storage/partitions.ts'
import { inTransaction } from '../../storage/pool.ts'
import { migrateUpTo } from '../support/migrations.ts'
import { count, createStorage, type Storage } from './rows.ts'

const DAY_MS = 86_400_000
const OUTSIDE = () => ({ heartbeat: () => undefined, cancellationSignal: new AbortController().signal })
const todayMs = Math.floor(Date.now() / DAY_MS) * DAY_MS

let storage: Storage
before(async () => {
  storage = await createStorage()
})
after(() => storage.drop())
beforeEach(() => storage.pool.query('TRUNCATE audit_log'))

const retentionOf = (auditDays: number) =>
  createRetention({ pool: storage.pool, retention: { deliveredDays: 30, failedDays: 90, auditDays }, context: OUTSIDE })

async function run(auditDays: number, atMs: number): Promise<void> {
  const retention = retentionOf(auditDays)
  await retention.createDayTables({ atMs })
  for (const table of await retention.dueDayTables({ atMs })) await retention.dropDayTable({ table, atMs })
  while ((await retention.removeOldRows({ atMs })).more);
}

/** An entry of a time. @returns its id */
async function write(atMs: number, appId: string | null = 'app_1'): Promise<string> {
  const id = newId('audit', atMs)
  await storage.pool.query(
    `INSERT INTO audit_log (id, org_id, app_id, actor, operation, object_id, fields, created_at)
     VALUES ($1, 'org', $2, 'org', 'application.updated', 'app_1', '{name}', to_timestamp($3::float8 / 1000))`,
    [id, appId, atMs],
  )
  return id
}

/** All ids of the log by pages of three. */
async function list(
  order: 'ascending' | 'descending',
  filter: { appId?: string; beforeId?: string; afterId?: string } = {},
): Promise<string[]> {
  const ids: string[] = []
  for (let from: string | undefined; ;) {
    const page = await listAuditEntries(storage.pool, { orgId: 'org', ...filter }, { limit: 3, order, from })
    const back = await listAuditEntries(
      storage.pool,
      { orgId: 'org', ...filter },
      { limit: 3, order, from: page.rows[0]?.id, backwards: true },
    )
    if (from !== undefined)
      assert.deepEqual(
        back.rows.map(({ id }) => id),
        ids.slice(-3),
      )
    ids.push(...page.rows.map((row: AuditEntry) => row.id))
    if (page.done) return ids
    from = ids.at(-1)
  }
}

const tables = async () => (await listDayTables(storage.pool)).filter(({ parent }) => parent === 'audit_log')

test('lists go through days in order, with all filters, and entries without a day of their own among them', async () => {
  const ids: string[] = []
  for (const day of [-300, -40, -2, 0, 0.1, 3, 5, 50, 70]) ids.push(await write(todayMs + day * DAY_MS, day === 3 ? null : 'app_1'))
  assert.deepEqual(await list('ascending'), ids)
  assert.deepEqual(await list('descending'), ids.toReversed())
  assert.deepEqual(await list('descending', { appId: 'app_1' }), ids.filter((_, i) => i !== 5).toReversed())
  assert.deepEqual(await list('ascending', { afterId: ids[1]!, beforeId: ids[7]! }), ids.slice(2, 7))
  const written = await insertAuditEntry(storage.pool, {
    ...{ orgId: 'org', appId: null, actor: 'a', tokenId: null, operation: 'o', objectId: 'x', fields: [] },
  })
  assert.equal((await tables()).length, 8)
  assert.equal(
    await count(
      storage.pool,
      `audit_log_${new Date(todayMs).toISOString().slice(0, 10).replaceAll('-', '')}` as 'message',
      `id = '${written}'`,
    ),
    1,
  )
})

test('entries of a day without a table are in it when it is made', async () => {
  const dayMs = todayMs + 40 * DAY_MS
  const ids = [await write(dayMs), await write(dayMs + DAY_MS - 4), await write(dayMs + DAY_MS)]
  const before = (await storage.pool.query('SELECT * FROM audit_log ORDER BY id')).rows
  assert.equal(await createDays(storage.pool, 'audit_log', { fromMs: dayMs, toMs: dayMs }), 1)
  assert.equal(await count(storage.pool, 'audit_log_default' as 'message'), 1)
  assert.deepEqual((await storage.pool.query('SELECT * FROM audit_log ORDER BY id')).rows, before)
  assert.deepEqual(await list('ascending'), ids)
  await dropDay(
    storage.pool,
    (await tables()).find((one) => one.dayMs === dayMs)!,
    Date.now(),
  )
})

test('through days what is to be kept is there, and nothing else; with 0 days it is kept for ever', async () => {
  const ids: [number, string][] = []
  for (let day = 10; day < 22; day++) {
    const atMs = todayMs + day * DAY_MS + 3_600_000
    ids.push([day, await write(atMs + 3_600_000)])
    await run(7, atMs + 2 * 3_600_000)
    assert.deepEqual(
      await list('ascending'),
      ids.filter(([of]) => of >= day - 7).map(([, id]) => id),
      `on day ${day}`,
    )
  }
  const old = await write(todayMs - 20 * DAY_MS)
  const there = await list('ascending')
  await run(0, todayMs + 2000 * DAY_MS)
  assert.deepEqual(await list('ascending'), there)
  assert.ok(there.includes(old))
  await run(7, todayMs + 22 * DAY_MS)
  assert.ok(!(await list('ascending')).includes(old))
})

test('a table of the audit log that others use is left for later, and nobody waits for it', async () => {
  const dayMs = todayMs - 400 * DAY_MS
  await createDays(storage.pool, 'audit_log', { fromMs: dayMs, toMs: dayMs })
  const find = async () => (await tables()).find((one) => one.dayMs === dayMs)!
  await inTransaction(storage.pool, async (client) => {
    await client.query('SELECT FROM audit_log LIMIT 1')
    const dropping = assert.rejects(dropDay(storage.pool, await find(), Date.now()), isLocked)
    const startedAt = performance.now()
    await write(todayMs)
    // 100 ms, and what a busy machine adds.
    assert.ok(performance.now() - startedAt < 1000)
    await dropping
    assert.equal((await find()).attached, true)
  })
  assert.deepEqual(await dropDay(storage.pool, await find(), Date.now()), { dropped: true, kept: 0 })
})

test('an audit log from before there were days is one of its tables, and goes when the last of it is old enough', async () => {
  const { pool } = storage
  await pool.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public')
  await migrateUpTo(pool, '0021')
  const ids: string[] = []
  for (const day of [-800, -300, 0, 3]) ids.push(await write(todayMs + day * DAY_MS + 1000))
  const rows = (await pool.query('SELECT * FROM audit_log ORDER BY id')).rows
  await migrate(pool)
  assert.deepEqual((await pool.query('SELECT * FROM audit_log ORDER BY id')).rows, rows)
  assert.deepEqual(await list('descending'), ids.toReversed())
  assert.deepEqual(
    (await tables()).filter(({ name }) => name.includes('_before_')).map(({ dayMs }) => dayMs),
    [todayMs],
  )
  await run(365, todayMs + 365 * DAY_MS)
  assert.deepEqual(await list('ascending'), ids)
  await run(365, todayMs + 366 * DAY_MS)
  assert.deepEqual(await list('ascending'), ids.slice(3))
})
