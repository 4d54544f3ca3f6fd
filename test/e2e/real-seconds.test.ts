import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startReceiver } from '../support/receiver.ts'
import { startTestService } from '../support/service.ts'

test('the first retries of the default schedule come after one and two real seconds, give or take a fifth', async (t) => {
  const receiver = await startReceiver((_one, earlier) => ({ status: earlier < 2 ? 500 : 200 }))
  const service = await startTestService()
  t.after(async () => {
    await service.stop()
    await receiver.close()
  })
  const application = await service.svix.application.create({ name: 'real seconds' })
  await service.svix.endpoint.create(application.id, { url: receiver.url })
  await service.svix.message.create(application.id, { eventType: 'invoice.paid', payload: { amount: 1 } })
  const [first, second, third] = await receiver.waitFor(3)
  // Never early; how late is the machine's affair and measured in bench/.
  assert.ok(second!.atMs - first!.atMs >= 800, `first retry after ${second!.atMs - first!.atMs} ms`)
  assert.ok(third!.atMs - second!.atMs >= 1600, `second retry after ${third!.atMs - second!.atMs} ms`)
})
