import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createCalls, numberOf, numbers } from '../support/calls.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { eventually } from './eventually.ts'
import { setStage, type Stage } from './stage.ts'

const ENDPOINTS = 20
const MESSAGES = 1000
const FAILING_SHARE = 0.1
/** Of all deliveries: when a worker is killed. */
const KILLS_AT = [0.2, 0.4, 0.6]
const WITHIN_MS = 240_000

let stage: Stage
let receiver: Receiver
/** By path: the first message that has not been answered with success. */
const heads = new Map<string, number>()
const violations: string[] = []
let [failed, repeated] = [0, 0]

before(async () => {
  receiver = await startReceiver((one) => {
    const n = numberOf(one)
    const head = heads.get(one.path) ?? 0
    // What was answered, and not recorded before its worker died, comes again right away.
    if (n === head - 1) repeated++
    else if (n !== head) violations.push(`${one.path}: ${n} came where ${head} was next`)
    if (Math.random() < FAILING_SHARE) {
      failed++
      return { status: 500 }
    }
    heads.set(one.path, Math.max(head, n + 1))
    return { status: 200 }
  })
  stage = await setStage()
})
after(async () => {
  await stage?.close()
  await receiver?.close()
})

const delivered = () => [...heads.values()].reduce((sum, head) => sum + head, 0)
const whenDelivered = (count: number) =>
  eventually({ what: `${count} deliveries, of which ${delivered()} are there`, withinMs: WITHIN_MS }, () =>
    Promise.resolve(delivered() >= count),
  )

test('20,000 messages to 20 fifo endpoints that fail at random, and three killed workers: all arrive in order', async (t) => {
  const [, , ...workers] = await Promise.all([
    stage.startApi(),
    stage.startWorker('dispatcher'),
    stage.startWorker('delivery'),
    stage.startWorker('delivery'),
  ])
  const api = createCalls({ url: stage.apiUrl, token: stage.token })
  const publishing = Promise.all(
    numbers(ENDPOINTS).map(async (endpoint) => {
      const fields = { ordering: 'fifo', retrySchedule: Array<number>(30).fill(0.1) }
      const { app } = await api.endpointWith(`${receiver.url}/${endpoint}`, fields)
      for (let from = 0; from < MESSAGES; from += 50) await api.publishTogether(app, numbers(50, from))
    }),
  )
  for (const share of KILLS_AT) {
    await whenDelivered(share * ENDPOINTS * MESSAGES)
    await stage.end(workers.shift()!, 'SIGKILL')
    workers.push(await stage.startWorker('delivery'))
  }
  await publishing
  await whenDelivered(ENDPOINTS * MESSAGES)
  t.diagnostic(`${failed} requests failed, ${repeated} deliveries were sent again`)
  assert.deepEqual(violations, [])
  assert.deepEqual([...heads.values()], Array<number>(ENDPOINTS).fill(MESSAGES))
})
