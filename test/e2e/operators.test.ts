import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'
import { temporalCli, temporalJson } from '../support/temporal-cli.ts'

let service: TestService
let receiver: Receiver
/** What `/switch` answers. */
let status = 200

before(async () => {
  receiver = await startReceiver((one) => ({ status: one.path.startsWith('/switch') ? status : 200 }))
  // Waits of half a minute, so that operators find deliveries waiting.
  service = await startTestService({ env: { TIDINGS_RETRY_SCHEDULE: '30,30,30' } })
})

after(async () => {
  await service.stop()
  await receiver.close()
})

interface Pending {
  readonly activityId: string
  readonly state: string
  readonly attempt?: number
}

async function publishOne(path: string) {
  const application = await service.svix.application.create({ name: path })
  const endpoint = await service.svix.endpoint.create(application.id, { url: `${receiver.url}${path}?token=hidden` })
  const message = await service.svix.message.create(application.id, { eventType: 'invoice.paid', payload: { amount: 1 } })
  return { appId: application.id, endpointId: endpoint.id, messageId: message.id }
}

const arrivals = (messageId: string) => receiver.received.filter((one) => one.headers['webhook-id'] === messageId).length

async function workflowIdOf(appId: string, messageId: string): Promise<string> {
  const response = await fetch(`${service.url}/api/v1/app/${appId}/msg/${messageId}`, {
    headers: { authorization: `Bearer ${service.token}` },
  })
  return ((await response.json()) as { workflowId: string }).workflowId
}

async function pendingOf(workflowId: string): Promise<Pending[]> {
  const shown = await temporalJson<{ pendingActivities?: Pending[] }>(service.temporal, 'workflow', 'describe', '-w', workflowId)
  return shown.pendingActivities ?? []
}

/** A delivery that waits for its retry, half a minute away. */
async function waitingDelivery() {
  status = 500
  const published = await publishOne('/switch')
  await receiver.waitFor(1, { matches: (one) => one.headers['webhook-id'] === published.messageId })
  const workflowId = await eventually(
    () => workflowIdOf(published.appId, published.messageId),
    (id) => id !== undefined,
  )
  await eventually(
    () => pendingOf(workflowId),
    (pending) => pending.some((one) => (one.attempt ?? 1) > 1),
  )
  return { ...published, workflowId }
}

/** The fan-out of a message, once it has ended. */
async function completed(appId: string, messageId: string): Promise<string> {
  await receiver.waitFor(1, { matches: (one) => one.headers['webhook-id'] === messageId })
  const workflowId = await eventually(
    () => workflowIdOf(appId, messageId),
    (id) => id !== undefined,
  )
  await eventually(
    () => temporalJson<{ workflowExecutionInfo: { status: string } }>(service.temporal, 'workflow', 'describe', '-w', workflowId),
    (shown) => shown.workflowExecutionInfo.status === 'WORKFLOW_EXECUTION_STATUS_COMPLETED',
  )
  return workflowId
}

test('a message is found in Temporal by its id, its application and its event type', async () => {
  const { appId, messageId } = await publishOne('/healthy')
  await receiver.waitFor(1, { matches: (one) => one.headers['webhook-id'] === messageId })
  const workflowId = await eventually(
    () => workflowIdOf(appId, messageId),
    (id) => id !== undefined,
  )
  assert.equal(workflowId, `fan-out/${messageId}`)
  for (const query of [`MessageIds = '${messageId}'`, `ApplicationIds = '${appId}' AND EventTypes = 'invoice.paid'`]) {
    const found = await eventually(
      () => temporalJson<{ execution: { workflowId: string } }[]>(service.temporal, 'workflow', 'list', '--query', query),
      (list) => list.length === 1,
    )
    assert.equal(found[0]!.execution.workflowId, workflowId)
  }
})

test('a waiting delivery is an activity with the id of its endpoint, and its history names the host alone', async () => {
  const { workflowId, endpointId } = await waitingDelivery()
  const pending = await pendingOf(workflowId)
  assert.deepEqual(
    pending.map((one) => one.activityId),
    [endpointId],
  )
  const history = await temporalCli(service.temporal, 'workflow', 'show', '-w', workflowId, '--output', 'json')
  assert.match(
    history,
    new RegExp(
      Buffer.from(JSON.stringify(new URL(receiver.url).host))
        .toString('base64')
        .slice(0, 20),
    ),
  )
  assert.doesNotMatch(history, /switch|hidden|node_modules|"amount"/)
})

test('`temporal activity reset` sends a waiting delivery now', async () => {
  const { workflowId, endpointId, messageId } = await waitingDelivery()
  status = 200
  await temporalCli(service.temporal, 'activity', 'reset', '-w', workflowId, '--activity-id', endpointId)
  await receiver.waitFor(2, { matches: (one) => one.headers['webhook-id'] === messageId, timeoutMs: 15_000 })
})

test('`temporal activity pause` holds a delivery back, `unpause` sends it', async () => {
  const { workflowId, endpointId, messageId } = await waitingDelivery()
  status = 200
  await temporalCli(service.temporal, 'activity', 'pause', '-w', workflowId, '--activity-id', endpointId)
  await eventually(
    () => pendingOf(workflowId),
    ([one]) => /paused/i.test(JSON.stringify(one)),
  )
  assert.equal(arrivals(messageId), 1)
  await temporalCli(service.temporal, 'activity', 'unpause', '-w', workflowId, '--activity-id', endpointId)
  await receiver.waitFor(2, { matches: (one) => one.headers['webhook-id'] === messageId, timeoutMs: 15_000 })
})

