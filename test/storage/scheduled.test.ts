import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { LIMITS } from '../../domain/limits.ts'
import { cancelMessages } from '../../storage/cancelling.ts'
import { createMessageCache, readMessages } from '../../storage/messages.ts'
import { createRecorder } from '../../storage/recorder.ts'
import { overdueSchedule, releaseDue, settleSchedule, storeTogether } from '../../storage/scheduled.ts'
import { count, createStorage, newMessage, newMessages, newRecord, type Storage } from './rows.ts'

const HOUR_MS = 3_600_000
let storage: Storage

before(async () => {
  storage = await createStorage(12)
})
afterEach(async () => {
  await storage.pool.query('TRUNCATE message, message_event_id, outbox, scheduled_message, attempt, delivery')
  await storage.pool.query('UPDATE schedule_timer SET wake_at = NULL')
})
after(() => storage.drop())

const inAnHour = (changes: object = {}) => newMessage({ deliverAtMs: Date.now() + HOUR_MS, ...changes })

async function scheduled(): Promise<string[]> {
  const { rows } = await storage.pool.query<{ message_id: string }>('SELECT message_id FROM scheduled_message ORDER BY 1')
  return rows.map((row) => row.message_id)
}

async function makeDue(): Promise<void> {
  await storage.pool.query(`UPDATE scheduled_message SET deliver_at = now() - interval '1 s'`)
}

test('what has a time waits for it, what has none is in the outbox, and only an earlier time wakes the schedule', async () => {
  const [now, later, sooner] = [newMessage(), inAnHour(), inAnHour({ deliverAtMs: Date.now() + 60_000 })]
  assert.equal((await storeTogether(storage.pool, [now, later])).wakeAtMs, later.deliverAtMs)
  assert.equal(await count(storage.pool, 'outbox'), 1)
  assert.deepEqual(await scheduled(), [later.id])
  assert.equal((await storeTogether(storage.pool, [inAnHour({ deliverAtMs: Date.now() + 2 * HOUR_MS })])).wakeAtMs, undefined)
  assert.equal((await storeTogether(storage.pool, [sooner])).wakeAtMs, sooner.deliverAtMs)
})

test('messages are stored all or none', async () => {
  const taken = newMessage({ eventId: 'taken' })
  await storeTogether(storage.pool, [taken])
  const refused = [inAnHour(), newMessage({ eventId: 'free' }), newMessage({ eventId: 'taken' })]
  const { accepted } = await storeTogether(storage.pool, refused)
  assert.deepEqual([accepted.has(refused[1]!.id), accepted.has(refused[2]!.id)], [true, false])
  assert.deepEqual([await count(storage.pool, 'message'), await count(storage.pool, 'message_event_id'), await scheduled()], [1, 1, []])
})

test('what is due enters the outbox once, however many release it', async () => {
  await storeTogether(
    storage.pool,
    newMessages(50).map((one) => ({ ...one, deliverAtMs: Date.now() + HOUR_MS })),
  )
  assert.equal(await releaseDue(storage.pool), 0)
  await makeDue()
  await storeTogether(storage.pool, [inAnHour()])
  const released = await Promise.all(Array.from({ length: 4 }, () => releaseDue(storage.pool)))
  assert.equal(
    released.reduce((sum, one) => sum + one, 0),
    50,
  )
  assert.equal(await count(storage.pool, 'outbox'), 50)
  assert.equal((await scheduled()).length, 1)
})

test('more than one statement releases is released by the next', async () => {
  const many = newMessages(LIMITS.releaseBatch + 3).map((one) => ({ ...one, deliverAtMs: Date.now() + HOUR_MS }))
  await storeTogether(storage.pool, many)
  await makeDue()
  assert.deepEqual([await releaseDue(storage.pool), await releaseDue(storage.pool)], [LIMITS.releaseBatch, 3])
})

test('settling and scheduling at once never leaves a message that nobody wakes for', async () => {
  for (let round = 0; round < 100; round++) {
    const messages = [inAnHour(), inAnHour({ deliverAtMs: Date.now() + HOUR_MS - 5000 })]
    const [first, second, settled] = await Promise.all([
      storeTogether(storage.pool, [messages[0]!]),
      storeTogether(storage.pool, [messages[1]!]),
      settleSchedule(storage.pool),
    ])
    const earliestMs = messages[1]!.deliverAtMs
    assert.ok([first.wakeAtMs, second.wakeAtMs, settled].includes(earliestMs), `round ${round}`)
    assert.equal(await settleSchedule(storage.pool), earliestMs)
    await storage.pool.query('DELETE FROM scheduled_message')
    assert.equal(await settleSchedule(storage.pool), null)
  }
})

