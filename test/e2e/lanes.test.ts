import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { fanOutWorkflowId } from '../../domain/names.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

let service: TestService
let receiver: Receiver
let connection: Connection
let client: Client
/** The first request of each path is held for so many milliseconds. */
const HELD_MS: Readonly<Record<string, number>> = { '/two': 2000, '/six': 6000 }

before(async () => {
  const seen = new Set<string>()
  receiver = await startReceiver(({ path }) => {
    const afterMs = seen.has(path) ? 0 : HELD_MS[path]!
    seen.add(path)
    return { status: 200, afterMs }
  })
  service = await startTestService({})
  connection = await Connection.connect({ address: service.temporal.address })
  client = new Client({ connection, namespace: service.temporal.namespace })
})

after(async () => {
  await connection?.close()
  await service?.stop()
  await receiver?.close()
})

async function subscribe(path: string) {
  const { id } = await service.svix.application.create({ name: path })
  await service.svix.endpoint.create(id, { url: `${receiver.url}${path}` })
  let published = 0
  return {
    publish: async () => (await service.svix.message.create(id, { eventType: 'invoice.paid', payload: { n: ++published } })).id,
    arrived: (count: number) => receiver.waitFor(count, { matches: (one) => one.path === path }),
  }
}

/** Waits for the message to arrive and its fan-out to end. @returns the task queues of its remote activities, without the process's own */
async function lanesOf(messageId: string): Promise<string[]> {
  await receiver.waitFor(1, { matches: (one) => one.headers['webhook-id'] === messageId })
  const handle = client.workflow.getHandle(fanOutWorkflowId(messageId))
  await handle.result()
  const { events = [] } = await handle.fetchHistory()
  const queues = (events ?? []).flatMap((event) => event.activityTaskScheduledEventAttributes?.taskQueue?.name ?? [])
  return queues.filter((name) => !name.startsWith('attach-')).map((name) => name.replace(/-\d+$/, ''))
}

test('while a request is silent for over a second its endpoint gets no second one in the fast lane; answered within five it stays', async () => {
  const { publish, arrived } = await subscribe('/two')
  const first = await publish()
  await arrived(1)
  // Waits in the fast lane for the endpoint's first request, which becomes silent.
  const second = await publish()
  await arrived(2)
  assert.deepEqual(await lanesOf(second), ['deliver-slow'])
  assert.deepEqual(await lanesOf(first), [])
  assert.deepEqual(await lanesOf(await publish()), [])
})

test('an endpoint that was silent for over five seconds takes the slow lane after it has answered', async () => {
  const { publish } = await subscribe('/six')
  assert.deepEqual(await lanesOf(await publish()), [])
  assert.deepEqual(await lanesOf(await publish()), ['deliver-slow'])
})
