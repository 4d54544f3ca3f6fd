import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createRetention } from '../../../activities/retention.ts'
import { newId } from '../../../domain/ids.ts'
import { archiveRange } from '../../../storage/archive/archive-range.ts'
import { putBack, type PutBackInput, type PutBackState } from '../../../storage/archive/put-back.ts'
import { restoreArchive } from '../../../storage/archive/restore.ts'
import { createDays, listDayTables } from '../../../storage/partitions.ts'
import { createStorage, type Storage } from '../rows.ts'
import { at, cipher, createFileArchive, DAY, fillDay, OWNER, partOf, rangeOf } from './fill.ts'

const DAY_MS = 86_400_000
const OUTSIDE = () => ({ heartbeat: () => undefined, cancellationSignal: new AbortController().signal })
const SCHEMA = 'archive_back'

let storage: Storage
let archive: Awaited<ReturnType<typeof createFileArchive>>
let ids: readonly string[]
let input: PutBackInput

// Every fifth message of `fillDay` is scheduled, every seventh cancelled, every eighth handed in, every third has an event id.
const MESSAGES = 1300

before(async () => {
  storage = await createStorage()
  archive = await createFileArchive()
  ids = (await fillDay(storage.pool, { appId: 'app_a', messages: MESSAGES, attemptsEach: 0 })).messageIds
  await fillDay(storage.pool, { appId: 'app_short', messages: 3, attemptsEach: 0, retentionDays: 30 })
  await archiveRange(rangeOf(storage.pool, archive.store, partOf('message')))
  await storage.pool.query('DELETE FROM message')
  await restoreArchive({ ...archive, cipher, pool: storage.pool, schema: SCHEMA, tables: ['message'], query: () => ({}) })
  await storage.pool.query(`INSERT INTO application (id, org_id, name) VALUES ('app_to', 'org_1', 'to')`)
  await storage.pool.query(`INSERT INTO endpoint (id, app_id, url) VALUES ('ep_1', 'app_to', 'https://example.com')`)
  input = {
    ...{ pool: storage.pool, schema: SCHEMA, from: 'app_a', to: 'app_to', endpointIds: ['ep_1'] },
    ...{ keepMs: 7 * DAY_MS, limit: 100, dryRun: false },
  }
})

after(async () => {
  archive.remove()
  await storage.drop()
})

async function all(changes: Partial<PutBackInput> = {}) {
  const messages: Partial<Record<PutBackState, number>> = {}
  let deliveries = 0
  for await (const page of putBack({ ...input, ...changes })) {
    for (const [state, count] of Object.entries(page.messages))
      messages[state as PutBackState] = (messages[state as PutBackState] ?? 0) + count
    deliveries += page.deliveries.get('ep_1') ?? 0
  }
  return { messages, deliveries }
}

const count = async (text: string) => (await storage.pool.query<{ count: number }>(`SELECT count(*) AS count FROM ${text}`)).rows[0]!.count

const retention = () =>
  createRetention({
    ...{ pool: storage.pool, retention: { deliveredDays: 30, failedDays: 90, auditDays: 365 }, context: OUTSIDE },
    archiver: { archiveRange: (range) => archiveRange({ ...range, pool: storage.pool, store: archive.store, cipher, owner: OWNER }) },
  })

async function retainOnce(atMs: number): Promise<void> {
  for (const table of await retention().dueDayTables({ atMs })) {
    if (table.archived === true) await retention().archiveDayTable({ table })
    await retention().dropDayTable({ table, atMs })
  }
  for (let more = true; more;) ({ more } = await retention().removeOldRows({ atMs }))
}

test('what cannot be sent, and what is somebody else’s, is told and left', async () => {
  const cancelled = ids.filter((_, i) => i % 7 === 0).length
  const handedIn = ids.filter((_, i) => i % 8 === 0 && i % 7 !== 0).length
  const taken = ids.find((_, i) => i === 3)!
  await storage.pool.query(`INSERT INTO message_event_id VALUES ('app_to', 'event-3', $1)`, [newId('msg')])
  const rest = MESSAGES - cancelled - handedIn - 1
  const wanted = { new: rest, there: 0, withoutPayload: 0, cancelled, handedIn, eventIdTaken: 1, elsewhere: 0 }
  assert.deepEqual(await all({ dryRun: true }), { messages: wanted, deliveries: rest })
  assert.equal(await count('message'), 0)
  assert.deepEqual(await all(), { messages: wanted, deliveries: rest })
  assert.deepEqual([await count('message'), await count('outbox'), await count(`message WHERE id = '${taken}'`)], [rest, rest, 0])
  assert.deepEqual((await all({ from: 'app_short' })).messages.withoutPayload, 3)
})

test('the retention leaves what was put back as long as it is kept, though its day is over, and then drops it', async () => {
  assert.ok((await listDayTables(storage.pool)).some(({ name }) => name === `message_${DAY.replaceAll('-', '')}`))
  const before = await count('message')
  await retainOnce(Date.now())
  assert.equal(await count('message'), before)
  await retainOnce(Date.now() + 6 * DAY_MS)
  assert.equal(await count('message'), before)
  await retainOnce(Date.now() + 8 * DAY_MS)
  assert.equal(await count('message'), 0)
  // The archive is as it was.
  const schema = 'archive_after'
  await restoreArchive({ ...archive, cipher, pool: storage.pool, schema, tables: ['message'], query: () => ({}) })
  assert.equal(await count(`(SELECT t::text FROM ${SCHEMA}.message t EXCEPT SELECT t::text FROM ${schema}.message t) d`), 0)
})

test('nothing is lost of what is put back while the retention drops its day', async () => {
  await storage.pool.query(`DELETE FROM outbox; DROP TABLE ${SCHEMA}.replayed; DELETE FROM message_event_id`)
  let running = true
  const dropping = (async () => {
    while (running) {
      await retainOnce(Date.now()).catch((error: unknown) => assert.match(String(error), /in use|Locked/))
      await createDays(storage.pool, 'message', { fromMs: at(0), toMs: at(0) }).catch(() => undefined)
    }
  })()
  const { messages } = await all({ limit: 20 }).finally(() => (running = false))
  await dropping
  assert.equal(await count('message'), messages.new)
})

test('two replays at a time send each message once', async () => {
  await storage.pool.query(`DELETE FROM outbox; DROP TABLE ${SCHEMA}.replayed; DELETE FROM message; DELETE FROM message_event_id`)
  const both = await Promise.all([all({ limit: 30 }), all({ limit: 70 })])
  assert.equal(both[0].deliveries + both[1].deliveries, await count('outbox'))
  assert.equal(await count('(SELECT DISTINCT message_id FROM outbox) o'), await count('outbox'))
})
