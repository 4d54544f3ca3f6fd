import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, afterEach, before, test } from 'node:test'
import { endDeliveries, readDeliveryStates, readDueParked, readRecordedAttempts } from '../../storage/deliveries.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { createRecorder } from '../../storage/recorder.ts'
import { NO_RUN } from '../../domain/outcome.ts'
import type { DeliveryChange } from '../../storage/records.ts'
import { count, createStorage, newMessages, newRecord, type Storage } from './rows.ts'

let storage: Storage

before(async () => {
  storage = await createStorage()
})

afterEach(() => storage.pool.query('TRUNCATE attempt, delivery, mailbox, message, outbox'))
after(() => storage.drop())

const WAITS = { state: 'retrying', attempts: 2, nextAtMs: Date.UTC(2026, 0, 1) } as const
const PARKED = { state: 'parked', attempts: 6, nextAtMs: Date.UTC(2026, 0, 1) } as const
const ENDED = { state: 'dead', attempts: 13 } as const

async function record(change: DeliveryChange, messageId: string, groupId: string, runId: string): Promise<void> {
  await createRecorder({ pool: storage.pool, onWake: () => undefined }).record(newRecord(change, { messageId, groupId, runId }))
}

async function stateOf(messageId: string, groupId: string, runId: string) {
  const [state] = await readDeliveryStates(storage.pool, { endpointId: 'ep_1', messageIds: [messageId], groupId, runId })
  return state
}

const runId = randomUUID()

test('a delivery that no run has attempted is new, also where the message is not known', async () => {
  assert.deepEqual(await stateOf('m', 'g', runId), { messageId: 'm', state: 'new', attempts: 0, nextAtMs: 0 })
})

test('a delivery of this fan-out is as its row says', async () => {
  for (const change of [WAITS, PARKED, ENDED]) {
    await record(change, 'm', 'g', runId)
    const state = await stateOf('m', 'g', runId)
    assert.deepEqual([state?.state, state?.attempts], [change.state, change.attempts])
    assert.equal(state?.nextAtMs, 'nextAtMs' in change ? change.nextAtMs : 0)
  }
})

test('a delivery that waits in another fan-out is elsewhere: a resend has taken it over', async () => {
  for (const change of [WAITS, PARKED]) {
    await record(change, 'm', 'resend', randomUUID())
    assert.equal((await stateOf('m', 'g', runId))?.state, 'elsewhere')
  }
})

test('what this run has answered is over, and what only another run answered is new, with its attempts at zero', async () => {
  await record({ state: 'delivered', hadRow: false }, 'm', 'g', runId)
  assert.equal((await stateOf('m', 'g', runId))?.state, 'over')
  assert.deepEqual(await stateOf('m', 'g', randomUUID()), { messageId: 'm', state: 'new', attempts: 0, nextAtMs: 0 })
})

test('a resend of what an earlier fan-out has buried begins anew', async () => {
  await record(ENDED, 'm', 'g', randomUUID())
  const state = await stateOf('m', 'resend', runId)
  assert.deepEqual([state?.state, state?.attempts], ['new', 0])
})

test('a run knows what it has recorded and nothing of other runs', async () => {
  await record({ state: 'delivered', hadRow: false }, 'm1', 'g', runId)
  await record(WAITS, 'm2', 'g', runId)
  await record({ state: 'delivered', hadRow: false }, 'm3', 'g', randomUUID())
  const recorded = await readRecordedAttempts(storage.pool, { messageIds: ['m1', 'm2', 'm3', 'm4'], groupId: 'g', runId, isFirstRun: true })
  assert.deepEqual(
    recorded.toSorted((a, b) => (a.messageId < b.messageId ? -1 : 1)),
    [
      { messageId: 'm1', endpointId: 'ep_1', delivered: true },
      { messageId: 'm2', endpointId: 'ep_1', delivered: false },
    ],
  )
})

