import assert from 'node:assert/strict'
import { readFileSync, readdirSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import { idsOfDay, manifestKeyOf, objectPrefixOf, type ArchiveManifest } from '../../../domain/archive.ts'
import { newId } from '../../../domain/ids.ts'
import { LIMITS } from '../../../domain/limits.ts'
import { archiveRange, isArchived } from '../../../storage/archive/archive-range.ts'
import { readManifest } from '../../../storage/archive/manifests.ts'
import type { ObjectStore } from '../../../storage/archive/object-store.ts'
import { readObject } from '../../../storage/archive/objects.ts'
import { withPartLock } from '../../../storage/archive/rows.ts'
import { lockNameOf } from '../../../storage/archive/erase.ts'
import { restoreArchive } from '../../../storage/archive/restore.ts'
import { ARCHIVED } from '../../../storage/archive/tables.ts'
import { verifyArchive } from '../../../storage/archive/verify.ts'
import { createStorage, type Storage } from '../rows.ts'
import { at, cipher, createFileArchive, DAY, fillDay, OWNER, partOf, rangeOf } from './fill.ts'

let storage: Storage
let archive: Awaited<ReturnType<typeof createFileArchive>>
let store: ObjectStore

before(async () => {
  storage = await createStorage()
})
beforeEach(async () => {
  archive = await createFileArchive()
  store = archive.store
})
afterEach(async () => {
  archive.remove()
  await storage.pool.query('TRUNCATE message, attempt, application, background_task')
  await storage.pool.query('DROP SCHEMA IF EXISTS archive_test CASCADE')
})
after(() => storage.drop())

const MESSAGES = partOf('message')
const ALL = { query: () => ({}), schema: 'archive_test', tables: ['message', 'attempt'] } as const

async function idsIn(manifest: ArchiveManifest): Promise<string[]> {
  const ids: string[] = []
  for (const object of manifest.objects) {
    for await (const rows of readObject({ store, cipher, table: manifest.table }, object))
      ids.push(...rows.map((row) => row['id'] as string))
  }
  return ids
}

async function keysUnder(prefix: string): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list(prefix)) keys.push(key)
  return keys
}

test('every column of the tables is archived', async () => {
  for (const table of ['message', 'attempt'] as const) {
    const { rows } = await storage.pool.query<{ name: string }>(
      `SELECT column_name AS name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1`,
      [table],
    )
    assert.deepEqual(ARCHIVED[table].columns.map(({ name }) => name).sort(), rows.map(({ name }) => name).sort())
  }
})

test('a day that is archived and restored is the same, byte by byte', async () => {
  const { pool } = storage
  await fillDay(pool, { appId: 'app_b', messages: 40 })
  await fillDay(pool, { appId: 'app_a', messages: 25, attemptsEach: 3 })
  await fillDay(pool, { appId: 'app_a', messages: 5, day: '2026-08-19' })
  for (const part of [MESSAGES, partOf('attempt', 'success'), partOf('attempt', 'failure')]) {
    const { manifest, written } = await archiveRange(rangeOf(pool, store, part))
    assert.ok(written)
    assert.equal(await isArchived(rangeOf(pool, store, part)), true)
    assert.deepEqual(await readManifest(store, part), manifest)
  }
  const restored = await restoreArchive({ pool, store, cipher, ...ALL })
  assert.deepEqual(restored, { rows: { message: 65, attempt: 155 }, found: { message: 65, attempt: 155 } })
  for (const table of ['message', 'attempt']) {
    const differing = `SELECT count(*) AS count FROM (
      (SELECT md5(t::text) FROM ${table} t WHERE id LIKE '%' AND created_at >= '${DAY}' EXCEPT ALL SELECT md5(t::text) FROM archive_test.${table} t)
      UNION ALL (SELECT md5(t::text) FROM archive_test.${table} t EXCEPT ALL SELECT md5(t::text) FROM ${table} t)) d`
    assert.equal((await pool.query<{ count: number }>(differing)).rows[0]!.count, 0, table)
  }
  assert.deepEqual((await restoreArchive({ pool, store, cipher, ...ALL })).rows, { message: 0, attempt: 0 })
})

