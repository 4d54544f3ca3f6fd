import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import type { NewMessage } from '../../domain/message.ts'
import { adoptBatch, fixBatch, readForBatch, readSizes, recordBatch } from '../../storage/batches.ts'
import { readQueueState, skipQueued, takeTurn, type Turn } from '../../storage/mailbox-queue.ts'
import { createMessageCache } from '../../storage/messages.ts'
import { acceptMessages } from '../../storage/accept.ts'
import type { DeliveryChange } from '../../storage/records.ts'
import { count, createStorage, newMessages, newRecord, type Storage } from './rows.ts'

let storage: Storage
before(async () => (storage = await createStorage()))
after(() => storage.drop())

/** A queue with messages in it, and the turn to send them. */
async function fill(many: number): Promise<{ endpointId: string; ids: string[]; turn: Turn }> {
  const endpointId = newId('ep')
  const messages = newMessages(many)
  const places = messages.map((message) => ({ messageId: message.id, endpointId, eager: true }))
  await acceptMessages(storage.pool, messages, false, 0, { places, routed: new Set() })
  const { turn } = await takeTurn(storage.pool, endpointId)
  return { endpointId, ids: messages.map((one) => one.id), turn }
}

const batchIds = async (turn: Turn) => (await readForBatch(storage.pool, turn, true))?.map((one) => one.batchId)
const inFlight = async ({ endpointId }: Turn) =>
  (await storage.pool.query('SELECT FROM batch_in_flight WHERE endpoint_id = $1', [endpointId])).rowCount

/** What one request came to; `taken` says of which events it was taken though not of all. */
function recordsOf(turn: Turn, ids: readonly string[], change: DeliveryChange, taken: readonly number[] = []) {
  const whole = newRecord(change, { endpointId: turn.endpointId })
  const events = ids.map((messageId, i) => ({
    ...{ messageId, eventType: 'invoice.paid', groupId: messageId, trigger: 0 as const, attemptId: newId('atmpt') },
    taken: change.state === 'delivered' || taken.includes(i),
  }))
  return { batchId: 'batch_1', whole, events, sameBatch: taken.length === 0 }
}

test('what one request carries is fixed, and is skipped together while it is in flight', async () => {
  const { endpointId, ids, turn } = await fill(5)
  assert.deepEqual(await fixBatch(storage.pool, turn, 'batch_1', ids.slice(0, 2)), new Set(ids.slice(0, 2)))
  assert.equal(await skipQueued(storage.pool, endpointId, 'head'), 2)
  assert.equal((await readQueueState(storage.pool, endpointId)).depth, 3)
  assert.deepEqual(await fixBatch(storage.pool, turn, 'batch_2', ids), new Set(ids.slice(2)))
})

test('who takes over finds the batch that was in flight, with the same events under the same id', async () => {
  const { endpointId, ids, turn } = await fill(5)
  await fixBatch(storage.pool, turn, 'batch_1', ids.slice(0, 3))
  assert.deepEqual(await batchIds(turn), [null, null, null, null, null])
  const { turn: next } = await takeTurn(storage.pool, endpointId)
  assert.equal(await adoptBatch(storage.pool, turn), undefined)
  assert.equal(await adoptBatch(storage.pool, next), true)
  assert.deepEqual(await batchIds(next), ['batch_1', 'batch_1', 'batch_1', null, null])
  assert.equal(await skipQueued(storage.pool, endpointId, 'head'), 3)
  assert.deepEqual(await batchIds(next), [null, null])
})

test('a batch that was taken leaves the queue, with an attempt of each event', async () => {
  const { ids, turn } = await fill(3)
  await fixBatch(storage.pool, turn, 'batch_1', ids.slice(0, 2))
  await recordBatch(storage.pool, turn, recordsOf(turn, ids.slice(0, 2), { state: 'delivered', hadRow: false }))
  assert.deepEqual(
    (await readForBatch(storage.pool, turn, true))?.map((one) => one.messageId),
    ids.slice(2),
  )
  assert.equal(await count(storage.pool, 'attempt', `status = 0 AND next_attempt_at IS NULL AND message_id = ANY('{${ids.join(',')}}')`), 2)
  assert.equal(await inFlight(turn), 0)
})

test('a batch that failed stays together, one that was taken in part does not', async () => {
  const { ids, turn } = await fill(4)
  await fixBatch(storage.pool, turn, 'batch_1', ids)
  const nextAtMs = Date.now() + 60_000
  await recordBatch(storage.pool, turn, recordsOf(turn, ids, { state: 'parked', attempts: 1, nextAtMs }))
  const failed = await readForBatch(storage.pool, turn, true)
  assert.deepEqual(
    failed?.map(({ batchId, attempts, nextAtMs: at }) => ({ batchId, attempts, nextAtMs: at })),
    ids.map(() => ({ batchId: 'batch_1', attempts: 1, nextAtMs })),
  )
  assert.deepEqual(await readForBatch(storage.pool, turn, false), [])
  await recordBatch(storage.pool, turn, recordsOf(turn, ids, { state: 'parked', attempts: 2, nextAtMs }, [0, 2]))
  const left = await readForBatch(storage.pool, turn, true)
  assert.deepEqual(
    left?.map(({ messageId, batchId, attempts }) => ({ messageId, batchId, attempts })),
    [ids[1], ids[3]].map((messageId) => ({ messageId, batchId: null, attempts: 2 })),
  )
  assert.equal(await inFlight(turn), 0)
})

test('a message that was cancelled while its batch was sent stays so when the batch fails', async () => {
  const { ids, turn } = await fill(2)
  await fixBatch(storage.pool, turn, 'batch_1', ids)
  await storage.pool.query(`UPDATE delivery SET state = 'cancelled' WHERE message_id = $1`, [ids[0]])
  await recordBatch(storage.pool, turn, recordsOf(turn, ids, { state: 'dead', attempts: 1 }))
  const { rows } = await storage.pool.query('SELECT state FROM delivery WHERE message_id = ANY($1) ORDER BY seq', [ids])
  assert.deepEqual(
    rows.map((row: { state: string }) => row.state),
    ['cancelled', 'dead'],
  )
})

test('who has lost the turn fixes nothing and records nothing', async () => {
  const { endpointId, ids, turn } = await fill(2)
  await takeTurn(storage.pool, endpointId)
  assert.equal(await fixBatch(storage.pool, turn, 'batch_1', ids), undefined)
  assert.equal(await recordBatch(storage.pool, turn, recordsOf(turn, ids, { state: 'delivered', hadRow: false })), undefined)
  assert.equal(await inFlight(turn), 0)
  assert.equal((await readQueueState(storage.pool, endpointId)).depth, 2)
  assert.equal(await count(storage.pool, 'attempt', `endpoint_id = '${endpointId}'`), 0)
})

test('sizes are bytes, of messages in memory and of others', async () => {
  const cache = createMessageCache()
  const [known, other] = newMessages(2, { payload: '{"text":"ü"}' }) as [NewMessage, NewMessage]
  await acceptMessages(storage.pool, [known, other], false, 0)
  cache.set(known.id, known)
  const sizeOf = await readSizes(storage.pool, cache, [known.id, other.id, 'msg_gone'])
  assert.deepEqual([sizeOf(known.id), sizeOf(other.id), sizeOf('msg_gone')], [13, 13, 0])
})
