import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createCalls, numbers, type Calls } from '../support/calls.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Answer, type Received, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

const MIN_ATTEMPTS = 5

let service: TestService
let receiver: Receiver
let pool: Pool
let calls: Calls
/** By path; 200 where there is none. */
const answers = new Map<string, (one: Received, earlier: number) => Answer>()

before(async () => {
  receiver = await startReceiver((one, earlier) => answers.get(one.path)?.(one, earlier) ?? { status: 200 })
  service = await startTestService({
    env: { TIDINGS_RETRY_TIME_SCALE: '0.01', TIDINGS_HEALTH_MIN_ATTEMPTS: String(MIN_ATTEMPTS), TIDINGS_BREAKER_OPEN_MS: '86400000' },
  })
  pool = createPool(service.database.url, 2)
  calls = createCalls(service)
})

after(async () => {
  await pool?.end()
  await service?.stop()
  await receiver?.close()
})

const at = (path: string) => receiver.received.filter((one) => one.path === path)
const batchId = (one: Received) => one.headers['webhook-id']!

async function health(of: { app: string; endpoint: string }) {
  const { json } = await calls.call('GET', `/app/${of.app}/endpoint/${of.endpoint}/health`)
  return json as { successes: number; failures: number; breaker: { state: string } }
}

/** Nothing waits for the endpoint any more. */
async function allEnded(endpointId: string): Promise<void> {
  await eventually(
    async () => (await pool.query(`SELECT FROM delivery WHERE endpoint_id = $1`, [endpointId])).rowCount,
    (count) => count === 0,
  )
}

test('a batch that failed is sent again with the same events under the same id, though others have come meanwhile', async () => {
  const path = '/again'
  answers.set(path, (_one, earlier) => ({ status: at(path).length === 1 || earlier === 1 ? 500 : 200 }))
  const it = await calls.endpointWith(`${receiver.url}${path}`, { batching: { maxEvents: 4, lingerMs: 1000 } })
  const first = await calls.publishTogether(it.app, numbers(4))
  await receiver.waitFor(1, { matches: (one) => one.path === path })
  const others = await calls.publishTogether(it.app, numbers(4, 4))
  await allEnded(it.endpoint)
  const events = (one: Received) => (JSON.parse(one.body) as { id: string }[]).map(({ id }) => id)
  const [failed] = at(path)
  const again = at(path).filter((one) => batchId(one) === batchId(failed!))
  assert.equal(again.length, 3)
  for (const one of again) assert.equal(one.body, failed!.body)
  assert.deepEqual(events(failed!), first)
  const rest = at(path).filter((one) => batchId(one) !== batchId(failed!))
  assert.deepEqual(rest.flatMap(events), others)
})

test('an endpoint that wants CloudEvents gets a batch of them, signed as a whole', async () => {
  const path = '/cloud-events'
  const batching = { maxEvents: 3, lingerMs: 1000 }
  const it = await calls.endpointWith(`${receiver.url}${path}`, { format: 'cloudevents-structured', batching })
  const ids = await calls.publishTogether(it.app, numbers(3))
  const [one] = await receiver.waitFor(1, { matches: (some) => some.path === path })
  assert.match(one!.headers['content-type']!, /^application\/cloudevents-batch\+json(;|$)/)
  const { key } = await service.svix.endpoint.getSecret(it.app, it.endpoint)
  const webhook = new Webhook(key)
  const events = webhook.verify(one!.body, one!.headers) as Record<string, unknown>[]
  assert.throws(() => webhook.verify(one!.body.replace('}]', '} ]'), one!.headers))
  assert.match(batchId(one!), /^batch_/)
  assert.deepEqual(
    events.map((event) => event['id']),
    ids,
  )
  for (const event of events) {
    assert.equal(event['specversion'], '1.0')
    assert.equal(event['type'], 'step.taken')
    assert.equal(typeof event['source'], 'string')
    assert.equal(new Date(String(event['time'])).toISOString(), event['time'])
  }
  assert.deepEqual(
    events.map((event) => (event['data'] as { n: number }).n),
    numbers(3),
  )
})

test('an endpoint that takes only a part of each batch works: it counts no failure, and its breaker stays closed', async () => {
  const path = '/partly'
  answers.set(path, (one) => {
    const events = (JSON.parse(one.body) as unknown[]).length
    return events === 1 ? { status: 200 } : { status: 207, body: JSON.stringify({ failed: [events - 1] }) }
  })
  const it = await calls.endpointWith(`${receiver.url}${path}`, { batching: { maxEvents: 2, lingerMs: 20 } })
  const ids: string[] = []
  for (const n of numbers(4 * MIN_ATTEMPTS)) ids.push(await calls.publish(it.app, n))
  await allEnded(it.endpoint)
  const partly = at(path).filter((one) => (JSON.parse(one.body) as unknown[]).length > 1)
  assert.ok(partly.length >= MIN_ATTEMPTS, `${partly.length} answers in part`)
  const counted = await eventually(
    () => health(it),
    (shown) => shown.successes + shown.failures >= at(path).length,
  )
  assert.deepEqual({ successes: counted.successes, failures: counted.failures }, { successes: at(path).length, failures: 0 })
  assert.equal(counted.breaker.state, 'closed')
  const { rows } = await pool.query<{ message_id: string; status: number }>(
    'SELECT message_id, status FROM attempt WHERE endpoint_id = $1 ORDER BY created_at',
    [it.endpoint],
  )
  const delivered = rows.filter((row) => row.status === 0).map((row) => row.message_id)
  assert.deepEqual(delivered.toSorted(), ids.toSorted())
  assert.equal(rows.length - delivered.length, partly.length)
})

test('an endpoint that takes nothing of its batches fails: its breaker opens', async () => {
  for (const [path, body] of [
    ['/none-of-it', '{"failed":[0,1]}'],
    ['/not-understood', 'well'],
  ] as const) {
    answers.set(path, () => ({ status: 207, body }))
    const it = await calls.endpointWith(`${receiver.url}${path}`, { batching: { maxEvents: 2, lingerMs: 1000 } })
    for (const n of numbers(2 * MIN_ATTEMPTS)) await calls.publish(it.app, n)
    await eventually(
      () => health(it),
      (shown) => shown.breaker.state === 'open',
    )
  }
})
