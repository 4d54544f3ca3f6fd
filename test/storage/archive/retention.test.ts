import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createRetention } from '../../../activities/retention.ts'
import { archiveRange } from '../../../storage/archive/archive-range.ts'
import { restoreArchive } from '../../../storage/archive/restore.ts'
import { verifyArchive } from '../../../storage/archive/verify.ts'
import { createDays } from '../../../storage/partitions.ts'
import { createStorage, type Storage } from '../rows.ts'
import { cipher, createFileArchive, fillDay, OWNER } from './fill.ts'

const DAY_MS = 86_400_000
/** There is no activity. */
const OUTSIDE = () => ({ heartbeat: () => undefined, cancellationSignal: new AbortController().signal })
const todayMs = Math.floor(Date.now() / DAY_MS) * DAY_MS
/** Days ago: of two days nothing is kept, of one the successes are old, one is fresh. */
const DAYS = [95, 91, 40, 1]

let storage: Storage
let archive: Awaited<ReturnType<typeof createFileArchive>>

before(async () => {
  storage = await createStorage()
  archive = await createFileArchive()
  for (const days of DAYS) {
    const dayMs = todayMs - days * DAY_MS
    for (const parent of ['message', 'attempt'] as const) await createDays(storage.pool, parent, { fromMs: dayMs, toMs: dayMs })
    for (const appId of ['app_a', 'app_b']) {
      await fillDay(storage.pool, { appId, messages: 20, attemptsEach: 3, day: new Date(dayMs).toISOString().slice(0, 10) })
    }
  }
  await storage.pool.query(
    'CREATE TABLE everything_message AS SELECT * FROM message; CREATE TABLE everything_attempt AS SELECT * FROM attempt',
  )
})

after(async () => {
  archive.remove()
  await storage.drop()
})

const count = async (text: string) => (await storage.pool.query<{ count: number }>(`SELECT count(*) AS count FROM ${text}`)).rows[0]!.count

const retention = () =>
  createRetention({
    pool: storage.pool,
    retention: { deliveredDays: 30, failedDays: 90, auditDays: 365 },
    archiver: { archiveRange: (range) => archiveRange({ ...range, pool: storage.pool, store: archive.store, cipher, owner: OWNER }) },
    context: OUTSIDE,
  })

test('what is dropped is archived before: the database and the archive together have every row once', async () => {
  const run = retention()
  const atMs = Date.now()
  const due = await run.dueDayTables({ atMs })
  assert.deepEqual(
    due.map(({ archived, parent, part }) => [archived, parent, part]),
    [
      [true, 'attempt', 'whole'],
      [true, 'message', 'whole'],
      [true, 'attempt', 'whole'],
      [true, 'message', 'whole'],
      [true, 'attempt', 'delivered'],
    ],
  )
  for (const table of due) {
    // As after a worker was killed: what is archived already is left as it is.
    const [rows, again] = [await run.archiveDayTable({ table }), await run.archiveDayTable({ table })]
    assert.equal(again, rows)
    await run.dropDayTable({ table, atMs })
    assert.equal(await run.archiveDayTable({ table }), 0)
  }
  assert.deepEqual((await verifyArchive({ store: archive.store, cipher }, {})).problems, [])
  const tables = ['message', 'attempt'] as const
  await restoreArchive({ pool: storage.pool, store: archive.store, cipher, schema: 'archive_all', tables, query: () => ({}) })
  for (const table of tables) {
    const both = `(SELECT t::text FROM ${table} t UNION ALL SELECT t::text FROM archive_all.${table} t)`
    assert.equal(await count(`(${both} EXCEPT ALL SELECT t::text FROM everything_${table} t) d`), 0)
    assert.equal(await count(`(SELECT t::text FROM everything_${table} t EXCEPT ALL ${both}) d`), 0)
  }
  assert.deepEqual([await count('message'), await count('attempt')], [80, 80 * 3 - 40])
})
