import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'
import { temporalCli } from '../support/temporal-cli.ts'

let service: TestService
let receiver: Receiver

before(async () => {
  receiver = await startReceiver(() => ({ status: 500 }))
  service = await startTestService({ env: { TIDINGS_WORKFLOW_DEBUGGING: 'true', TIDINGS_RETRY_SCHEDULE: '30' } })
})

after(async () => {
  await service.stop()
  await receiver.close()
})

test('where a running fan-out waits is shown if the service was asked to keep stacks', async () => {
  const { id: appId } = await service.svix.application.create({ name: 'waiting' })
  await service.svix.endpoint.create(appId, { url: receiver.url })
  const message = await service.svix.message.create(appId, { eventType: 'invoice.paid', payload: {} })
  await receiver.waitFor(1)
  const stack = () => temporalCli(service.temporal, 'workflow', 'stack', '-w', `fan-out/${message.id}`)
  assert.match(await eventually(stack, (text) => text.includes('redeliver')), /followEndpoint/)
})
