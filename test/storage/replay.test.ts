import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import type { ReplayRequest } from '../../domain/message.ts'
import { findTask, insertTask } from '../../storage/background-tasks.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { createRecorder } from '../../storage/recorder.ts'
import type { DeliveryChange } from '../../storage/records.ts'
import { enqueueReplayPage } from '../../storage/replay.ts'
import { count, createStorage, newMessage, newRecord, type Storage } from './rows.ts'

let storage: Storage

before(async () => {
  storage = await createStorage()
})
afterEach(() => storage.pool.query('TRUNCATE attempt, delivery, message, outbox, endpoint CASCADE'))
after(() => storage.drop())

async function subscribe(eventTypes: string[] | null = null, filter: string | null = null): Promise<string> {
  const id = newId('ep')
  const text = `INSERT INTO endpoint (id, app_id, url, event_types, filter) VALUES ($1, 'app_1', 'https://example.com/webhook', $2, $3)`
  await storage.pool.query(text, [id, eventTypes, filter])
  return id
}

async function publish(changes: Parameters<typeof newMessage>[0] = {}): Promise<string> {
  const message = newMessage(changes)
  await acceptMessages(storage.pool, [message], false, 0)
  await storage.pool.query('DELETE FROM outbox')
  return message.id
}

async function attempt(messageId: string, endpointId: string, change: DeliveryChange, responseCode = 500): Promise<void> {
  const recorder = createRecorder({ pool: storage.pool, onWake: () => undefined })
  await recorder.record(newRecord(change, { messageId, endpointId, responseCode }))
}

/** @returns the messages that a replay sends */
async function chosen(request: Partial<ReplayRequest>): Promise<string[]> {
  await storage.pool.query('DELETE FROM outbox')
  const range = { since: new Date(Date.now() - 60_000).toISOString(), until: new Date(Date.now() + 60_000).toISOString() }
  await enqueueReplayPage(storage.pool, { request: { applicationId: 'app_1', taskId: newId('qtask'), ...range, ...request }, limit: 100 })
  const { rows } = await storage.pool.query<{ message_id: string }>('SELECT message_id FROM outbox')
  return rows.map((row) => row.message_id).sort()
}

const DELIVERED = { state: 'delivered', hadRow: false } as const
const DEAD = { state: 'dead', attempts: 13 } as const
const WAITS = { state: 'retrying', attempts: 1, nextAtMs: Date.now() + 3_600_000 } as const

test('each status chooses its deliveries', async () => {
  const endpointId = await subscribe()
  const delivered = await publish()
  const dead = await publish()
  const waiting = await publish()
  const missing = await publish()
  await attempt(delivered, endpointId, DELIVERED, 204)
  await attempt(dead, endpointId, DEAD, 404)
  await attempt(waiting, endpointId, WAITS)
  assert.deepEqual(await chosen({ endpointId, status: 'delivered' }), [delivered])
  assert.deepEqual(await chosen({ endpointId, status: 'failed' }), [dead])
  assert.deepEqual(await chosen({ endpointId, status: 'waiting' }), [waiting])
  assert.deepEqual(await chosen({ endpointId, status: 'missing' }), [missing])
  assert.deepEqual(await chosen({ endpointId, status: 'attempted' }), [delivered, dead, waiting].sort())
  assert.deepEqual(await chosen({ endpointId, status: 'all' }), [delivered, dead, waiting, missing].sort())
  assert.deepEqual(await chosen({ endpointId, status: 'attempted', statusCodeClass: 400 }), [dead])
})

test('event types and channels narrow a replay; what has lost its payload is left out', async () => {
  const endpointId = await subscribe()
  const plain = await publish()
  const shop = await publish({ eventType: 'order.paid', channels: ['shop', 'web'] })
  const expired = await publish({ expiresAtMs: Date.now() - 1 })
  for (const id of [plain, shop, expired]) await attempt(id, endpointId, DELIVERED)
  assert.deepEqual(await chosen({ endpointId, status: 'attempted' }), [plain, shop].sort())
  assert.deepEqual(await chosen({ endpointId, status: 'attempted', channel: 'shop' }), [shop])
  assert.deepEqual(await chosen({ endpointId, status: 'attempted', eventTypes: ['invoice.paid'] }), [plain])
})

test('what is missing is what the endpoint subscribes to now; what it was sent goes there whatever it subscribes to', async () => {
  const endpointId = await subscribe(['order.*'])
  const other = await publish()
  const below = await publish({ eventType: 'order.item.added' })
  const prefix = await publish({ eventType: 'orders.paid' })
  assert.deepEqual(await chosen({ endpointId, status: 'missing' }), [below])
  await attempt(other, endpointId, DEAD)
  assert.deepEqual(await chosen({ endpointId, status: 'failed' }), [other])
  assert.ok(!(await chosen({ endpointId, status: 'all' })).includes(prefix))
})

test('what waits in the outbox is not missing', async () => {
  const endpointId = await subscribe()
  const message = newMessage()
  await acceptMessages(storage.pool, [message], false, 0)
  const range = { since: new Date(Date.now() - 60_000).toISOString(), until: new Date(Date.now() + 60_000).toISOString() }
  const request = { applicationId: 'app_1', endpointId, status: 'missing', taskId: newId('qtask'), ...range } as const
  assert.equal((await enqueueReplayPage(storage.pool, { request, limit: 100 })).deliveries, 0)
})

test('the progress of a replay counts each page once, and its end finishes the task', async () => {
  const endpointId = await subscribe()
  for (let i = 0; i < 3; i++) await publish()
  const taskId = newId('qtask')
  const orgId = newId('org')
  await insertTask(storage.pool, { id: taskId, orgId, appId: 'app_1', task: 'endpoint.replay', input: {} })
  const range = { since: new Date(Date.now() - 60_000).toISOString(), until: new Date(Date.now() + 60_000).toISOString() }
  const request = { applicationId: 'app_1', endpointId, status: 'missing', taskId, ...range } as const
  const progress = async () => {
    const task = await findTask(storage.pool, taskId, { orgId })
    return [task?.status, task?.data['deliveries']]
  }
  const first = await enqueueReplayPage(storage.pool, { request, limit: 2 })
  assert.deepEqual(await enqueueReplayPage(storage.pool, { request, limit: 2 }), first)
  assert.deepEqual(await progress(), ['running', 2])
  const second = await enqueueReplayPage(storage.pool, { request, limit: 2, afterMessageId: first.afterMessageId! })
  const end = await enqueueReplayPage(storage.pool, { request, limit: 2, afterMessageId: second.afterMessageId! })
  assert.equal(end.afterMessageId, undefined)
  assert.deepEqual(await progress(), ['finished', 3])
  assert.equal(await count(storage.pool, 'outbox'), 3)
})

test('what an endpoint filters out, waits for its time or was cancelled is not missing', async () => {
  const endpointId = await subscribe(null, 'payload.amount > 100')
  const wanted = await publish({ payload: '{"amount":200}' })
  await publish({ payload: '{"amount":50}' })
  await publish({ payload: '{}' })
  const scheduled = await publish({ payload: '{"amount":300}' })
  await storage.pool.query(`UPDATE message SET deliver_at = now() + interval '1 hour' WHERE id = $1`, [scheduled])
  const cancelled = await publish({ payload: '{"amount":400}' })
  await storage.pool.query('UPDATE message SET cancelled_at = now() WHERE id = $1', [cancelled])
  assert.deepEqual(await chosen({ endpointId, status: 'missing' }), [wanted])
  assert.deepEqual(await chosen({ status: 'all' }), [wanted])
})
