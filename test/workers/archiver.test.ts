import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { readManifest } from '../../storage/archive/manifests.ts'
import { createArchiver, type Archiver } from '../../workers/archiver.ts'
import { createFileArchive, DAY, fillDay, KEY, OWNER, partOf, rangeOf } from '../storage/archive/fill.ts'
import { createStorage, type Storage } from '../storage/rows.ts'

let storage: Storage
let archive: Awaited<ReturnType<typeof createFileArchive>>
let archiver: Archiver

before(async () => {
  storage = await createStorage()
  archive = await createFileArchive()
  const settings = { url: archive.url }
  archiver = await createArchiver({
    databaseUrl: storage.url,
    archive: settings,
    encryptionKey: KEY,
    previousEncryptionKeys: [],
    owner: OWNER,
  })
  for (const appId of ['app_a', 'app_b']) await fillDay(storage.pool, { appId, messages: 20 })
})
after(async () => {
  await archiver.stop()
  archive.remove()
  await storage.drop()
})

const range = () => rangeOf(storage.pool, archive.store, partOf('message'))

test('a thread archives and erases, tells its progress, and hands its errors over', async () => {
  const told: number[] = []
  const { manifest, written } = await archiver.archiveRange(range(), { progress: ({ rows }) => told.push(rows) })
  assert.deepEqual([written, manifest.rows, told.at(-1)], [true, 40, 40])
  assert.deepEqual(await readManifest(archive.store, partOf('message')), manifest)
  const receipt = await archiver.eraseFromPart(partOf('message'), { appId: 'app_a', taskId: 'qtask_1' })
  assert.deepEqual([receipt?.rows, receipt?.objectsRewritten], [20, 1])
  const missing = { ...range(), source: 'no_such_table' }
  await assert.rejects(archiver.archiveRange(missing), { code: '42P01' })
  const busy = [archiver.archiveRange(range()), archiver.archiveRange(range())]
  assert.deepEqual(
    (await Promise.all(busy)).map((one) => one.manifest.rows),
    [40, 40],
  )
})

test('what is told to stop ends with an error, and what is asked later is done', async () => {
  const stop = new AbortController()
  const day = partOf('message', null, '2026-08-25')
  const stopped = archiver.archiveRange({ ...range(), ...day }, { signal: stop.signal })
  stop.abort()
  await assert.rejects(stopped, /told to stop/)
  const begun = archiver.archiveRange({ ...range(), day: DAY })
  const second = await createArchiver({
    ...{ databaseUrl: storage.url, archive: { url: archive.url }, encryptionKey: KEY, previousEncryptionKeys: [] },
    owner: { region: 'us', zone: null },
  })
  await assert.rejects(second.archiveRange(range()), { name: 'ArchiveError', code: 'wrong_region' })
  await second.stop()
  await begun
})

test('work under way when it is stopped is rejected', async () => {
  const other = await createArchiver({
    ...{ databaseUrl: storage.url, archive: { url: archive.url }, encryptionKey: KEY, previousEncryptionKeys: [] },
    owner: OWNER,
  })
  const working = other.archiveRange(rangeOf(storage.pool, archive.store, partOf('attempt', 'success')))
  working.catch(() => undefined)
  await other.stop()
  await assert.rejects(working, /thread of the archive has ended/)
  assert.equal((await archiver.archiveRange(rangeOf(storage.pool, archive.store, partOf('attempt', 'success')))).manifest.rows, 40)
})