test('what was begun with the start of a group counts for its first run, not for one that was reset, nor for another group', async () => {
  await record({ state: 'delivered', hadRow: false }, 'm1', 'g', NO_RUN)
  await record(WAITS, 'm2', 'g', NO_RUN)
  const messageIds = ['m1', 'm2', 'm3']
  const recorded = await readRecordedAttempts(storage.pool, { messageIds, groupId: 'g', runId, isFirstRun: true })
  assert.deepEqual(
    recorded.toSorted((a, b) => (a.messageId < b.messageId ? -1 : 1)),
    [
      { messageId: 'm1', endpointId: 'ep_1', delivered: true },
      { messageId: 'm2', endpointId: 'ep_1', delivered: false },
    ],
  )
  assert.deepEqual(await readRecordedAttempts(storage.pool, { messageIds, groupId: 'g', runId, isFirstRun: false }), [])
  assert.deepEqual(await readRecordedAttempts(storage.pool, { messageIds, groupId: 'resend', runId, isFirstRun: true }), [])
})

test('a fan-out that is executed again leaves to the mailbox what it has parked before its first request', async () => {
  const parked = { state: 'parked', attempts: 0, nextAtMs: Date.now() } as const
  await createRecorder({ pool: storage.pool, onWake: () => undefined }).record({
    messageId: 'm1',
    endpointId: 'ep_1',
    appId: 'app_1',
    trigger: 0,
    groupId: 'g',
    change: parked,
  })
  const again = { messageIds: ['m1'], runId: randomUUID(), isFirstRun: false }
  assert.deepEqual(await readRecordedAttempts(storage.pool, { ...again, groupId: 'g' }), [
    { messageId: 'm1', endpointId: 'ep_1', delivered: false },
  ])
  assert.deepEqual(await readRecordedAttempts(storage.pool, { ...again, groupId: 'resend' }), [])
})

test('a single attempt that waits stays one, unless it took over a delivery that was to be retried', async () => {
  const waits = { state: 'parked', attempts: 0, nextAtMs: Date.now(), retried: false } as const
  await record(waits, 'm1', 'resend', runId)
  await record(WAITS, 'm2', 'g', runId)
  await record(waits, 'm2', 'resend', runId)
  const due = await readDueParked(storage.pool, 'ep_1', Date.now() + 1, 10)
  assert.deepEqual(
    due.map((one) => [one.messageId, one.retried]),
    [
      ['m1', false],
      ['m2', true],
    ],
  )
})

test('ending buries what waits and what has no row yet, and leaves what has ended', async () => {
  const messages = newMessages(4)
  await acceptMessages(storage.pool, messages, true, 0)
  const [waits, parkedOne, ended, fresh] = messages.map((message) => message.id)
  await record(WAITS, waits!, 'g', runId)
  await record(PARKED, parkedOne!, 'g', runId)
  await record(ENDED, ended!, 'g', runId)
  await endDeliveries(storage.pool, { endpointId: 'ep_1', messageIds: messages.map((one) => one.id), groupId: 'g', state: 'skipped' })
  const { rows } = await storage.pool.query<{ message_id: string; state: string }>('SELECT message_id, state FROM delivery')
  assert.deepEqual(
    new Map(rows.map((row) => [row.message_id, row.state])),
    new Map([
      [waits!, 'skipped'],
      [parkedOne!, 'skipped'],
      [ended!, 'dead'],
      [fresh!, 'skipped'],
    ]),
  )
})

test('ending ends a parked delivery whose message has been removed, or its mailbox would drain it for ever', async () => {
  await record(PARKED, 'removed', 'g', runId)
  await endDeliveries(storage.pool, { endpointId: 'ep_1', messageIds: ['removed'], groupId: 'g', state: 'dead' })
  assert.deepEqual(await readDueParked(storage.pool, 'ep_1', Date.now(), 10), [])
  assert.equal(await count(storage.pool, 'delivery', `state = 'dead'`), 1)
})
