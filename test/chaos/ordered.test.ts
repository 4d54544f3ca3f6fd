import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { startReceiver, type Received, type Receiver } from '../support/receiver.ts'
import { setStage, type Stage } from './stage.ts'

let stage: Stage
let receiver: Receiver

before(async () => {
  receiver = await startReceiver(() => ({ status: 200, afterMs: 5 }))
  stage = await setStage()
})
afterEach(() => stage.endAll())
after(async () => {
  await stage.close()
  await receiver.close()
})

async function post(path: string, body: object): Promise<{ id: string }> {
  const headers = { authorization: `Bearer ${stage.token}` }
  const response = await fetch(`${stage.apiUrl}/api/v1${path}`, { method: 'POST', headers, body: JSON.stringify(body) })
  assert.ok(response.ok, `${path} answered ${response.status}`)
  return (await response.json()) as { id: string }
}

async function fifoEndpoint(path: string): Promise<string> {
  const { id } = await post('/app', { name: path })
  await post(`/app/${id}/endpoint`, { url: `${receiver.url}${path}`, ordering: 'fifo' })
  return id
}

async function publish(app: string, from: number, to: number): Promise<void> {
  for (let n = from; n < to; n++) await post(`/app/${app}/msg`, { eventType: 'step.taken', payload: { n } })
}

const at = (path: string) => (one: Received) => one.path === path
const numbersAt = (path: string) => receiver.received.filter(at(path)).map((one) => (JSON.parse(one.body) as { n: number }).n)
const arrived = (path: string, n: number) =>
  receiver.waitFor(1, { matches: (one) => one.path === path && (JSON.parse(one.body) as { n: number }).n === n, timeoutMs: 90_000 })

/** All came, in order; what came twice came twice in a row. */
function assertInOrder(numbers: readonly number[], count: number): void {
  assert.deepEqual(
    numbers.filter((n, i) => n !== numbers[i - 1]),
    Array.from({ length: count }, (_, n) => n),
  )
}

test('order holds when a worker is killed while it sends', async (t) => {
  const [, , first] = await Promise.all([stage.startApi(), stage.startWorker('dispatcher'), stage.startWorker('delivery')])
  const app = await fifoEndpoint('/killed')
  const publishing = publish(app, 0, 300)
  await arrived('/killed', 50)
  await stage.end(first, 'SIGKILL')
  await stage.startWorker('delivery')
  await publishing
  await arrived('/killed', 299)
  const numbers = numbersAt('/killed')
  t.diagnostic(`${numbers.length - 300} of 300 were sent again`)
  assertInOrder(numbers, 300)
})

test('a worker that was stopped and comes back late sends nothing behind the back of the one that took over', async (t) => {
  const [, , stopped] = await Promise.all([stage.startApi(), stage.startWorker('dispatcher'), stage.startWorker('delivery')])
  const app = await fifoEndpoint('/stopped')
  const publishing = publish(app, 0, 300)
  await arrived('/stopped', 50)
  stopped.signal('SIGSTOP')
  await stage.startWorker('delivery')
  await publishing
  const before = numbersAt('/stopped').at(-1)!
  await arrived('/stopped', Math.min(299, before + 20))
  stopped.signal('SIGCONT')
  await publish(app, 300, 340)
  await arrived('/stopped', 339)
  const numbers = numbersAt('/stopped')
  t.diagnostic(`${numbers.length - 340} of 340 were sent again`)
  assertInOrder(numbers, 340)
})
