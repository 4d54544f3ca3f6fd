import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import type { NewMessage } from '../../domain/message.ts'
import {
  enqueueDeliveries,
  readQueue,
  readQueueState,
  recordQueued,
  releaseTurn,
  settleQueue,
  skipQueued,
  takeTurn,
} from '../../storage/mailbox-queue.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { createStorage, newMessage, newMessages, newRecord, type Storage } from './rows.ts'

let storage: Storage
before(async () => (storage = await createStorage()))
after(() => storage.drop())

/** Accepts messages in the order given, each with a place in the endpoint's queue. */
async function accept(endpointId: string, messages: readonly NewMessage[], eager = false) {
  const places = messages.map((message) => ({ messageId: message.id, endpointId, eager }))
  return acceptMessages(storage.pool, messages, true, 10_000, { places, routed: new Set() })
}

const idsOf = (rows: readonly { messageId: string }[] | undefined) => rows?.map((one) => one.messageId)

test('messages take their places in the order in which they are accepted, and their mailbox is woken once', async () => {
  const endpointId = newId('ep')
  const messages = newMessages(5).toReversed()
  const first = await accept(endpointId, messages.slice(0, 3))
  const second = await accept(endpointId, messages.slice(3))
  assert.deepEqual([first.wakes.map((one) => one.endpointId), second.wakes], [[endpointId], []])
  const { turn } = await takeTurn(storage.pool, endpointId)
  assert.deepEqual(idsOf(await readQueue(storage.pool, turn, { limit: 10 })), idsOf(messages.map(({ id }) => ({ messageId: id }))))
})

test('who has lost the turn reads nothing and writes nothing', async () => {
  const endpointId = newId('ep')
  const [message] = newMessages(1)
  await accept(endpointId, [message!])
  const first = await takeTurn(storage.pool, endpointId)
  const second = await takeTurn(storage.pool, endpointId)
  assert.deepEqual([first.clean, second.clean], [true, false])
  const records = [newRecord({ state: 'delivered', hadRow: true }, { messageId: message!.id, endpointId })]
  const input = { records, next: [message!.id] }
  assert.equal(await recordQueued(storage.pool, first.turn, input), undefined)
  assert.equal(await readQueue(storage.pool, first.turn, { limit: 1 }), undefined)
  assert.equal((await readQueue(storage.pool, second.turn, { limit: 1 }))?.length, 1)
  assert.deepEqual(await recordQueued(storage.pool, second.turn, { ...input, next: [] }), new Set())
  assert.deepEqual(await readQueue(storage.pool, second.turn, { limit: 1 }), [])
  await releaseTurn(storage.pool, second.turn)
  assert.equal((await takeTurn(storage.pool, endpointId)).clean, true)
})

test('a settled mailbox is idle when nothing waits, and whoever adds next wakes it', async () => {
  const endpointId = newId('ep')
  const { turn } = await takeTurn(storage.pool, endpointId)
  assert.equal(await settleQueue(storage.pool, turn, 'fifo'), null)
  const [one, other] = newMessages(2)
  assert.equal((await accept(endpointId, [one!])).wakes.length, 1)
  assert.equal((await accept(endpointId, [other!])).wakes.length, 0)
  assert.notEqual(await settleQueue(storage.pool, turn, 'fifo'), null)
})

test('the first of a fifo queue holds up the others; a key holds up its own', async () => {
  const endpointId = newId('ep')
  const messages = ['a', 'a', 'b'].map((orderingKey) => newMessage({ orderingKey }))
  await accept(endpointId, messages)
  const { turn } = await takeTurn(storage.pool, endpointId)
  const nextAtMs = Date.now() + 60_000
  const failed = newRecord({ state: 'parked', attempts: 1, nextAtMs }, { messageId: messages[0]!.id, endpointId })
  await recordQueued(storage.pool, turn, { records: [failed], next: [] })
  assert.equal(await settleQueue(storage.pool, turn, 'fifo'), nextAtMs)
  assert.ok((await settleQueue(storage.pool, turn, 'fifo-by-key'))! < nextAtMs)
  assert.deepEqual(idsOf(await readQueue(storage.pool, turn, { limit: 9, blockedKeys: ['a'] })), [messages[2]!.id])
})

test('a fan-out adds only what has neither begun nor ended', async () => {
  const endpointId = newId('ep')
  await storage.pool.query(`INSERT INTO endpoint (id, app_id, url, ordering) VALUES ($1, 'app_1', 'https://example.com/', 'fifo')`, [
    endpointId,
  ])
  const [waiting, done, missing] = newMessages(3)
  await accept(endpointId, [waiting!, done!])
  const { turn } = await takeTurn(storage.pool, endpointId)
  const records = [newRecord({ state: 'delivered', hadRow: true }, { messageId: done!.id, endpointId })]
  await recordQueued(storage.pool, turn, { records, next: [] })
  const all = [waiting!, done!, missing!].map(({ id }) => ({ messageId: id, endpointId, appId: 'app_1', orderingKey: null }))
  for (let i = 0; i < 2; i++) await enqueueDeliveries(storage.pool, all, { groupId: 'group', trigger: 0 })
  assert.deepEqual(idsOf(await readQueue(storage.pool, turn, { limit: 9 })), [waiting!.id, missing!.id])
  for (let i = 0; i < 2; i++) await enqueueDeliveries(storage.pool, all.slice(1, 2), { groupId: 'again', trigger: 1 })
  assert.deepEqual(idsOf(await readQueue(storage.pool, turn, { limit: 9 })), [waiting!.id, missing!.id, done!.id])
})

test('the head is skipped, or all that waits', async () => {
  const endpointId = newId('ep')
  const [first] = newMessages(1)
  await accept(endpointId, [first!, ...newMessages(2)])
  assert.deepEqual((await readQueueState(storage.pool, endpointId)).head?.messageId, first!.id)
  assert.equal(await skipQueued(storage.pool, endpointId, 'head'), 1)
  assert.equal((await readQueueState(storage.pool, endpointId)).depth, 2)
  assert.equal(await skipQueued(storage.pool, endpointId, 'all'), 2)
  assert.deepEqual(await readQueueState(storage.pool, endpointId), { depth: 0, head: null })
})

test('a fan-out that looks while a delivery is being recorded does not put it into the queue again', async () => {
  const endpointId = newId('ep')
  const [message] = newMessages(1)
  await storage.pool.query(`INSERT INTO endpoint (id, app_id, url, ordering) VALUES ($1, $2, 'https://example.com', 'fifo')`, [
    endpointId,
    message!.appId,
  ])
  await accept(endpointId, [message!])
  const { turn } = await takeTurn(storage.pool, endpointId)
  const recording = await storage.pool.connect()
  try {
    await recording.query('BEGIN')
    const records = [newRecord({ state: 'delivered', hadRow: true }, { messageId: message!.id, endpointId })]
    await recordQueued(recording, turn, { records, next: [] })
    const place = { messageId: message!.id, endpointId, appId: message!.appId, orderingKey: null }
    const enqueueing = enqueueDeliveries(storage.pool, [place], { groupId: newId('msg'), trigger: 0 })
    const lockWaits = `SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'`
    const waits = async () => (await storage.pool.query<{ n: number }>(lockWaits)).rows[0]!.n > 0
    const done = enqueueing.then(() => true)
    while (!(await Promise.race([done, waits()])));
    await recording.query('COMMIT')
    await enqueueing
  } finally {
    recording.release()
  }
  assert.deepEqual(await readQueue(storage.pool, turn, { limit: 10 }), [])
})
