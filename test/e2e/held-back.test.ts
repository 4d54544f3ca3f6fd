import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createCalls, numbers } from '../support/calls.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

const EACH = 3
const MESSAGES = 30

let service: TestService
let receiver: Receiver
let pool: Pool
let connection: Connection

before(async () => {
  receiver = await startReceiver((one, earlier) => ({ status: one.path.startsWith('/dead') || earlier === 0 ? 500 : 200 }))
  // Long enough for breakers to open before the first retry.
  service = await startTestService({ env: { TIDINGS_RETRY_SCHEDULE: '4,4,4' } })
  pool = createPool(service.database.url, 2)
  connection = await Connection.connect({ address: service.temporal.address })
})

after(async () => {
  await connection.close()
  await pool.end()
  await service.stop()
  await receiver.close()
})

/** Ids of the activities that the fan-outs of the messages have scheduled. */
async function activityIdsOf(messageIds: readonly string[]): Promise<Set<string>> {
  const client = new Client({ connection, namespace: service.temporal.namespace })
  const { rows } = await pool.query<{ group_id: string }>('SELECT DISTINCT group_id FROM attempt WHERE message_id = ANY($1)', [messageIds])
  const ids = new Set<string>()
  for (const { group_id: groupId } of rows) {
    const { events } = await client.workflow.getHandle(`fan-out/${groupId}`).fetchHistory()
    for (const event of events ?? []) ids.add(event.activityTaskScheduledEventAttributes?.activityId ?? '')
  }
  return ids
}

test('of many endpoints that fail those whose breakers open are parked without an activity, the others are retried by theirs', async () => {
  const { svix } = service
  const { id: app } = await svix.application.create({ name: 'held back' })
  const calls = createCalls(service)
  const create = async (path: string, fields: object) =>
    String((await calls.call('POST', `/app/${app}/endpoint`, { url: `${receiver.url}${path}`, ...fields })).json['id'])
  const [dead, flaky]: [string[], string[]] = [[], []]
  for (let n = 0; n < EACH; n++) {
    dead.push(await create(`/dead/${n}`, {}))
    flaky.push(await create(`/flaky/${n}`, { circuitBreaker: false }))
  }
  const messageIds = await calls.publishTogether(app, numbers(MESSAGES))
  await receiver.waitFor(2 * EACH * MESSAGES, { matches: (one) => one.path.startsWith('/flaky'), timeoutMs: 60_000 })
  const parked = () =>
    pool.query<{ waiting: number }>(`SELECT count(*) AS waiting FROM delivery WHERE endpoint_id = ANY($1) AND state = 'parked'`, [dead])
  await eventually(parked, ({ rows }) => Number(rows[0]?.waiting) === EACH * MESSAGES)
  const activities = await activityIdsOf(messageIds)
  assert.deepEqual(
    dead.filter((id) => activities.has(id)),
    [],
  )
  for (const id of flaky) assert.ok(activities.has(id), `${id} had no activity`)
  const requests = receiver.received.filter((one) => one.path.startsWith('/dead')).length
  assert.ok(requests < EACH * MESSAGES, `${requests} requests to dead endpoints`)
})
