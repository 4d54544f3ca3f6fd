import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { acceptMessages } from '../../storage/accept.ts'
import { newMessages } from '../storage/rows.ts'
import { startApi, type Harness } from './harness.ts'

let api: Harness
let appId = ''

before(async () => {
  api = await startApi()
  appId = (await api.svix.application.create({ name: 'Shop' })).id
})
after(() => api.close())

async function createEndpoint(fields: object = {}): Promise<string> {
  const { status, json } = await api.call('POST', `/app/${appId}/endpoint`, { url: 'https://example.com/hook', ...fields })
  assert.equal(status, 201)
  return json.id
}

async function fill(endpointId: string, count: number): Promise<string[]> {
  const messages = newMessages(count, { appId })
  const places = messages.map(({ id }) => ({ messageId: id, endpointId, eager: false }))
  await acceptMessages(api.pool, messages, false, 0, { places, routed: new Set() })
  return messages.map(({ id }) => id)
}

test('the queue of an endpoint shows how many deliveries wait, and which goes next', async () => {
  const endpointId = await createEndpoint({ ordering: 'fifo' })
  const path = `/app/${appId}/endpoint/${endpointId}/queue`
  assert.deepEqual((await api.call('GET', path)).json, { depth: 0, head: null })
  const [first] = await fill(endpointId, 3)
  const { json } = await api.call('GET', path)
  const head = json['head'] as { msgId: string; attempts: number }
  assert.deepEqual([json['depth'], head.msgId, head.attempts], [3, first, 0])
  const destinations = (await api.call('GET', `/app/${appId}/msg/${first}/endpoint`)).json.data
  assert.deepEqual(
    destinations.map((one) => [one.id, one['statusText']]),
    [[endpointId, 'sending']],
  )
})

test('an owner skips the head, then all that waits; the audit log tells', async () => {
  const endpointId = await createEndpoint({ ordering: 'fifo' })
  const path = `/app/${appId}/endpoint/${endpointId}/queue`
  const [first, second] = await fill(endpointId, 4)
  assert.deepEqual((await api.call('POST', `${path}/skip`)).json, { skipped: 1 })
  assert.equal(((await api.call('GET', path)).json['head'] as { msgId: string }).msgId, second)
  assert.deepEqual((await api.call('POST', `${path}/drain`)).json, { skipped: 3 })
  assert.deepEqual((await api.call('POST', `${path}/skip`)).json, { skipped: 0 })
  assert.deepEqual((await api.call('GET', path)).json, { depth: 0, head: null })
  const { rows } = await api.pool.query<{ state: string }>('SELECT state FROM delivery WHERE message_id = $1', [first])
  assert.deepEqual(rows, [{ state: 'skipped' }])
  const entries = (await api.call('GET', '/audit-log')).json.data.filter((one) => one['objectId'] === endpointId)
  assert.deepEqual(
    new Set(entries.map((one) => one['operation'])),
    new Set(['endpoint.created', 'endpoint.queue.drained', 'endpoint.queue.skipped']),
  )
})

test('batches of single CloudEvents in binary mode are refused', async () => {
  const batching = { maxEvents: 10, lingerMs: 10 }
  const { status } = await api.call('POST', `/app/${appId}/endpoint`, {
    url: 'https://example.com/',
    batching,
    format: 'cloudevents-binary',
  })
  assert.equal(status, 422)
  const endpointId = await createEndpoint({ batching, format: 'cloudevents-structured' })
  assert.equal((await api.call('PATCH', `/app/${appId}/endpoint/${endpointId}`, { format: 'cloudevents-binary' })).status, 422)
})
