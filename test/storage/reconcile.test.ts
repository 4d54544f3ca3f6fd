import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import type { NewMessage } from '../../domain/message.ts'
import type { Unsettled } from '../../domain/reconcile.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { cancelMessages } from '../../storage/cancelling.ts'
import { deleteGroup, enqueueRedeliveries } from '../../storage/outbox.ts'
import { parkRetrying, putBack, readUnsettled, readWaitingMailboxes, reconcilingAlone } from '../../storage/reconcile.ts'
import { createRecorder } from '../../storage/recorder.ts'
import type { DeliveryChange } from '../../storage/records.ts'
import { expungeMessage } from '../../storage/history/messages.ts'
import { storeTogether } from '../../storage/scheduled.ts'
import { count, createStorage, newMessage, newRecord, type Storage } from './rows.ts'

const APP = 'app_1'
const BEGINNING = { after: 'msg_0', afterEndpointId: null }
const END = 'msg_z'

let storage: Storage
before(async () => {
  storage = await createStorage()
})
beforeEach(() => storage.pool.query('TRUNCATE attempt, delivery, message, outbox, endpoint, mailbox, scheduled_message CASCADE'))
after(() => storage.drop())

async function endpoint(id: string, fields: Readonly<Record<string, unknown>> = {}): Promise<string> {
  const columns = { created_at: new Date(Date.now() - 3_600_000), updated_at: new Date(Date.now() - 3_600_000), ...fields }
  const names = Object.keys(columns)
  const values = names.map((_, i) => `$${i + 3}`)
  await storage.pool.query(
    `INSERT INTO endpoint (id, app_id, url, ${names.join(', ')}) VALUES ($1, $2, 'https://example.com', ${values.join(', ')})`,
    [id, APP, ...Object.values(columns)],
  )
  return id
}

/** Accepts a message whose fan-out was begun and never told of. */
async function lost(changes: Partial<NewMessage> = {}): Promise<string> {
  const message = newMessage({ appId: APP, ...changes })
  const { groupId } = await acceptMessages(storage.pool, [message], true, 1000)
  await deleteGroup(storage.pool, groupId!)
  return message.id
}

async function recorded(messageId: string, endpointId: string, change: DeliveryChange): Promise<void> {
  const recorder = createRecorder({ pool: storage.pool, onWake: () => undefined })
  await recorder.record(newRecord(change, { appId: APP, messageId, endpointId }))
}

async function unsettled(): Promise<string[]> {
  const { deliveries } = await readUnsettled(storage.pool, BEGINNING, END)
  return deliveries.map((one) => `${one.kind} ${one.endpointId}`).sort()
}

test('of a delivery nothing is known where it has neither a success, nor a row, nor a place in the outbox', async () => {
  const id = await lost()
  for (const name of ['delivered', 'dead', 'parked', 'retrying', 'untracked', 'waiting', 'nothing']) await endpoint(name)
  const later = { attempts: 1, nextAtMs: Date.now() + 60_000 }
  await recorded(id, 'delivered', { state: 'delivered', hadRow: false })
  await recorded(id, 'dead', { state: 'dead', attempts: 1 })
  await recorded(id, 'parked', { state: 'parked', ...later })
  await recorded(id, 'retrying', { state: 'retrying', ...later })
  await recorded(id, 'untracked', { state: 'untracked' })
  const redelivery = { messageId: id, appId: APP, eventType: 'invoice.paid', trigger: 0, retried: true } as const
  await enqueueRedeliveries(storage.pool, [{ ...redelivery, endpointId: 'waiting' }], 'somebody')
  assert.deepEqual(await unsettled(), ['missing nothing', 'missing untracked', 'retrying retrying'])
  await enqueueRedeliveries(storage.pool, [{ ...redelivery, endpointId: 'retrying' }], 'somebody')
  assert.deepEqual(await unsettled(), ['missing nothing', 'missing untracked'])
  await acceptMessages(storage.pool, [newMessage({ appId: APP })], false, 0)
  assert.deepEqual(await unsettled(), ['missing nothing', 'missing untracked'])
})

test('endpoints count as they were when the message was routed, as far as that is known', async () => {
  const id = await lost({ channels: ['eu'], payload: '{"amount": 7}' })
  const later = new Date(Date.now() + 60_000)
  await endpoint('takes', { channels: ['eu'], event_types: ['invoice.*'], filter: 'payload.amount > 5' })
  await endpoint('created-later', { created_at: later, updated_at: later })
  await endpoint('enabled-later', { disabled_at: later, updated_at: later })
  await endpoint('changed-later', { updated_at: later })
  await endpoint('disabled', { disabled: true })
  await endpoint('deleted', { deleted_at: new Date() })
  await endpoint('other-type', { event_types: ['user.created'] })
  await endpoint('other-channel', { channels: ['us'] })
  await endpoint('other-payload', { filter: 'payload.amount > 7' })
  assert.deepEqual(await unsettled(), ['changed changed-later', 'missing takes'])
  await cancelMessages(storage.pool, APP, { messageIds: [id] }, 1)
  assert.deepEqual(await unsettled(), [])
})

test('what waits for its time, has none left, or has no payload is nobody’s', async () => {
  await endpoint('takes')
  await storeTogether(storage.pool, [newMessage({ appId: APP, deliverAtMs: Date.now() + 60_000 })])
  await lost({ expiresAtMs: Date.now() - 1000 })
  const expunged = await lost()
  await expungeMessage(storage.pool, expunged)
  assert.deepEqual(await unsettled(), [])
})