test('a schedule whose wake was lost is found when its time has passed', async () => {
  const message = newMessage({ deliverAtMs: Date.now() - 60_000 })
  await storeTogether(storage.pool, [message])
  assert.equal(await overdueSchedule(storage.pool, 5000), message.deliverAtMs)
  assert.equal(await overdueSchedule(storage.pool, 120_000), undefined)
  await releaseDue(storage.pool)
  await settleSchedule(storage.pool)
  assert.equal(await overdueSchedule(storage.pool, 5000), undefined)
})

test('a cancelled message leaves the schedule, and is read as cancelled', async () => {
  const [one, other] = [inAnHour(), inAnHour()]
  await storeTogether(storage.pool, [one, other])
  assert.deepEqual(await cancelMessages(storage.pool, 'app_1', { messageIds: [one.id, 'msg_unknown'] }, 10), [
    { messageId: one.id, unscheduled: true, deliveries: 0 },
  ])
  assert.deepEqual(await scheduled(), [other.id])
  const read = await readMessages(storage.pool, createMessageCache(), [one.id, other.id])
  assert.deepEqual([read.get(one.id)?.cancelled, read.get(other.id)?.cancelled], [true, false])
  assert.deepEqual(await cancelMessages(storage.pool, 'app_2', { messageIds: [other.id] }, 10), [])
})

test('cancelled deliveries stay so when the attempt under way fails, and another fan-out may begin anew', async () => {
  const message = newMessage()
  await storeTogether(storage.pool, [message])
  const recorder = createRecorder({ pool: storage.pool, onWake: () => undefined })
  const fails = (groupId: string, state: 'retrying' | 'parked' = 'retrying') =>
    recorder.record(newRecord({ state, attempts: 1, nextAtMs: Date.now() + HOUR_MS }, { messageId: message.id, groupId }))
  const state = async () => (await storage.pool.query<{ state: string }>('SELECT state FROM delivery')).rows[0]?.state
  await fails(message.id)
  assert.deepEqual(await cancelMessages(storage.pool, 'app_1', { messageIds: [message.id] }, 10), [
    { messageId: message.id, unscheduled: false, deliveries: 1 },
  ])
  await fails(message.id)
  assert.equal(await state(), 'cancelled')
  await fails(message.id, 'parked')
  assert.equal(await state(), 'cancelled')
  await fails('another')
  assert.equal(await state(), 'retrying')
})

test('filters choose among what waits alone, the oldest first', async () => {
  const recorder = createRecorder({ pool: storage.pool, onWake: () => undefined })
  const [waiting, delivered, timed] = [newMessage({ channels: ['x'] }), newMessage(), inAnHour({ eventType: 'other' })]
  await storeTogether(storage.pool, [waiting, delivered, timed])
  await recorder.record(newRecord({ state: 'parked', attempts: 6, nextAtMs: Date.now() + HOUR_MS }, { messageId: waiting.id }))
  await recorder.record(newRecord({ state: 'dead', attempts: 6 }, { messageId: delivered.id }))
  const chosen = async (request: object, limit = 10) => {
    const client = await storage.pool.connect()
    await client.query('BEGIN')
    const cancelled = await cancelMessages(client, 'app_1', request, limit)
    await client.query('ROLLBACK')
    client.release()
    return cancelled.map((one) => one.messageId)
  }
  assert.deepEqual(await chosen({}), [waiting.id, timed.id].sort())
  assert.deepEqual(await chosen({}, 1), [[waiting.id, timed.id].sort()[0]])
  assert.deepEqual(await chosen({ eventTypes: ['other'] }), [timed.id])
  assert.deepEqual(await chosen({ channel: 'x' }), [waiting.id])
  assert.deepEqual(
    await chosen({ beforeId: waiting.id, afterId: 'msg_0' }),
    [waiting.id, timed.id].filter((id) => id < waiting.id),
  )
})
