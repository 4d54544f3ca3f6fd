import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import type { ArchivePart } from '../../../domain/archive.ts'
import { newId } from '../../../domain/ids.ts'
import { archiveRange } from '../../../storage/archive/archive-range.ts'
import { eraseFromPart, type ErasedApplication } from '../../../storage/archive/erase.ts'
import { eraseSomeEverywhere } from '../../../storage/archive/erasure-task.ts'
import { readManifest } from '../../../storage/archive/manifests.ts'
import type { ObjectStore } from '../../../storage/archive/object-store.ts'
import { openObjectStore } from '../../../storage/archive/open-store.ts'
import { searchArchive } from '../../../storage/archive/search.ts'
import { verifyArchive } from '../../../storage/archive/verify.ts'
import { findTask, insertTask } from '../../../storage/background-tasks.ts'
import { NO_S3, startS3, type S3Server } from '../../support/s3.ts'
import { createStorage, type Storage } from '../rows.ts'
import { cipher, createFileArchive, fillDay, partOf, rangeOf } from './fill.ts'

const s3: S3Server | undefined = await startS3()
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
})
after(async () => {
  await s3?.stop()
  await storage.drop()
})

const MESSAGES = partOf('message')
const ERASED = 'app_b'
const orgId = newId('org')

async function rowsOf(appId: string): Promise<number> {
  let rows = 0
  for (const table of ['message', 'attempt'] as const) {
    for await (const { row } of searchArchive({ store, cipher }, { table, appId })) rows += row['app_id'] === appId ? 1 : 0
  }
  return rows
}

async function keysOf(): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list('data/')) keys.push(key)
  return keys
}

async function begin(): Promise<string> {
  const id = newId('qtask')
  await insertTask(storage.pool, { id, orgId, appId: ERASED, task: 'application.erase', input: { applicationId: ERASED } })
  return id
}

/** Runs the task until it waits for its last pass. */
async function erase(taskId: string, into = store): Promise<void> {
  const { pool } = storage
  const eraseHere = (part: ArchivePart, erased: ErasedApplication) => eraseFromPart({ pool, store: into, cipher }, part, erased)
  for (;;) {
    const step = await eraseSomeEverywhere(pool, taskId, { applicationId: ERASED }, { archive: { store: into, eraseFromPart: eraseHere } })
    if (step.done || step.waitMs !== undefined) return
  }
}

async function fillAndArchive(): Promise<void> {
  const { pool } = storage
  for (const appId of ['app_a', ERASED, 'app_c']) await fillDay(pool, { appId, messages: 12 })
  await fillDay(pool, { appId: ERASED, messages: 4, day: '2026-08-21' })
  for (const part of [MESSAGES, partOf('message', null, '2026-08-21'), partOf('attempt', 'success'), partOf('attempt', 'failure')]) {
    await archiveRange(rangeOf(pool, store, part))
  }
}

test('an erased application is nowhere in the archive, others are as they were, and the task tells what was removed', async () => {
  const { pool } = storage
  await fillAndArchive()
  const taskId = await begin()
  await erase(taskId)
  assert.deepEqual([await rowsOf('app_a'), await rowsOf(ERASED), await rowsOf('app_c')], [36, 0, 36])
  const { problems, objects } = await verifyArchive({ store, cipher }, {})
  assert.deepEqual([problems, objects], [[], 3])
  assert.equal((await keysOf()).length, 3)
  const task = await findTask(pool, taskId, { orgId })
  assert.equal(task?.status, 'finished')
  const { archiveRows, archiveObjectsRewritten, archiveObjectsDeleted, messages } = task.data
  assert.deepEqual([archiveRows, archiveObjectsRewritten, archiveObjectsDeleted, messages], [12 + 12 + 12 + 4, 3, 1, 16])
})

test('an erasure that dies at any place is repeated to the same end, and counts once', async () => {
  const { pool } = storage
  for (let dieAt = 1; ; dieAt++) {
    const fresh = await createFileArchive()
    store = fresh.store
    await pool.query('TRUNCATE message, attempt, application, background_task')
    await fillAndArchive()
    const taskId = await begin()
    let calls = 0
    const dies = <Args extends unknown[], T>(call: (...args: Args) => Promise<T>) => {
      return async (...args: Args): Promise<T> => {
        if (++calls === dieAt) throw new Error('killed')
        return call(...args)
      }
    }
    const dying: ObjectStore = { ...store, put: dies(store.put), delete: dies(store.delete) }
    const died = await erase(taskId, dying).then(
      () => false,
      () => true,
    )
    await erase(taskId)
    assert.deepEqual([await rowsOf('app_a'), await rowsOf(ERASED), await rowsOf('app_c')], [36, 0, 36], `died at ${dieAt}`)
    assert.deepEqual((await verifyArchive({ store, cipher }, {})).problems, [])
    const { data } = (await findTask(pool, taskId, { orgId }))!
    assert.equal(data['archiveRows'], 40, `died at ${dieAt}`)
    fresh.remove()
    if (!died) break
    assert.ok(dieAt < 40)
  }
})

test('an erasure that passed before a manifest was written is made up for by who writes it', async () => {
  const { pool } = storage
  for (const appId of ['app_a', ERASED]) await fillDay(pool, { appId, messages: 5, attemptsEach: 0 })
  const taskId = await begin()
  const overtaken: ObjectStore = {
    ...store,
    put: async (key, body) => {
      // The rows are read, the manifest is not there: the erasure finds nothing in the archive.
      if (key.startsWith('manifest/'))
        assert.equal(
          await eraseFromPart({ pool, store, cipher }, partOf('message', null, '2026-01-01'), { appId: ERASED, taskId }),
          undefined,
        )
      await store.put(key, body)
    },
  }
  const { manifest } = await archiveRange(rangeOf(pool, overtaken, MESSAGES))
  assert.deepEqual([manifest.rows, manifest.erasures.map((one) => [one.taskId, one.rows])], [5, [[taskId, 5]]])
  assert.deepEqual([await rowsOf('app_a'), await rowsOf(ERASED)], [5, 0])
  assert.deepEqual(await readManifest(store, MESSAGES), manifest)
})

test('who is not in a part leaves it as it is', async () => {
  await fillAndArchive()
  const before = await readManifest(store, MESSAGES)
  const receipt = await eraseFromPart({ pool: storage.pool, store, cipher }, MESSAGES, { appId: 'app_bb', taskId: 'qtask_1' })
  assert.deepEqual([receipt?.rows, receipt?.replaced], [0, []])
  assert.deepEqual(await readManifest(store, MESSAGES), before)
})

test('an application is erased from a bucket', { skip: s3 === undefined && NO_S3 }, async () => {
  const { pool } = storage
  store = await openObjectStore(s3!.bucket('erasing'))
  await fillAndArchive()
  const taskId = await begin()
  await erase(taskId)
  assert.deepEqual([await rowsOf('app_a'), await rowsOf(ERASED), await rowsOf('app_c')], [36, 0, 36])
  assert.deepEqual((await verifyArchive({ store, cipher }, {})).problems, [])
  assert.equal((await keysOf()).length, 3)
  assert.equal((await findTask(pool, taskId, { orgId }))?.data['archiveRows'], 40)
  store.close()
})
