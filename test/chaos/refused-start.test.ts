import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { findTemporal } from '../../cli/embedded/temporal-program.ts'
import { startTemporal, type EmbeddedTemporal } from '../../cli/embedded/temporal.ts'
import { createProgress } from '../../cli/progress.ts'
import { readConfig } from '../../config/index.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { createScratch } from '../support/scratch.ts'
import { startTestService, type TestService } from '../support/service.ts'

/** Two ids of messages fit into a search attribute, and a short event type. */
const ATTRIBUTE_MAX_BYTES = 100
const refusedType = `invoice.${'x'.repeat(2 * ATTRIBUTE_MAX_BYTES)}`

const scratch = createScratch('refused')
let temporal: EmbeddedTemporal
let service: TestService
let receiver: Receiver

before(async () => {
  const program = await findTemporal({ cacheDir: readConfig().cacheDir, dataDir: scratch.path }, createProgress())
  temporal = await startTemporal({
    ...{ program, dataDir: scratch.path, namespace: 'tidings-test', port: 0, uiPort: 0 },
    dynamicConfig: { 'frontend.searchAttributesSizeOfValueLimit': ATTRIBUTE_MAX_BYTES },
  })
  receiver = await startReceiver(({ path }) => ({ status: path === '/fails' ? 500 : 200 }))
  service = await startTestService({ env: { TEMPORAL_ADDRESS: temporal.address, TEMPORAL_NAMESPACE: 'tidings-test' } })
})

after(async () => {
  await service.stop()
  await receiver.close()
  await temporal.stop()
  scratch.remove()
})

async function call<T>(path: string, body?: object): Promise<T> {
  const response = await fetch(`${service.url}/api/v1${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${service.token}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return (await response.json()) as T
}

async function deadLetters(appId: string) {
  return (await call<{ data: { msgId: string; endpointId: string }[] }>(`/app/${appId}/dead-letter`)).data
}

test('a server that refuses a group gets it in parts, and what it refuses alone is dead-lettered alone', async () => {
  const { svix } = service
  const application = await svix.application.create({ name: 'small server' })
  const endpoint = await svix.endpoint.create(application.id, { url: receiver.url })
  const types = Array.from({ length: 40 }, (_, i) => (i === 7 ? refusedType : 'invoice.paid'))
  // Accepted together, they are one group.
  const { data: messages } = await call<{ data: { id: string }[] }>(`/app/${application.id}/msg/batch`, {
    messages: types.map((eventType) => ({ eventType, payload: {} })),
  })
  const refused = messages[7]!
  const delivered = await receiver.waitFor(39)
  const letters = await eventually(
    () => deadLetters(application.id),
    (found) => found.length > 0,
  )
  assert.deepEqual(
    letters.map((letter) => [letter.msgId, letter.endpointId]),
    [[refused.id, endpoint.id]],
  )
  const sent = new Set(delivered.map((request) => request.headers['webhook-id']))
  assert.deepEqual(sent, new Set(messages.map((message) => message.id).filter((id) => id !== refused.id)))
  assert.equal(receiver.received.length, 39)
})

test('what was begun of an event that is refused alone is kept where it was delivered, and dead-lettered where it failed', async () => {
  const { svix } = service
  const { id: appId } = await svix.application.create({ name: 'refused alone' })
  const takes = await svix.endpoint.create(appId, { url: `${receiver.url}/takes` })
  const fails = await svix.endpoint.create(appId, { url: `${receiver.url}/fails` })
  const { id } = await svix.message.create(appId, { eventType: refusedType, payload: {} })
  const letters = await eventually(
    () => deadLetters(appId),
    (found) => found.length > 0,
  )
  assert.deepEqual(
    letters.map((letter) => [letter.msgId, letter.endpointId]),
    [[id, fails.id]],
  )
  const { data: attempts } = await svix.messageAttempt.listByMsg(appId, id)
  assert.deepEqual(
    new Set(attempts.map((one) => `${one.endpointId} ${one.responseStatusCode}`)),
    new Set([`${takes.id} 200`, `${fails.id} 500`]),
  )
})
