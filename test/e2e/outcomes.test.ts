import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Answer, type Received, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

let service: TestService
let receiver: Receiver

const ANSWERS: Record<string, (one: Received, earlier: number) => Answer> = {
  '/gone': () => ({ status: 410 }),
  '/moved': () => ({ status: 302, headers: { location: '/elsewhere' } }),
  '/down': () => ({ status: 500 }),
  '/third-time': (_one, earlier) => ({ status: earlier < 2 ? 500 : 200 }),
  '/hanging': () => 'hang',
  '/busy': (_one, earlier) => (earlier === 0 ? { status: 429, headers: { 'retry-after': '1' } } : { status: 200 }),
}

before(async () => {
  receiver = await startReceiver((one, earlier) => ANSWERS[one.path]?.(one, earlier) ?? { status: 200 })
  // What is tested is each delivery's own way: circuit breakers stay closed.
  const env = { TIDINGS_RETRY_TIME_SCALE: '0.01', TIDINGS_REQUEST_TIMEOUT_MS: '4000', TIDINGS_HEALTH_MIN_ATTEMPTS: '1000' }
  service = await startTestService({ env })
})

after(async () => {
  await service.stop()
  await receiver.close()
})

const requestsOf = (messageId: string, path?: string) =>
  receiver.received.filter((one) => one.headers['webhook-id'] === messageId && (path === undefined || one.path === path))

async function applicationWith(...paths: string[]) {
  const application = await service.svix.application.create({ name: ['outcomes', ...paths].join(' ') })
  const endpoints = []
  for (const path of paths) endpoints.push(await service.svix.endpoint.create(application.id, { url: `${receiver.url}${path}` }))
  return { appId: application.id, endpoints }
}

const publish = (appId: string) => service.svix.message.create(appId, { eventType: 'invoice.paid', payload: { amount: 1 } })

interface DeadLetter {
  readonly msgId: string
  readonly endpointId: string
}

async function deadLetters(appId: string): Promise<DeadLetter[]> {
  const response = await fetch(`${service.url}/api/v1/app/${appId}/dead-letter`, { headers: { authorization: `Bearer ${service.token}` } })
  assert.equal(response.status, 200)
  return ((await response.json()) as { data: DeadLetter[] }).data
}

test('410 disables the endpoint and ends the delivery', async () => {
  const { appId, endpoints } = await applicationWith('/gone')
  const message = await publish(appId)
  await eventually(
    () => service.svix.endpoint.get(appId, endpoints[0]!.id),
    (endpoint) => endpoint.disabled === true,
  )
  assert.equal((await deadLetters(appId)).length, 1)
  assert.equal(requestsOf(message.id).length, 1)
})

test('a redirect is a failure and is not followed', async () => {
  const { appId } = await applicationWith('/moved')
  const message = await publish(appId)
  await receiver.waitFor(2, { matches: (one) => one.headers['webhook-id'] === message.id })
  assert.equal(requestsOf(message.id, '/elsewhere').length, 0)
  const attempts = await service.svix.messageAttempt.listByMsg(appId, message.id)
  assert.equal(attempts.data.at(-1)!.responseStatusCode, 302)
})

test('a delivery that fails to the end of its schedule is dead-lettered, and can be redriven', async () => {
  const { appId } = await applicationWith()
  // The last two delays are of the length that waits in the mailbox.
  const response = await fetch(`${service.url}/api/v1/app/${appId}/endpoint`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ url: `${receiver.url}/down`, retrySchedule: [1, 2, 4, 60, 60] }),
  })
  assert.equal(response.status, 201)
  const message = await publish(appId)
  await eventually(
    () => deadLetters(appId),
    (letters) => letters.length === 1,
  )
  assert.equal(requestsOf(message.id).length, 6)
  const redrive = await fetch(`${service.url}/api/v1/app/${appId}/dead-letter/redrive`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.token}`, 'content-type': 'application/json' },
    body: '{}',
  })
  assert.equal(redrive.status, 202)
  await receiver.waitFor(12, { matches: (one) => one.headers['webhook-id'] === message.id })
  await eventually(
    () => deadLetters(appId),
    (letters) => letters.length === 1,
  )
})

test('Retry-After is not undercut', async () => {
  const { appId } = await applicationWith('/busy')
  const message = await publish(appId)
  const [first, second] = await receiver.waitFor(2, { matches: (one) => one.headers['webhook-id'] === message.id })
  // The policy's bound scales with the schedule; a second is far below it.
  assert.ok(second!.atMs - first!.atMs >= 990, `came back after ${second!.atMs - first!.atMs} ms`)
})

test('an endpoint that hangs holds up neither its neighbours nor the fan-out, and is retried', async () => {
  const { appId, endpoints } = await applicationWith('/hanging', '/third-time', '/healthy')
  const messages = await Promise.all(Array.from({ length: 30 }, () => publish(appId)))
  const ids = new Set(messages.map((message) => message.id))
  const arrived = await receiver.waitFor(30, { matches: (one) => one.path === '/healthy' && ids.has(one.headers['webhook-id']!) })
  assert.equal(new Set(arrived.map((one) => one.headers['webhook-id'])).size, 30)
  await receiver.waitFor(90, { matches: (one) => one.path === '/third-time' && ids.has(one.headers['webhook-id']!) })
  const hanging = await eventually(
    () => service.svix.messageAttempt.listByEndpoint(appId, endpoints[0]!.id),
    (list) => list.data.length >= 3,
    40_000,
  )
  assert.ok(hanging.data.every((attempt) => Number(attempt.status) === 2 && attempt.responseStatusCode === 0))
})

test('a message is resent by hand once, whatever the endpoint answers', async () => {
  const { appId, endpoints } = await applicationWith('/healthy')
  const message = await publish(appId)
  await receiver.waitFor(1, { matches: (one) => one.headers['webhook-id'] === message.id })
  await service.svix.messageAttempt.resend(appId, message.id, endpoints[0]!.id)
  await receiver.waitFor(2, { matches: (one) => one.headers['webhook-id'] === message.id })
  const attempts = await eventually(
    () => service.svix.messageAttempt.listByMsg(appId, message.id),
    (list) => list.data.length === 2,
  )
  assert.deepEqual(new Set(attempts.data.map((attempt) => Number(attempt.triggerType))), new Set([0, 1]))
})

test('an endpoint whose secret is rotated gets both signatures for a day', async () => {
  const { appId, endpoints } = await applicationWith('/rotated')
  await service.svix.endpoint.rotateSecret(appId, endpoints[0]!.id, {})
  const message = await publish(appId)
  const [one] = await receiver.waitFor(1, { matches: (received) => received.headers['webhook-id'] === message.id })
  assert.equal(one!.headers['webhook-signature']!.split(' ').length, 2)
})

test('an expunged payload is not sent again, and its delivery ends', async () => {
  const { appId } = await applicationWith()
  await service.svix.endpoint.create(appId, { url: `${receiver.url}/down` })
  const message = await publish(appId)
  await receiver.waitFor(1, { matches: (one) => one.headers['webhook-id'] === message.id })
  await service.svix.message.expungeContent(appId, message.id)
  const [letter] = await eventually(
    () => deadLetters(appId),
    (letters) => letters.length === 1,
  )
  assert.equal(letter!.msgId, message.id)
  assert.ok(requestsOf(message.id).length < 6)
})