test('rows are sorted by application and id, and what the manifest says of them is so', async () => {
  const { pool } = storage
  const b = await fillDay(pool, { appId: 'app_b', messages: 30, attemptsEach: 0 })
  const a = await fillDay(pool, { appId: 'app_a', messages: 30, attemptsEach: 0 })
  const { manifest } = await archiveRange(rangeOf(pool, store, MESSAGES))
  assert.deepEqual(await idsIn(manifest), [...a.messageIds, ...b.messageIds])
  const [first, last] = [[...a.messageIds, ...b.messageIds].sort()[0], [...a.messageIds, ...b.messageIds].sort().at(-1)]
  assert.deepEqual([manifest.rows, manifest.payloads, manifest.firstId, manifest.lastId], [60, 60, first, last])
  const [object] = manifest.objects
  assert.deepEqual([object!.firstApp, object!.lastApp, object!.keyId], ['app_a', 'app_b', cipher.keyId.toString('hex')])
})

test('nothing of a payload can be read in the directory', async () => {
  await fillDay(storage.pool, { appId: 'app_a', messages: 3, payload: () => '{"secret":"the payload of a customer"}' })
  await archiveRange(rangeOf(storage.pool, store, MESSAGES))
  const files = readdirSync(archive.path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  assert.equal(files.length, 3)
  for (const file of files) assert.equal(readFileSync(join(file.parentPath, file.name)).includes('customer'), false)
})

test('a payload that was published with a shorter retention is not archived', async () => {
  const { pool } = storage
  await fillDay(pool, { appId: 'app_a', messages: 4, retentionDays: 30 })
  await fillDay(pool, { appId: 'app_b', messages: 4 })
  const { manifest } = await archiveRange(rangeOf(pool, store, MESSAGES))
  assert.deepEqual([manifest.rows, manifest.payloads], [8, 4])
  await restoreArchive({ pool, store, cipher, ...ALL, tables: ['message'] })
  const { rows } = await pool.query(`SELECT DISTINCT app_id FROM archive_test.message WHERE payload IS NOT NULL`)
  assert.deepEqual(rows, [{ app_id: 'app_b' }])
})

test('partitioned tables are archived like others, as a whole or a partition that is named', async () => {
  const { pool } = storage
  await fillDay(pool, { appId: 'app_a', messages: 8 })
  await fillDay(pool, { appId: 'app_a', messages: 3, day: '2026-08-21' })
  const day = idsOfDay('attempt', DAY)
  await pool.query(
    'CREATE TABLE parted (LIKE attempt INCLUDING ALL EXCLUDING INDEXES, PRIMARY KEY (message_id, id, status)) PARTITION BY LIST (status)',
  )
  await pool.query('CREATE INDEX ON parted (endpoint_id, id)')
  await pool.query('CREATE TABLE parted_success PARTITION OF parted FOR VALUES IN (0) PARTITION BY RANGE (id)')
  await pool.query('CREATE TABLE parted_rest PARTITION OF parted DEFAULT')
  await pool.query(`CREATE TABLE "parted day" PARTITION OF parted_success FOR VALUES FROM ('${day.fromId}') TO ('${day.toId}')`)
  await pool.query('CREATE TABLE parted_days PARTITION OF parted_success DEFAULT')
  await pool.query('INSERT INTO parted SELECT * FROM attempt')
  const whole = { ...rangeOf(pool, store, partOf('attempt', 'failure')), source: 'parted' }
  assert.equal((await archiveRange(whole)).manifest.rows, 8)
  const one = { ...rangeOf(pool, store, partOf('attempt', 'success')), source: 'public.parted day' }
  assert.equal((await archiveRange(one)).manifest.rows, 8)
  assert.equal(await isArchived({ ...one, source: 'parted' }), true)
  await pool.query('DROP TABLE parted')
})

test('a day without rows has a manifest', async () => {
  const { manifest, written } = await archiveRange(rangeOf(storage.pool, store, MESSAGES))
  assert.ok(written)
  assert.deepEqual([manifest.rows, manifest.objects], [0, []])
})

test('a run that is repeated changes nothing, and one that finds more rows writes them all', async () => {
  const { pool } = storage
  await fillDay(pool, { appId: 'app_a', messages: 10, attemptsEach: 0 })
  const first = await archiveRange(rangeOf(pool, store, MESSAGES))
  assert.deepEqual(await archiveRange(rangeOf(pool, store, MESSAGES)), { manifest: first.manifest, written: false })
  await fillDay(pool, { appId: 'app_a', messages: 1, attemptsEach: 0 })
  assert.equal(await isArchived(rangeOf(pool, store, MESSAGES)), false)
  const more = await archiveRange(rangeOf(pool, store, MESSAGES))
  assert.deepEqual([more.written, more.manifest.rows], [true, 11])
  assert.deepEqual(
    await keysUnder(objectPrefixOf(MESSAGES)),
    more.manifest.objects.map(({ key }) => key),
  )
})

test('an expunged payload goes from an archive that is written again; a dropped partition leaves it as it is', async () => {
  const { pool } = storage
  const { messageIds } = await fillDay(pool, { appId: 'app_a', messages: 10, attemptsEach: 0 })
  await archiveRange(rangeOf(pool, store, MESSAGES))
  await pool.query('UPDATE message SET payload = NULL WHERE id = $1', [messageIds[3]])
  assert.equal(await isArchived(rangeOf(pool, store, MESSAGES)), false)
  const { manifest, written } = await archiveRange(rangeOf(pool, store, MESSAGES))
  assert.deepEqual([written, manifest.rows, manifest.payloads], [true, 10, 9])
  await pool.query('TRUNCATE message')
  assert.deepEqual(await archiveRange(rangeOf(pool, store, MESSAGES)), { manifest, written: false })
})

test('what is read in many statements is read once: small reads, many applications, large ones among them', async () => {
  const { pool } = storage
  const expected: string[] = []
  for (let i = 0; i < 30; i++) {
    const filled = await fillDay(pool, { appId: `app_${String(i).padStart(3, '0')}`, messages: i === 7 ? 300 : 3, attemptsEach: 1 })
    expected.push(...filled.attemptIds)
  }
  const { manifest } = await archiveRange(rangeOf(pool, store, partOf('attempt', 'success')))
  assert.deepEqual((await idsIn(manifest)).sort(), expected.sort())
  assert.equal((await archiveRange(rangeOf(pool, store, partOf('attempt', 'failure')))).manifest.rows, 0)
})

test('rows that are added while they are archived make the run fail, and leave nothing', async () => {
  const { pool } = storage
  await fillDay(pool, { appId: 'app_a', messages: 10, attemptsEach: 0 })
  await archiveRange(rangeOf(pool, store, partOf('message', null, '2026-08-21')))
  const adding: ObjectStore = {
    ...store,
    put: async (key, body) => {
      await pool.query(`INSERT INTO message (id, app_id, event_type, payload, expires_at) VALUES ($1, 'app_0', 'x', '{}', now())`, [
        newId('msg', at(3)),
      ])
      await store.put(key, body)
    },
  }
  await assert.rejects(archiveRange(rangeOf(pool, adding, MESSAGES)), { code: 'rows_changed' })
  assert.equal(await readManifest(store, MESSAGES), undefined)
  for await (const { key } of store.list('data/')) assert.fail(key)
  assert.equal((await archiveRange(rangeOf(pool, store, MESSAGES))).manifest.rows, 11)
})

test('a run that dies at any place leaves nothing that is taken for complete, and is repeated to the same end', async () => {
  const { pool } = storage
  await fillDay(pool, { appId: 'app_a', messages: 10, attemptsEach: 0 })
  await archiveRange(rangeOf(pool, store, partOf('message', null, '2026-08-21')))
  for (const dieAt of [1, 2]) {
    let puts = 0
    const dying: ObjectStore = {
      ...store,
      // The last object of a process may be there, and its deletion is not made any more.
      put: async (key, body) => {
        if (++puts < dieAt) return store.put(key, body)
        if (key.startsWith('data/')) await store.put(key, body)
        throw new Error('killed')
      },
      delete: () => Promise.reject(new Error('killed')),
    }
    await assert.rejects(archiveRange(rangeOf(pool, dying, MESSAGES)), /killed/)
    assert.equal(await readManifest(store, MESSAGES), undefined)
  }
  const left = await keysUnder(objectPrefixOf(MESSAGES))
  assert.equal(left.length, 2)
  const daysAgo = new Date(Date.now() - 2 * LIMITS.archiveOrphanMs)
  utimesSync(join(archive.path, left[0]!), daysAgo, daysAgo)
  assert.deepEqual((await verifyArchive({ store, cipher }, {})).orphans, [left[0]])
  const { manifest } = await archiveRange(rangeOf(pool, store, MESSAGES))
  assert.equal(manifest.rows, 10)
  // What may still be written by somebody stays.
  assert.deepEqual(await keysUnder(objectPrefixOf(MESSAGES)), [left[1]!, ...manifest.objects.map(({ key }) => key)].sort())
  assert.deepEqual((await verifyArchive({ store, cipher }, {})).problems, [])
})

test('what a run that died has left goes when a later day is archived, though its own part is not archived again', async () => {
  const { pool } = storage
  await fillDay(pool, { appId: 'app_a', messages: 3, attemptsEach: 0 })
  const { manifest } = await archiveRange(rangeOf(pool, store, MESSAGES))
  const [named] = manifest.objects.map(({ key }) => key)
  const left = ['whole', 'cut.partial-0123456789abcdef', 'young'].map((name) => `${objectPrefixOf(MESSAGES)}${name}`)
  for (const key of left) writeFileSync(join(archive.path, key), 'left')
  const daysAgo = new Date(Date.now() - 2 * LIMITS.archiveOrphanMs)
  for (const key of [named!, left[0]!, left[1]!]) utimesSync(join(archive.path, key), daysAgo, daysAgo)
  assert.deepEqual((await verifyArchive({ store, cipher }, {})).orphans, [left[1], left[0]])
  const nextDay = new Date(Date.parse(DAY) + 86_400_000).toISOString().slice(0, 10)
  await archiveRange(rangeOf(pool, store, partOf('message', null, nextDay)))
  assert.deepEqual(new Set(await keysUnder(objectPrefixOf(MESSAGES))), new Set([named, left[2]]))
})

test('a run that is told to stop leaves nothing that is taken for complete', async () => {
  const { pool } = storage
  await fillDay(pool, { appId: 'app_a', messages: 10, attemptsEach: 0 })
  const stop = new AbortController()
  stop.abort(new Error('the worker stops'))
  await assert.rejects(archiveRange({ ...rangeOf(pool, store, MESSAGES), signal: stop.signal }), /the worker stops/)
  assert.equal(await readManifest(store, MESSAGES), undefined)
})

test('one process at a time archives a part', async () => {
  const { pool } = storage
  await withPartLock(pool, lockNameOf(MESSAGES), async () => {
    await assert.rejects(archiveRange(rangeOf(pool, store, MESSAGES)), { code: 'part_busy' })
    await archiveRange(rangeOf(pool, store, partOf('message', null, '2026-08-21')))
  })
  await archiveRange(rangeOf(pool, store, MESSAGES))
})

test('an archive is one region’s, and holds no application of another zone', async () => {
  const { pool } = storage
  await fillDay(pool, { appId: 'app_eu', messages: 1 })
  await archiveRange({ ...rangeOf(pool, store, MESSAGES), owner: OWNER })
  const other = { ...rangeOf(pool, store, MESSAGES), owner: { region: 'us', zone: null } }
  await assert.rejects(archiveRange(other), { code: 'wrong_region', message: /is the archive of the region local/ })
  await pool.query(`INSERT INTO application (id, org_id, name, residency) VALUES ('app_eu', $1, 'x', 'eu')`, [newId('org')])
  const day = partOf('message', null, '2026-08-21')
  await fillDay(pool, { appId: 'app_eu', messages: 1, day: day.day })
  await assert.rejects(archiveRange(rangeOf(pool, store, day)), { code: 'wrong_region', message: /app_eu belongs to the zone eu/ })
  assert.equal(await readManifest(store, day), undefined)
})

test('what is damaged in any way is found', async () => {
  const { pool } = storage
  await fillDay(pool, { appId: 'app_a', messages: 10 })
  const { manifest } = await archiveRange(rangeOf(pool, store, MESSAGES))
  await archiveRange(rangeOf(pool, store, partOf('attempt', 'success')))
  const sound = await verifyArchive({ store, cipher }, {})
  assert.deepEqual([sound.problems, sound.orphans, sound.parts, sound.objects, sound.rows], [[], [], 2, 2, 20])
  const key = manifest.objects[0]!.key
  const file = join(archive.path, key)
  const good = readFileSync(file)
  const bad = Buffer.from(good)
  bad[100]! ^= 1
  const problems = async () => (await verifyArchive({ store, cipher }, {})).problems.join('\n')
  writeFileSync(file, bad)
  assert.match(await problems(), /^object_corrupt: .* is damaged: its checksum is not that of its manifest$/)
  writeFileSync(file, good.subarray(0, -1))
  assert.match(await problems(), /^object_corrupt/)
  await store.delete([key])
  assert.match(await problems(), /^object_missing: there is no object data\/message/)
  writeFileSync(file, good)
  writeFileSync(join(archive.path, manifestKeyOf(MESSAGES)), JSON.stringify({ ...manifest, rows: 11 }))
  assert.match(await problems(), /^manifest_invalid: message 2026-08-20 says 11 rows, its objects 10$/)
})
