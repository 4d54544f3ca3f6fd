import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import pino from 'pino'
import { createIntake } from '../../api/intake.ts'
import { newMessageOf } from '../../api/routes/publish.ts'
import { messageIn } from '../../api/schemas/message.ts'
import { fanOutWorkflowId } from '../../domain/names.ts'
import { createCipher } from '../../storage/cipher.ts'
import { createConfigCache } from '../../storage/config-cache.ts'
import { createMessageCache } from '../../storage/messages.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createCalls, numberOf, numbers, type Calls } from '../support/calls.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Received, type Receiver } from '../support/receiver.ts'
import { startTestService, TEST_SECRET, type TestService } from '../support/service.ts'

let service: TestService
let receiver: Receiver
let pool: Pool
let calls: Calls
let connection: Connection

before(async () => {
  receiver = await startReceiver()
  service = await startTestService()
  pool = createPool(service.database.url, 4)
  calls = createCalls(service)
  connection = await Connection.connect({ address: service.temporal.address })
})

after(async () => {
  await connection?.close()
  await pool?.end()
  await service?.stop()
  await receiver?.close()
})

/** Every process has heard of the application's endpoints long ago. */
async function longUnchanged(app: string): Promise<void> {
  await pool.query(`UPDATE endpoint SET updated_at = updated_at - interval '1 min' WHERE app_id = $1`, [app])
}

/** An endpoint with a queue, whose settings everybody knows. */
async function queued(path: string, fields: object = { ordering: 'fifo' }) {
  const it = await calls.endpointWith(`${receiver.url}${path}`, fields)
  await longUnchanged(it.app)
  return it
}

async function isFannedOut(messageId: string): Promise<boolean> {
  const { rowCount } = await pool.query('SELECT FROM outbox WHERE message_id = $1', [messageId])
  const client = new Client({ connection, namespace: service.temporal.namespace })
  const started = await client.workflow
    .getHandle(fanOutWorkflowId(messageId))
    .describe()
    .then(
      () => true,
      () => false,
    )
  return rowCount! > 0 || started
}

async function attempted(messageId: string): Promise<boolean> {
  return (await pool.query('SELECT FROM attempt WHERE message_id = $1', [messageId])).rowCount! > 0
}

const at = (path: string) => (one: Received) => one.path === path

test('what only ordered and batched endpoints get is delivered without a fan-out, alone and in batches of publishes', async () => {
  const it = await queued('/ordered')
  const { json } = await calls.call('POST', `/app/${it.app}/endpoint`, {
    url: `${receiver.url}/batched`,
    batching: { maxEvents: 5, lingerMs: 50 },
  })
  assert.equal(typeof json['id'], 'string')
  await longUnchanged(it.app)
  const ids = [await calls.publish(it.app, 0), ...(await calls.publishTogether(it.app, numbers(4, 1)))]
  await receiver.waitFor(5, { matches: at('/ordered') })
  assert.deepEqual(receiver.received.filter(at('/ordered')).map(numberOf), numbers(5))
  const shown = (await calls.call('GET', `/app/${it.app}/msg/${ids[0]}`)).json
  assert.match(String(shown['workflowId']), /^mailbox\/ep_/)
  const events = () =>
    receiver.received.filter(at('/batched')).flatMap((one) => (JSON.parse(one.body) as { id: string }[]).map(({ id }) => id))
  const all = await eventually(
    () => Promise.resolve(events()),
    (seen) => seen.length === 5,
  )
  assert.deepEqual(all, ids)
  for (const id of ids) assert.equal(await isFannedOut(id), false)
})

test('a message that no endpoint takes has no fan-out; one that an endpoint without a queue takes too has one', async () => {
  const it = await queued('/other-channel', { ordering: 'fifo', channels: ['other'] })
  const nobodys = await calls.publish(it.app, 0)
  assert.equal(await isFannedOut(nobodys), false)
  await calls.call('POST', `/app/${it.app}/endpoint`, { url: `${receiver.url}/unordered` })
  await longUnchanged(it.app)
  const both = await calls.publish(it.app, 1, { channels: ['other'] })
  await receiver.waitFor(1, { matches: at('/unordered') })
  await receiver.waitFor(1, { matches: at('/other-channel') })
  assert.equal(await isFannedOut(both), true)
  assert.deepEqual(receiver.received.filter(at('/other-channel')).map(numberOf), [1])
})

test('a message that was routed is delivered though its endpoint has no queue any more', async () => {
  const it = await queued('/unqueued')
  const messageId = await acceptUnheard(it.app)
  await calls.patch(it, { ordering: 'none' })
  await receiver.waitFor(1, { matches: at('/unqueued'), timeoutMs: 30_000 })
  await eventually(
    () => attempted(messageId),
    (done) => done,
  )
})

test('a mailbox that nobody has woken, because the process died after its commit, is woken by the sweep', async () => {
  const it = await queued('/not-woken', { batching: { maxEvents: 10, lingerMs: 10 } })
  const messageId = await acceptUnheard(it.app)
  await receiver.waitFor(1, { matches: at('/not-woken'), timeoutMs: 30_000 })
  await eventually(
    () => attempted(messageId),
    (done) => done,
  )
  assert.equal(await isFannedOut(messageId), false)
})

/** Accepts a message as a process does that ends right after its commit. */
async function acceptUnheard(app: string): Promise<string> {
  const configCache = createConfigCache({ pool, cipher: createCipher(TEST_SECRET), log: pino({ level: 'silent' }) })
  const intake = createIntake({ pool, configCache, messages: createMessageCache(), groupLeaseMs: 10_000 })
  const message = newMessageOf(messageIn.parse({ eventType: 'step.taken', payload: { n: 0 } }), app)
  await intake.accept(message)
  await intake.drained()
  return message.id
}