test('`temporal activity complete` skips a delivery, and the fan-out ends', async () => {
  const { workflowId, endpointId, messageId } = await waitingDelivery()
  await temporalCli(service.temporal, 'activity', 'complete', '-w', workflowId, '--activity-id', endpointId, '--result', '"skip"')
  await eventually(
    () => temporalJson<{ workflowExecutionInfo: { status: string } }>(service.temporal, 'workflow', 'describe', '-w', workflowId),
    (shown) => shown.workflowExecutionInfo.status === 'WORKFLOW_EXECUTION_STATUS_COMPLETED',
  )
  assert.equal(arrivals(messageId), 1)
})

test('where a fan-out waits is not shown: stacks are not kept unless they are asked for', async () => {
  const { workflowId } = await waitingDelivery()
  await assert.rejects(temporalCli(service.temporal, 'workflow', 'stack', '-w', workflowId), /stack traces are not enabled/)
})

test('a delivery of a fan-out whose endpoints were known at its start is one activity', async () => {
  status = 200
  const { appId, messageId } = await publishOne('/healthy')
  const workflowId = await completed(appId, messageId)
  const history = await temporalCli(service.temporal, 'workflow', 'show', '-w', workflowId, '--output', 'json')
  assert.equal(history.match(/"markerName": "core_local_activity"/g)?.length, 1)
})

test('`temporal workflow reset` delivers a fan-out again with the same webhook-id, also to endpoints that were added since', async () => {
  status = 200
  const { appId, endpointId, messageId } = await publishOne('/healthy')
  const workflowId = await completed(appId, messageId)
  await service.svix.endpoint.create(appId, { url: `${receiver.url}/added` })
  await service.svix.endpoint.patch(appId, endpointId, { url: `${receiver.url}/moved` })
  const reset = ['reset', '-w', workflowId, '--type', 'FirstWorkflowTask', '--reason', 'the receiver lost it']
  await temporalCli(service.temporal, 'workflow', ...reset)
  await receiver.waitFor(3, { matches: (one) => one.headers['webhook-id'] === messageId })
  const paths = receiver.received.filter((one) => one.headers['webhook-id'] === messageId).map((one) => one.path.split('?')[0])
  assert.deepEqual(new Set(paths), new Set(['/added', '/healthy', '/moved']))
})

test('a replay started by hand sends a time range again, and can be paused, resumed and cancelled', async () => {
  status = 200
  const since = new Date(Date.now() - 1000).toISOString()
  const { appId } = await publishOne('/replayed')
  for (let i = 0; i < 5; i++) await service.svix.message.create(appId, { eventType: 'invoice.paid', payload: { i } })
  const isOurs = (path: string) => path.startsWith('/replayed')
  await receiver.waitFor(6, { matches: (one) => isOurs(one.path) })
  const until = new Date(Date.now() + 1000).toISOString()
  const start = (input: object, id: string) =>
    temporalCli(
      service.temporal,
      'workflow',
      'start',
      '--type',
      'replay',
      '--task-queue',
      'fan-out',
      '-w',
      id,
      '--input',
      JSON.stringify(input),
    )
  const progressOf = async (id: string) => {
    const shown = await temporalJson<{ queryResult: { state: string; deliveries: number }[] }>(
      service.temporal,
      'workflow',
      'query',
      '-w',
      id,
      '--name',
      'progress',
    )
    return shown.queryResult[0]!
  }
  await start({ applicationId: appId, since, until, status: 'all', ratePerSecond: 2 }, 'replay/by-hand')
  await temporalCli(service.temporal, 'workflow', 'signal', '-w', 'replay/by-hand', '--name', 'pause')
  await eventually(
    () => progressOf('replay/by-hand'),
    (progress) => progress.state === 'paused',
  )
  await temporalCli(service.temporal, 'workflow', 'signal', '-w', 'replay/by-hand', '--name', 'resume')
  await eventually(
    () => progressOf('replay/by-hand'),
    (progress) => progress.state === 'completed',
  )
  await receiver.waitFor(12, { matches: (one) => isOurs(one.path) })

  await start({ applicationId: appId, since, until, status: 'all', ratePerSecond: 1 }, 'replay/cancelled')
  await temporalCli(service.temporal, 'workflow', 'signal', '-w', 'replay/cancelled', '--name', 'cancel')
  const progress = await eventually(
    () => progressOf('replay/cancelled'),
    (now) => now.state === 'cancelled',
  )
  assert.ok(progress.deliveries < 6)
})

test('a replay with a wrong input ends with what is wrong', async () => {
  await temporalCli(
    service.temporal,
    'workflow',
    'start',
    '--type',
    'replay',
    '--task-queue',
    'fan-out',
    '-w',
    'replay/wrong',
    '--input',
    '{"applicationId":"app_x","since":"soon","until":"later"}',
  )
  const shown = await eventually(
    () => temporalCli(service.temporal, 'workflow', 'show', '-w', 'replay/wrong', '--output', 'json'),
    (text) => text.includes('EVENT_TYPE_WORKFLOW_EXECUTION_FAILED'),
  )
  assert.match(shown, /since must be a time/)
})