test('pages go on after the last message, or within one that has more deliveries than a page', async () => {
  const endpoints = Array.from({ length: 600 }, (_, i) => `ep_${String(i).padStart(3, '0')}`)
  await storage.pool.query(
    `INSERT INTO endpoint (id, app_id, url, created_at, updated_at)
     SELECT id, $2, 'https://example.com', now() - interval '1 hour', now() - interval '1 hour' FROM unnest($1::text[]) AS id`,
    [endpoints, APP],
  )
  const ids = [await lost(), await lost({ id: newId('msg', Date.now() + 10) }), await lost({ id: newId('msg', Date.now() + 20) })]
  const seen: Unsettled[] = []
  let messages = 0
  let from: Parameters<typeof readUnsettled>[1] | undefined = BEGINNING
  for (let pages = 0; from !== undefined && pages < 10; pages++) {
    const page: Awaited<ReturnType<typeof readUnsettled>> = await readUnsettled(storage.pool, from, END)
    assert.ok(page.deliveries.length <= 1000)
    seen.push(...page.deliveries)
    messages = Math.max(messages, page.messages)
    from = page.next
  }
  assert.equal(from, undefined)
  assert.equal(seen.length, 3 * 600)
  assert.equal(new Set(seen.map((one) => `${one.messageId} ${one.endpointId}`)).size, 3 * 600)
  assert.deepEqual(new Set(seen.map((one) => one.messageId)), new Set(ids))
})

test('a delivery is put in once by one reconciliation, and not by another while it is on its way', async () => {
  await endpoint('takes')
  const id = await lost({ priority: 'high' })
  const delivery = { messageId: id, endpointId: 'takes' }
  assert.equal(await putBack(storage.pool, [delivery], 'first'), 1)
  assert.equal(await putBack(storage.pool, [delivery], 'first'), 0)
  assert.equal(await putBack(storage.pool, [delivery], 'second'), 0)
  const { rows } = await storage.pool.query('SELECT id, endpoint_id, trigger, retried, priority FROM outbox')
  assert.deepEqual(rows, [{ id: `${id}/takes/first`, endpoint_id: 'takes', trigger: 0, retried: true, priority: 'high' }])
  await storage.pool.query('DELETE FROM outbox')
  await recorded(id, 'takes', { state: 'delivered', hadRow: false })
  assert.equal(await putBack(storage.pool, [delivery], 'third'), 0)
})

test('a delivery that waits for a retry is left to its mailbox with its attempts, unless somebody has gone on with it', async () => {
  await endpoint('fails')
  const id = await lost()
  const nextAtMs = Date.now() - 5000
  await recorded(id, 'fails', { state: 'retrying', attempts: 3, nextAtMs })
  const { deliveries } = await readUnsettled(storage.pool, BEGINNING, END)
  const retrying = deliveries.filter((one) => one.kind === 'retrying')
  await recorded(id, 'fails', { state: 'retrying', attempts: 4, nextAtMs })
  assert.deepEqual(await parkRetrying(storage.pool, retrying), { parked: 0, wakes: [] })
  const again = retrying.map((one) => ({ ...one, attempts: 4 }))
  assert.deepEqual(await parkRetrying(storage.pool, again), { parked: 1, wakes: [{ endpointId: 'fails', wakeAtMs: nextAtMs }] })
  assert.deepEqual(await parkRetrying(storage.pool, again), { parked: 0, wakes: [] })
  assert.equal(await count(storage.pool, 'delivery', `state = 'parked' AND attempts = 4`), 1)
  const boxes = await readWaitingMailboxes(storage.pool, '', 10)
  assert.deepEqual(boxes, [{ endpointId: 'fails', wakeAtMs: nextAtMs, wanted: true }])
})

test('mailboxes at which something waits are read by id, those with nothing due as not wanted', async () => {
  const ids = ['ep_a', 'ep_b', 'ep_c']
  for (const [i, id] of ids.entries()) {
    await endpoint(id)
    for (let n = 0; n < 3; n++) await recorded(await lost(), id, { state: 'parked', attempts: 1, nextAtMs: Date.now() + (i - 1) * 60_000 })
  }
  const first = await readWaitingMailboxes(storage.pool, '', 2)
  assert.deepEqual(
    first.map((one) => [one.endpointId, one.wanted]),
    [
      ['ep_a', true],
      ['ep_b', true],
    ],
  )
  await storage.pool.query(`UPDATE mailbox SET idle = true WHERE endpoint_id = 'ep_c'`)
  assert.deepEqual(
    (await readWaitingMailboxes(storage.pool, 'ep_b', 2)).map((one) => [one.endpointId, one.wanted]),
    [['ep_c', true]],
  )
  await storage.pool.query(`UPDATE mailbox SET idle = false, wake_at = now() WHERE endpoint_id = 'ep_c'`)
  assert.deepEqual(
    (await readWaitingMailboxes(storage.pool, 'ep_b', 2)).map((one) => [one.endpointId, one.wanted]),
    [['ep_c', false]],
  )
})

test('two reconciliations do not work at the same time', async () => {
  const { pool } = storage
  const inner = await reconcilingAlone(pool, () => reconcilingAlone(pool, () => Promise.resolve('both')))
  assert.equal(inner, undefined)
  assert.equal(await reconcilingAlone(pool, () => Promise.resolve('one')), 'one')
})
