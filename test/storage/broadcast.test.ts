import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import { findTask } from '../../storage/background-tasks.ts'
import { broadcastSome, insertBroadcast, type BroadcastInput } from '../../storage/broadcast.ts'
import { count, createStorage, type Storage } from './rows.ts'

const ORG = 'org_1'
let storage: Storage

before(async () => {
  storage = await createStorage(8)
})
afterEach(() => storage.pool.query('TRUNCATE application, message, message_event_id, outbox, background_task, broadcast'))
after(() => storage.drop())

async function createApplications(howMany: number): Promise<void> {
  const ids = Array.from({ length: howMany }, () => newId('app'))
  await storage.pool.query(`INSERT INTO application (id, org_id, name) SELECT id, $2, 'one' FROM unnest($1::text[]) AS id`, [ids, ORG])
}

async function begin(changes: Partial<BroadcastInput> = {}, payload = '{"n":1}') {
  const id = newId('qtask')
  const input: BroadcastInput = {
    orgId: ORG,
    applicationIds: null,
    metadata: {},
    eventType: 'news',
    eventId: null,
    channels: null,
    retentionMs: 86_400_000,
    ...changes,
  }
  await insertBroadcast(storage.pool, { id, orgId: ORG, input }, payload)
  const run = async (): Promise<number> => {
    for (let steps = 1; ; steps++) if ((await broadcastSome(storage.pool, id, input)).done) return steps
  }
  return { id, run, progress: async () => findTask(storage.pool, id, { orgId: ORG }) }
}

test('each application gets a broadcast once, however many processes carry it out', async () => {
  const applications = LIMITS.broadcastBatch * 2 + 50
  await createApplications(applications)
  await storage.pool.query(`INSERT INTO application (id, org_id, name) VALUES ('app_other', 'org_2', 'other')`)
  await storage.pool.query(`INSERT INTO application (id, org_id, name, deleted_at) VALUES ('app_gone', $1, 'gone', now())`, [ORG])
  const broadcast = await begin()
  await Promise.all([broadcast.run(), broadcast.run(), broadcast.run()])
  const { rows } = await storage.pool.query<{ app_id: string }>('SELECT app_id FROM message')
  assert.deepEqual([rows.length, new Set(rows.map((row) => row.app_id)).size], [applications, applications])
  assert.ok(!rows.some((row) => row.app_id === 'app_other' || row.app_id === 'app_gone'))
  assert.equal(await count(storage.pool, 'outbox'), applications)
  const task = await broadcast.progress()
  assert.deepEqual([task?.status, task?.data], ['finished', { messages: applications, conflicts: 0 }])
  assert.equal((await storage.pool.query('SELECT FROM broadcast')).rowCount, 0)
})

test('a step that is repeated after the end does nothing', async () => {
  await createApplications(3)
  const broadcast = await begin()
  assert.equal(await broadcast.run(), 1)
  assert.equal(await broadcast.run(), 1)
  assert.equal(await count(storage.pool, 'message'), 3)
})

test('large payloads go to fewer applications at a time', async () => {
  await createApplications(9)
  const broadcast = await begin({}, JSON.stringify({ text: 'x'.repeat(LIMITS.broadcastBatchMaxChars / 4) }))
  assert.equal(await broadcast.run(), 4)
  assert.equal(await count(storage.pool, 'message'), 9)
})

test('an application that has the event already is counted and left alone', async () => {
  await createApplications(4)
  await (await begin({ eventId: 'once' })).run()
  await createApplications(2)
  const second = await begin({ eventId: 'once' })
  await second.run()
  assert.deepEqual((await second.progress())?.data, { messages: 2, conflicts: 4 })
  assert.equal(await count(storage.pool, 'message'), 6)
})
