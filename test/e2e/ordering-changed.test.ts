import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createCalls, numberOf, numbers, numbersAt, type Calls } from '../support/calls.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Answer, type Received, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

let service: TestService
let receiver: Receiver
let pool: Pool
let calls: Calls
/** By path; 200 where there is none. */
const answers = new Map<string, (one: Received, earlier: number) => Answer>()

before(async () => {
  receiver = await startReceiver((one, earlier) => answers.get(one.path)?.(one, earlier) ?? { status: 200 })
  // What has failed twice waits longer than any test.
  service = await startTestService({ env: { TIDINGS_RETRY_SCHEDULE: '0.05,3600' } })
  pool = createPool(service.database.url, 2)
  calls = createCalls(service)
})

after(async () => {
  await pool?.end()
  await service?.stop()
  await receiver?.close()
})

const arrivals = (path: string, count: number, matches: (one: Received) => boolean = () => true) =>
  receiver.waitFor(count, { matches: (one) => one.path === path && matches(one) })

/** Publishes one after the other. */
async function publishAll(app: string, ns: readonly number[], more: (n: number) => object = () => ({})): Promise<void> {
  for (const n of ns) await calls.publish(app, n, more(n))
}

async function waiting(endpointId: string): Promise<{ attempts: number }[]> {
  const { rows } = await pool.query<{ attempts: number }>(
    `SELECT attempts FROM delivery WHERE endpoint_id = $1 AND state = 'parked' ORDER BY seq`,
    [endpointId],
  )
  return rows
}

const isThere = (attempts: readonly number[]) => (rows: { attempts: number }[]) =>
  JSON.stringify(rows.map((one) => one.attempts)) === JSON.stringify(attempts)

test('from fifo to none: what waited behind a failed message goes at once, and that message keeps its time', async () => {
  const path = '/to-none'
  answers.set(path, (one) => ({ status: numberOf(one) === 0 ? 500 : 200 }))
  const it = await calls.endpointWith(`${receiver.url}${path}`, { ordering: 'fifo' })
  await publishAll(it.app, numbers(10))
  await arrivals(path, 2)
  await eventually(() => waiting(it.endpoint), isThere([2, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
  assert.deepEqual(numbersAt(receiver, path), [0, 0])
  await calls.patch(it, { ordering: 'none' })
  await arrivals(path, 9, (one) => numberOf(one) > 0)
  await eventually(() => waiting(it.endpoint), isThere([2]))
  assert.deepEqual(
    numbersAt(receiver, path).toSorted((a, b) => a - b),
    [0, ...numbers(10)],
  )
})

test('from fifo to fifo-by-key and back: other keys go at once, then everything waits for the first again', async () => {
  const path = '/by-key-and-back'
  answers.set(path, (one) => ({ status: numberOf(one) === 0 ? 500 : 200 }))
  const it = await calls.endpointWith(`${receiver.url}${path}`, { ordering: 'fifo' })
  const keyed = (n: number) => ({ orderingKey: n % 2 === 0 ? 'even' : 'odd' })
  await publishAll(it.app, numbers(10), keyed)
  await eventually(() => waiting(it.endpoint), isThere([2, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
  await calls.patch(it, { ordering: 'fifo-by-key' })
  await arrivals(path, 5, (one) => numberOf(one) % 2 === 1)
  assert.deepEqual(numbersAt(receiver, path), [0, 0, 1, 3, 5, 7, 9])
  await calls.patch(it, { ordering: 'fifo' })
  await publishAll(it.app, [10, 11], keyed)
  await eventually(() => waiting(it.endpoint), isThere([2, 0, 0, 0, 0, 0, 0]))
  assert.deepEqual((await calls.call('POST', `/app/${it.app}/endpoint/${it.endpoint}/queue/skip`)).json, { skipped: 1 })
  await arrivals(path, 1, (one) => numberOf(one) === 11)
  await eventually(() => waiting(it.endpoint), isThere([]))
  assert.deepEqual(numbersAt(receiver, path), [0, 0, 1, 3, 5, 7, 9, 2, 4, 6, 8, 10, 11])
})

test('from none to fifo while deliveries wait: nothing is lost, and what is published from then on goes in order, one at a time', async () => {
  const path = '/to-fifo'
  let inFlight = 0
  let overlaps = 0
  answers.set(path, (one, earlier) => {
    const isLater = numberOf(one) >= 40
    if (isLater && inFlight > 0) overlaps++
    inFlight++
    setTimeout(() => inFlight--, 20)
    return { status: isLater && numberOf(one) % 5 === 0 && earlier === 0 ? 500 : 200, afterMs: 20 }
  })
  const it = await calls.endpointWith(`${receiver.url}${path}`, { throttleRate: 25 })
  await Promise.all(numbers(40).map((n) => calls.publish(it.app, n)))
  // Its mailbox is sending.
  await arrivals(path, 15)
  await calls.patch(it, { ordering: 'fifo' })
  await publishAll(it.app, numbers(20, 40))
  await arrivals(path, 64)
  await eventually(() => waiting(it.endpoint), isThere([]))
  const seen = numbersAt(receiver, path)
  assert.deepEqual(
    seen.filter((n) => n < 40).toSorted((a, b) => a - b),
    numbers(40),
  )
  const expected = numbers(20, 40).flatMap((n) => (n % 5 === 0 ? [n, n] : [n]))
  assert.deepEqual(
    seen.filter((n) => n >= 40),
    expected,
  )
  assert.equal(overlaps, 0)
})

test('an endpoint that gets no batches any more gets what waited in requests of their own', async () => {
  const path = '/no-batches'
  answers.set(path, (one) => ({ status: one.body.startsWith('[') ? 500 : 200 }))
  const it = await calls.endpointWith(`${receiver.url}${path}`, { ordering: 'fifo', batching: { maxEvents: 3, lingerMs: 1000 } })
  await publishAll(it.app, numbers(9))
  await eventually(() => waiting(it.endpoint), isThere([2, 2, 2, 0, 0, 0, 0, 0, 0]))
  await calls.patch(it, { ordering: 'none', batching: null })
  await arrivals(path, 6, (one) => !one.body.startsWith('['))
  await eventually(() => waiting(it.endpoint), isThere([2, 2, 2]))
  const single = receiver.received.filter((one) => one.path === path && !one.body.startsWith('[')).map(numberOf)
  assert.deepEqual(
    single.toSorted((a, b) => a - b),
    numbers(6, 3),
  )
})

test('what was put into a queue that the endpoint has no more before it is routed arrives once', async () => {
  const path = '/meanwhile'
  const it = await calls.endpointWith(`${receiver.url}${path}`, {})
  let n = 0
  for (let round = 0; round < 20; round++) {
    await calls.patch(it, { ordering: 'fifo' })
    const publishing = numbers(5, n).map((one) => calls.publish(it.app, one))
    await publishing[0]
    await Promise.all([calls.patch(it, { ordering: 'none' }), ...publishing])
    n += 5
  }
  await eventually(
    () => Promise.resolve(new Set(numbersAt(receiver, path)).size),
    (arrived) => arrived === n,
  )
  await eventually(() => waiting(it.endpoint), isThere([]))
  assert.deepEqual(
    numbersAt(receiver, path).toSorted((a, b) => a - b),
    numbers(n),
  )
})
