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
  receiver = await startReceiver()
  service = await startTestService({ env: { TEMPORAL_ADDRESS: temporal.address, TEMPORAL_NAMESPACE: 'tidings-test' } })
})

after(async () => {
  await service.stop()
  await receiver.close()
  await temporal.stop()
  scratch.remove()
})

test('a server that refuses a group gets it in parts, and what it refuses alone is dead-lettered alone', async () => {
  const { svix } = service
  const application = await svix.application.create({ name: 'small server' })
  const endpoint = await svix.endpoint.create(application.id, { url: receiver.url })
  const refusedType = `invoice.${'x'.repeat(2 * ATTRIBUTE_MAX_BYTES)}`
  const types = Array.from({ length: 40 }, (_, i) => (i === 7 ? refusedType : 'invoice.paid'))
  const messages = await Promise.all(types.map((eventType) => svix.message.create(application.id, { eventType, payload: {} })))
  const refused = messages[7]!
  const delivered = await receiver.waitFor(39)
  const deadLetters = async () => {
    const response = await fetch(`${service.url}/api/v1/app/${application.id}/dead-letter`, {
      headers: { authorization: `Bearer ${service.token}` },
    })
    return ((await response.json()) as { data: { msgId: string; endpointId: string }[] }).data
  }
  const letters = await eventually(deadLetters, (found) => found.length > 0)
  assert.deepEqual(
    letters.map((letter) => [letter.msgId, letter.endpointId]),
    [[refused.id, endpoint.id]],
  )
  const sent = new Set(delivered.map((request) => request.headers['webhook-id']))
  assert.deepEqual(sent, new Set(messages.map((message) => message.id).filter((id) => id !== refused.id)))
  assert.equal(receiver.received.length, 39)
})
