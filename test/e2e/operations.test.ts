import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { Webhook } from 'standardwebhooks'
import type { FanOutInput } from '../../domain/fan-out.ts'
import { newId } from '../../domain/ids.ts'
import { FAN_OUT_TASK_QUEUE, fanOutWorkflowId, mailboxWorkflowId, replayWorkflowId } from '../../domain/names.ts'
import { insertTask } from '../../storage/background-tasks.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

let service: TestService
let receiver: Receiver
let pool: Pool
let connection: Connection
let client: Client

// 20 ms between attempts.
const FIVE_ATTEMPTS = [1, 1, 1, 1]

before(async () => {
  receiver = await startReceiver((one, earlier) => {
    if (one.path === '/down') return { status: 503 }
    return { status: one.path === '/late' && earlier < 4 ? 500 : 200 }
  })
  service = await startTestService({ env: { TIDINGS_RETRY_TIME_SCALE: '0.02' } })
  pool = createPool(service.database.url, 2)
  connection = await Connection.connect({ address: service.temporal.address })
  client = new Client({ connection, namespace: service.temporal.namespace })
})
after(async () => {
  await connection.close()
  await pool.end()
  await service.stop()
  await receiver.close()
})

async function call(method: string, path: string, body?: unknown): Promise<{ status: number; json: Record<string, unknown> }> {
  const response = await fetch(`${service.url}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${service.token}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, json: (await response.json()) as Record<string, unknown> }
}

async function applicationWith(path: string, retrySchedule: number[] = FIVE_ATTEMPTS): Promise<{ app: string; endpoint: string }> {
  const { id: app } = await service.svix.application.create({ name: path })
  const { json } = await call('POST', `/app/${app}/endpoint`, { url: `${receiver.url}${path}`, retrySchedule })
  return { app, endpoint: json['id'] as string }
}

const publish = (app: string) => service.svix.message.create(app, { eventType: 'invoice.paid', payload: { paid: true } })

const at = (path: string) => ({ matches: (one: { path: string }) => one.path === path })

const finished = (taskId: string) =>
  eventually(
    () => service.svix.backgroundTask.get(taskId),
    (task) => String(task.status) === 'finished',
  )

test('what becomes of deliveries is told by signed operational webhooks', async () => {
  const down = await applicationWith('/down')
  // Looked up and found to have nobody to tell: the process hears that there is somebody now.
  const untold = await publish(down.app)
  await eventually(
    () => pool.query(`SELECT FROM delivery WHERE message_id = $1 AND state = 'dead'`, [untold.id]),
    ({ rowCount }) => rowCount === 1,
  )
  const operational = await service.svix.operationalWebhook.endpoint.create({ url: `${receiver.url}/operational` })
  const { key } = await service.svix.operationalWebhook.endpoint.getSecret(operational.id)
  const late = await applicationWith('/late')
  const dead = await publish(down.app)
  const recovered = await publish(late.app)
  // One endpoint created; failing and exhausted of one message, failing and recovered of the other.
  const received = await receiver.waitFor(5, at('/operational'))
  const events = received.map((one) => new Webhook(key).verify(one.body, one.headers) as { type: string; data: Record<string, unknown> })
  const told = events.map(({ type, data }) => `${type} ${String(data['msgId'] ?? data['endpointId'])}`)
  assert.deepEqual(
    told.sort(),
    [
      `endpoint.created ${late.endpoint}`,
      `message.attempt.exhausted ${dead.id}`,
      `message.attempt.failing ${dead.id}`,
      `message.attempt.failing ${recovered.id}`,
      `message.attempt.recovered ${recovered.id}`,
    ].sort(),
  )
  const exhausted = events.find((event) => event.type === 'message.attempt.exhausted')?.data
  assert.equal((exhausted?.['lastAttempt'] as { responseStatusCode: number }).responseStatusCode, 503)
  await service.svix.operationalWebhook.endpoint.delete(operational.id)
})

test('an endpoint is sent what it missed before it was there, and the task ends', async () => {
  const { id: app } = await service.svix.application.create({ name: 'missing' })
  const since = new Date(Date.now() - 60_000)
  const ids = (await Promise.all(Array.from({ length: 3 }, () => publish(app)))).map((message) => message.id)
  // Their fan-outs have reached nobody.
  await eventually(
    () => pool.query('SELECT FROM outbox'),
    ({ rowCount }) => rowCount === 0,
  )
  const endpoint = await service.svix.endpoint.create(app, { url: `${receiver.url}/missing` })
  const begun = await service.svix.endpoint.replayMissing(app, endpoint.id, { since })
  const received = await receiver.waitFor(3, at('/missing'))
  assert.deepEqual(new Set(received.map((one) => one.headers['webhook-id'])), new Set(ids))
  assert.deepEqual((await finished(begun.id)).data, { deliveries: 3 })
})

test('an erased application leaves nothing, its waiting deliveries end, and its fan-outs do not wait for its messages', async () => {
  // The second attempt is due in 200 s: parked in the mailbox.
  const { app, endpoint } = await applicationWith('/down', [10_000])
  const message = await publish(app)
  await eventually(
    () => pool.query(`SELECT FROM delivery WHERE app_id = $1 AND state = 'parked'`, [app]),
    ({ rowCount }) => rowCount === 1,
  )
  const { status, json } = await call('POST', `/app/${app}/erase`)
  assert.deepEqual([status, json['task']], [202, 'application.erase'])
  assert.equal((await call('GET', `/app/${app}`)).status, 404)
  const task = await finished(json['id'] as string)
  assert.deepEqual(task.data, { messages: 1, attempts: 1, deliveries: 1, endpoints: 1 })
  for (const table of ['application', 'endpoint', 'message', 'attempt', 'delivery', 'outbox', 'mailbox']) {
    const { rowCount } = await pool.query(`SELECT FROM ${table} t WHERE t::text LIKE ANY ($1)`, [
      [app, endpoint, message.id].map((id) => `%${id}%`),
    ])
    assert.equal(rowCount, 0, table)
  }
  // As if the fan-out had been started, or reset by an operator, after the erasure.
  const groupId = newId('out')
  const input: FanOutInput = { groupId, messageIds: [message.id], trigger: 0, retried: true, partitions: service.config.partitions }
  const workflowId = fanOutWorkflowId(groupId)
  await client.workflow.start('fanOut', { workflowId, taskQueue: FAN_OUT_TASK_QUEUE, args: [input] })
  assert.deepEqual(await client.workflow.getHandle(workflowId).result(), { messages: 1, deliveredAtFirst: 0, continued: 0 })
  // The mailbox finds nothing when it wakes.
  const mailbox = client.workflow.getHandle(mailboxWorkflowId(endpoint))
  await mailbox.signal('wake', { wakeAtMs: Date.now() })
  await mailbox.result()
  const entries = (await call('GET', `/audit-log?application=${app}`)).json['data'] as { operation: string }[]
  assert.equal(entries[0]?.operation, 'application.erased')
  assert.equal((await call('POST', `/app/${app}/erase`)).status, 404)
})

test('a replay that an operator cancels is a cancelled task', async () => {
  const { app, endpoint } = await applicationWith('/cancelled')
  const id = newId('qtask')
  const range = { since: '2026-01-01T00:00:00Z', until: new Date().toISOString() }
  const input = { applicationId: app, endpointId: endpoint, status: 'missing', ...range } as const
  await insertTask(pool, { id, orgId: service.organisation, appId: app, task: 'endpoint.replay', input })
  await client.workflow.signalWithStart('replay', {
    workflowId: replayWorkflowId(id),
    taskQueue: FAN_OUT_TASK_QUEUE,
    args: [{ ...input, taskId: id }],
    signal: 'cancel',
    signalArgs: [],
  })
  await client.workflow.getHandle(replayWorkflowId(id)).result()
  assert.equal(String((await service.svix.backgroundTask.get(id)).status), 'cancelled')
})

test('a task whose workflow was not started is started by the sweep', async () => {
  const { app, endpoint } = await applicationWith('/redriven')
  const message = await publish(app)
  await receiver.waitFor(1, at('/redriven'))
  await pool.query(`INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, group_id) VALUES ($1, $2, $3, 'dead', 5, $1)`, [
    message.id,
    endpoint,
    app,
  ])
  const id = newId('qtask')
  const input = { applicationId: app, endpointId: endpoint, diedBefore: new Date(Date.now() + 1000).toISOString() }
  await insertTask(pool, { id, orgId: service.organisation, appId: app, task: 'dead-letter.redrive', input })
  assert.deepEqual((await finished(id)).data, { redriven: 1 })
  await receiver.waitFor(2, at('/redriven'))
})
