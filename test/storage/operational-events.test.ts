import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import { MANAGEMENT_ORGANISATION } from '../../domain/operational.ts'
import { createOperationalEvents, type OperationalEvents } from '../../storage/operational-events.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { createRecorder } from '../../storage/recorder.ts'
import type { DeliveryChange, Record } from '../../storage/records.ts'
import { createStorage, newMessage, newRecord, type Storage } from './rows.ts'

let storage: Storage
let operational: OperationalEvents

before(async () => {
  storage = await createStorage()
})
afterEach(() => storage.pool.query('TRUNCATE application, attempt, delivery, message, message_event_id, outbox, endpoint CASCADE'))
after(() => storage.drop())

interface Customer {
  readonly orgId: string
  readonly appId: string
  readonly messageId: string
}

/** An organisation with a message, and an operational endpoint for these event types. */
async function customer(eventTypes: string[] | null, orgId = newId('org')): Promise<Customer> {
  operational = createOperationalEvents(storage.pool)
  const { pool } = storage
  const appId = newId('app')
  const managementId = newId('app')
  const application = 'INSERT INTO application (id, org_id, uid, name) VALUES ($1, $2, $3, $1)'
  await pool.query(application, [appId, orgId, 'shop'])
  await pool.query(application, [managementId, MANAGEMENT_ORGANISATION, orgId])
  const endpoint = `INSERT INTO endpoint (id, app_id, uid, url, event_types) VALUES ($1, $2, $3, 'https://example.com', $4)`
  await pool.query(endpoint, ['ep_1', appId, 'mine', null])
  await pool.query(endpoint, [newId('ep'), managementId, null, eventTypes])
  const message = newMessage({ appId, eventId: 'order-1' })
  await acceptMessages(pool, [message], false, 0)
  await pool.query('DELETE FROM outbox')
  return { orgId, appId, messageId: message.id }
}

async function record(one: Customer, change: DeliveryChange): Promise<Record & { attempt: { id: string } }> {
  const made = newRecord(change, { appId: one.appId, messageId: one.messageId, createdAtMs: Date.UTC(2026, 0, 1) })
  await createRecorder({ pool: storage.pool, operational, onWake: () => undefined }).record(made)
  return made
}

/** What was stored for operational endpoints, with an outbox row each. */
async function told(): Promise<{ type: string; data: object }[]> {
  const { rows } = await storage.pool.query<{ payload: string }>(
    `SELECT m.payload FROM message m JOIN outbox o ON o.id = m.id JOIN application a ON a.id = m.app_id WHERE a.org_id = $1 ORDER BY o.created_at`,
    [MANAGEMENT_ORGANISATION],
  )
  return rows.map((row) => JSON.parse(row.payload) as { type: string; data: object })
}

const fails = (attempts: number) => ({ state: 'parked', attempts, nextAtMs: Date.now() + 60_000 }) as const
const DELIVERED = { state: 'delivered', hadRow: true } as const
const DEAD = { state: 'dead', attempts: 13 } as const

test('the fourth failure, the end of the attempts and a late success are told with the last attempt', async () => {
  const one = await customer(null)
  for (const attempts of [1, 2, 3]) await record(one, fails(attempts))
  assert.deepEqual(await told(), [])
  const fourth = await record(one, fails(4))
  const last = await record(one, DEAD)
  const recovery = await record(one, DELIVERED)
  const data = (attemptId: string, responseStatusCode: number) => ({
    appId: one.appId,
    appUid: 'shop',
    endpointId: 'ep_1',
    endpointUid: 'mine',
    msgId: one.messageId,
    msgEventId: 'order-1',
    lastAttempt: { id: attemptId, responseStatusCode, timestamp: '2026-01-01T00:00:00.000Z' },
  })
  assert.deepEqual(await told(), [
    { type: 'message.attempt.failing', data: data(fourth.attempt.id, 500) },
    { type: 'message.attempt.exhausted', data: data(last.attempt.id, 500) },
    { type: 'message.attempt.recovered', data: data(recovery.attempt.id, 200) },
  ])
})

test('a success after few failures, or after an earlier success, is no recovery', async () => {
  const one = await customer(null)
  for (const attempts of [1, 2, 3]) await record(one, fails(attempts))
  await record(one, DELIVERED)
  assert.deepEqual(await told(), [])
  await record(one, fails(4))
  await record(one, DELIVERED)
  assert.deepEqual(
    (await told()).map((event) => event.type),
    ['message.attempt.failing'],
  )
})

test('a dead letter that is delivered by hand has recovered', async () => {
  const one = await customer(['message.attempt.recovered'])
  await record(one, { state: 'dead', attempts: 2 })
  await record(one, DELIVERED)
  assert.deepEqual(
    (await told()).map((event) => event.type),
    ['message.attempt.recovered'],
  )
})

test('only the types that are subscribed to are stored, and nothing without an operational endpoint', async () => {
  const one = await customer(['message.attempt.exhausted'])
  await record(one, fails(4))
  assert.deepEqual(await told(), [])
  await storage.pool.query('UPDATE endpoint SET disabled = true')
  operational.forgetAll()
  await record(one, DEAD)
  assert.deepEqual(await told(), [])
})

test('an attempt whose record is repeated is told of once', async () => {
  const one = await customer(null)
  const made = newRecord(DEAD, { appId: one.appId, messageId: one.messageId })
  const recorder = createRecorder({ pool: storage.pool, operational, onWake: () => undefined })
  await recorder.record(made)
  await recorder.record({ ...made })
  assert.equal((await told()).length, 1)
})

test('failures of operational events are not told: no event leads to another', async () => {
  const one = await customer(null, MANAGEMENT_ORGANISATION)
  await record(one, DEAD)
  assert.deepEqual(await told(), [])
})
