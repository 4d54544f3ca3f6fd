import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { idsOfDay } from '../../domain/archive.ts'
import { openObjectStore } from '../../storage/archive/open-store.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createArchiver, type Archiver } from '../../workers/archiver.ts'
import { createFileArchive, DAY, fillDay } from '../storage/archive/fill.ts'
import { eventually } from '../support/eventually.ts'
import { startTestService, TEST_SECRET, type TestService } from '../support/service.ts'

let archive: Awaited<ReturnType<typeof createFileArchive>>
let service: TestService
let pool: Pool
let archiver: Archiver

before(async () => {
  archive = await createFileArchive()
  service = await startTestService({ env: { TIDINGS_ARCHIVE_URL: archive.url } })
  pool = createPool(service.database.url, 2)
  archiver = await createArchiver({
    ...{ databaseUrl: service.database.url, archive: { url: archive.url }, encryptionKey: TEST_SECRET, previousEncryptionKeys: [] },
    owner: { region: service.config.region, zone: null },
  })
})
after(async () => {
  await archiver.stop()
  await pool.end()
  await service.stop()
  archive.remove()
})

async function call(method: string, path: string): Promise<{ status: number; json: Record<string, unknown> }> {
  const response = await fetch(`${service.url}/api/v1${path}`, { method, headers: { authorization: `Bearer ${service.token}` } })
  return { status: response.status, json: (await response.json()) as Record<string, unknown> }
}

test('a running service tells where archived messages are, and erases an application from the archive', async () => {
  const { id: kept } = await service.svix.application.create({ name: 'kept' })
  const { id: erased } = await service.svix.application.create({ name: 'erased' })
  const filled = { kept: await fillDay(pool, { appId: kept, messages: 6 }), erased: await fillDay(pool, { appId: erased, messages: 6 }) }
  for (const part of [
    { table: 'message', outcome: null, day: DAY },
    { table: 'attempt', outcome: 'success', day: DAY },
  ] as const) {
    await archiver.archiveRange({ ...part, ...idsOfDay(part.table, DAY) })
    await pool.query(`DELETE FROM ${part.table}`)
  }
  const where = await call('GET', `/app/${kept}/msg/${filled.kept.messageIds[1]}`)
  assert.deepEqual([where.status, where.json['code'], where.json['archivedDay']], [410, 'archived', DAY])
  assert.equal((await call('GET', `/app/${kept}/msg/${filled.erased.messageIds[1]}`)).status, 404)

  const { status, json } = await call('POST', `/app/${erased}/erase`)
  assert.equal(status, 202)
  const { json: task } = await eventually(
    () => call('GET', `/background-task/${String(json['id'])}`),
    ({ json: shown }) => shown['status'] === 'finished',
  )
  const { archiveRows, archiveObjectsRewritten, archiveObjectsDeleted } = task['data'] as Record<string, number>
  assert.deepEqual([archiveRows, archiveObjectsRewritten, archiveObjectsDeleted], [12, 2, 0])
  const store = await openObjectStore({ url: archive.url })
  for await (const { key } of store.list('')) assert.equal(String(await store.get(key)).includes(erased), false, key)
  assert.equal((await call('GET', `/app/${kept}/msg/${filled.kept.messageIds[2]}`)).status, 410)
})
