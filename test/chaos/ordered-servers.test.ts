import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { mailboxWorkflowId } from '../../domain/names.ts'
import { createCalls, numberOf, numbers, numbersAt } from '../support/calls.ts'
import { startReceiver, type Answer, type Received, type Receiver } from '../support/receiver.ts'
import { eventually } from './eventually.ts'
import { setStage, type Stage } from './stage.ts'

const WITHIN_MS = 90_000
const BREAKER_AT = 10

let stage: Stage
let receiver: Receiver
/** By path; 200 where there is none. */
const answers = new Map<string, (one: Received, earlier: number) => Answer>()

before(async () => {
  receiver = await startReceiver((one, earlier) => answers.get(one.path)?.(one, earlier) ?? { status: 200 })
  stage = await setStage({
    env: { TIDINGS_HEALTH_MIN_ATTEMPTS: String(BREAKER_AT), TIDINGS_BREAKER_OPEN_MS: '3000', TIDINGS_RAMP_START: '50' },
    // A mailbox goes on as a new run after a few drains.
    dynamicConfig: { 'limit.historyCount.suggestContinueAsNew': 40 },
  })
})
afterEach(() => stage.endAll())
after(async () => {
  await stage?.close()
  await receiver?.close()
})

const api = () => createCalls({ url: stage.apiUrl, token: stage.token })
const startServices = () => Promise.all([stage.startApi(), stage.startWorker('dispatcher'), stage.startWorker('delivery')])

/** @param retrySchedule delays in seconds */
function fifoEndpoint(path: string, retrySchedule: readonly number[]) {
  return api().endpointWith(`${receiver.url}${path}`, { ordering: 'fifo', retrySchedule })
}

async function publish(app: string, ns: readonly number[]): Promise<void> {
  const calls = api()
  for (const n of ns) await calls.publish(app, n)
}

const arrived = (path: string, n: number) =>
  receiver.waitFor(1, { matches: (one) => one.path === path && numberOf(one) === n, timeoutMs: WITHIN_MS })

/** All came, in order; what came twice came twice in a row. */
function assertInOrder(seen: readonly number[], expected: readonly number[]): void {
  assert.deepEqual(
    seen.filter((n, i) => n !== seen[i - 1]),
    expected,
  )
}

test('what one API process has answered goes before what another is asked after that', async () => {
  const [, second] = await Promise.all([
    stage.startApi(),
    stage.startSecondApi(),
    stage.startWorker('dispatcher'),
    stage.startWorker('delivery'),
  ])
  const path = '/two-processes'
  const { app } = await fifoEndpoint(path, [1])
  const processes = [api(), createCalls({ url: second.url, token: stage.token })]
  const STREAMS = 4
  const PER_STREAM = 150
  // Those of one stream are in order; the streams are there at the same time, so that there is something to be mixed up.
  const streams = numbers(STREAMS).map((stream) => numbers(PER_STREAM, stream * PER_STREAM))
  await Promise.all(
    streams.map(async (ns) => {
      for (const n of ns) await processes[n % 2]!.publish(app, n)
    }),
  )
  await receiver.waitFor(STREAMS * PER_STREAM, { matches: (one) => one.path === path, timeoutMs: WITHIN_MS })
  const seen = numbersAt(receiver, path)
  for (const ns of streams) {
    assertInOrder(
      seen.filter((n) => ns.includes(n)),
      ns,
    )
  }
})

test('order holds through an end of Temporal and its return, with deliveries that wait and others that come meanwhile', async () => {
  await startServices()
  const path = '/restart'
  let works = false
  answers.set(path, () => ({ status: works ? 200 : 500 }))
  const { app } = await fifoEndpoint(path, Array<number>(20).fill(1))
  await publish(app, numbers(40))
  await receiver.waitFor(2, { matches: (one) => one.path === path })
  await stage.killTemporal()
  await publish(app, numbers(40, 40))
  works = true
  await stage.startTemporal()
  await publish(app, numbers(20, 80))
  await arrived(path, 99)
  assertInOrder(numbersAt(receiver, path), numbers(100))
})

test('order holds while the mailbox goes on in new runs', async (t) => {
  await startServices()
  const path = '/new-runs'
  answers.set(path, (one, earlier) => ({ status: numberOf(one) % 10 === 5 && earlier === 0 ? 500 : 200, afterMs: 5 }))
  // Long enough that the drain ends and the workflow's timer waits.
  const { app, endpoint } = await fifoEndpoint(path, [1])
  await publish(app, numbers(120))
  await arrived(path, 119)
  assertInOrder(numbersAt(receiver, path), numbers(120))
  const connection = await Connection.connect({ address: stage.temporal.address })
  try {
    const client = new Client({ connection, namespace: stage.temporal.namespace })
    const query = `WorkflowId = '${mailboxWorkflowId(endpoint)}' AND ExecutionStatus = 'ContinuedAsNew'`
    const runs = await eventually({ what: 'a mailbox that went on as a new run', withinMs: WITHIN_MS }, async () => {
      const { count } = await client.workflow.count(query)
      return count > 0 && count
    })
    t.diagnostic(`${runs} runs went on as new ones`)
  } finally {
    await connection.close()
  }
})

test('order holds through a breaker that opens, a probe that fails, and recovery; nothing is lost', async (t) => {
  await startServices()
  const path = '/breaker'
  const breaker = async () => {
    const { json } = await api().call('GET', `/app/${app}/endpoint/${endpoint}/health`)
    return (json as { breaker: { state: string; since: string } }).breaker
  }
  let works = true
  answers.set(path, () => ({ status: works ? 200 : 500 }))
  const { app, endpoint } = await fifoEndpoint(path, Array<number>(30).fill(0.1))
  await publish(app, numbers(5))
  await arrived(path, 4)
  works = false
  await publish(app, numbers(30, 5))
  const opened = await eventually({ what: 'an open breaker', withinMs: WITHIN_MS }, async () => {
    const now = await breaker()
    return now.state === 'open' && now
  })
  const before = receiver.received.filter((one) => one.path === path).length
  await publish(app, numbers(30, 35))
  await eventually({ what: 'a failed probe', withinMs: WITHIN_MS }, async () => {
    const now = await breaker()
    return now.state === 'open' && now.since !== opened.since
  })
  assert.equal(receiver.received.filter((one) => one.path === path).length, before + 1)
  works = true
  await publish(app, numbers(30, 65))
  await arrived(path, 94)
  const seen = numbersAt(receiver, path)
  t.diagnostic(`${seen.length - 95} requests failed`)
  assertInOrder(seen, numbers(95))
  await eventually({ what: 'a closed breaker', withinMs: WITHIN_MS }, async () => (await breaker()).state === 'closed')
})
