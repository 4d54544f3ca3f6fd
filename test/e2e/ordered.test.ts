import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createCalls, numberOf, numbers, type Calls } from '../support/calls.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Answer, type Received, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

let service: TestService
let receiver: Receiver
let calls: Calls
let answer: (one: Received, earlier: number) => Answer = () => ({ status: 200 })

before(async () => {
  receiver = await startReceiver((one, earlier) => answer(one, earlier))
  service = await startTestService({ env: { TIDINGS_RETRY_TIME_SCALE: '0.01' } })
  calls = createCalls(service)
})

after(async () => {
  await service.stop()
  await receiver.close()
})

const at = (path: string) => (one: Received) => one.path === path

test('an endpoint with fifo gets messages in the order of their publishes, also after failures, and one at a time', async () => {
  const { app } = await calls.endpointWith(`${receiver.url}/fifo`, { ordering: 'fifo' })
  const failing = new Set([3, 4, 17])
  answer = (one, earlier) => ({ status: failing.has(numberOf(one)) && earlier === 0 ? 500 : 200, afterMs: 2 })
  for (const n of numbers(40)) await calls.publish(app, n)
  const received = await receiver.waitFor(43, { matches: at('/fifo') })
  const expected = numbers(40).flatMap((n) => (failing.has(n) ? [n, n] : [n]))
  assert.deepEqual(received.map(numberOf), expected)
})

test('an endpoint with fifo-by-key keeps the order of each key, and what has another key does not wait', async () => {
  const { app } = await calls.endpointWith(`${receiver.url}/by-key`, { ordering: 'fifo-by-key' })
  let release = false
  answer = (one) => {
    const n = numberOf(one)
    return n === 0 && !release ? { status: 500 } : { status: 200 }
  }
  for (const n of numbers(30)) await calls.publish(app, n, { orderingKey: `key ${n % 3}` })
  await receiver.waitFor(20, { matches: (one) => one.path === '/by-key' && numberOf(one) % 3 !== 0 })
  assert.deepEqual(
    receiver.received.filter((one) => one.path === '/by-key' && numberOf(one) % 3 === 0).filter((one) => numberOf(one) !== 0),
    [],
  )
  release = true
  await receiver.waitFor(10, { matches: (one) => one.path === '/by-key' && numberOf(one) % 3 === 0 && (numberOf(one) !== 0 || release) })
  await receiver.waitFor(1, { matches: (one) => one.path === '/by-key' && numberOf(one) === 27 })
  for (const key of [0, 1, 2]) {
    const seen = receiver.received.filter((one) => one.path === '/by-key' && numberOf(one) % 3 === key).map(numberOf)
    assert.deepEqual(
      [...new Set(seen)],
      numbers(10).map((i) => i * 3 + key),
    )
    assert.deepEqual(
      seen,
      seen.toSorted((a, b) => a - b),
    )
  }
})

test('a batch carries many events under one id, and only what 207 names is sent again', async () => {
  const { app } = await calls.endpointWith(`${receiver.url}/batch`, { batching: { maxEvents: 20, lingerMs: 300 } })
  answer = (_one, earlier) =>
    receiver.received.filter(at('/batch')).length === 1 && earlier === 0 ? { status: 207, body: '{"failed":[1,3]}' } : { status: 200 }
  const ids = await Promise.all(numbers(20).map((n) => calls.publish(app, n)))
  const events = (one: Received) => JSON.parse(one.body) as { id: string; type: string; timestamp: string; data: { n: number } }[]
  const delivered = () =>
    Promise.resolve(
      receiver.received.filter(at('/batch')).flatMap((one, i) => events(one).filter((_, position) => i > 0 || ![1, 3].includes(position))),
    )
  await eventually(delivered, (found) => found.length === 20)
  const [first, ...others] = receiver.received.filter(at('/batch'))
  assert.match(first!.headers['webhook-id']!, /^batch_/)
  assert.ok(others.length < 5, `${others.length + 1} requests`)
  assert.deepEqual((await delivered()).map((one) => one.id).sort(), ids.sort())
  assert.deepEqual(Object.keys(events(first!)[0]!), ['id', 'type', 'timestamp', 'data'])
})
