import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { mailboxWorkflowId } from '../../domain/names.ts'
import { openBreaker } from '../../storage/endpoint-state.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { mostInASecond } from '../support/arrivals.ts'
import { createCalls, numbers, type Calls } from '../support/calls.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

const MESSAGES = 3000
const TOGETHER = 50
const PUBLISHERS = 4
const WITHIN_MS = 60_000
// Fewer than this in any second, whatever is published.
const SIGNALS_MAX = 5
/** Of one run, however many messages it delivers. */
const EVENTS_MAX = 200

let service: TestService
let receiver: Receiver
let connection: Connection
let client: Client
let pool: Pool
let calls: Calls

before(async () => {
  receiver = await startReceiver(() => ({ status: 200 }))
  service = await startTestService({ env: { TIDINGS_RETRY_TIME_SCALE: '0.01', TIDINGS_BREAKER_OPEN_MS: '86400000' } })
  connection = await Connection.connect({ address: service.temporal.address })
  client = new Client({ connection, namespace: service.temporal.namespace })
  pool = createPool(service.database.url, 2)
  calls = createCalls(service)
})

after(async () => {
  await pool?.end()
  await connection?.close()
  await service?.stop()
  await receiver?.close()
})

async function publishBurst(app: string): Promise<void> {
  const starts = numbers(MESSAGES / TOGETHER).map((i) => i * TOGETHER)
  const publisher = async () => {
    for (let from = starts.shift(); from !== undefined; from = starts.shift()) await calls.publishTogether(app, numbers(TOGETHER, from))
  }
  await Promise.all(numbers(PUBLISHERS).map(publisher))
}

/** Waits until so many deliveries of an endpoint wait in its mailbox. */
async function whenWaiting(endpointId: string, count: number): Promise<void> {
  const waiting = () => pool.query(`SELECT FROM delivery WHERE endpoint_id = $1 AND state = 'parked'`, [endpointId])
  await eventually(
    async () => (await waiting()).rowCount,
    (found) => found === count,
    WITHIN_MS,
  )
}

/** Events of all runs of an endpoint's mailbox: how many in the longest, and when each signal came. */
async function historyOf(endpointId: string): Promise<{ longest: number; signalsAtMs: number[] }> {
  let longest = 0
  const signalsAtMs: number[] = []
  for await (const { workflowId, runId } of client.workflow.list({ query: `WorkflowId = '${mailboxWorkflowId(endpointId)}'` })) {
    const events = (await client.workflow.getHandle(workflowId, runId).fetchHistory()).events ?? []
    longest = Math.max(longest, events.length)
    for (const { eventTime, workflowExecutionSignaledEventAttributes: signal } of events) {
      if (signal) signalsAtMs.push(Number(eventTime?.seconds) * 1000 + Number(eventTime?.nanos) / 1e6)
    }
  }
  return { longest, signalsAtMs: signalsAtMs.sort((a, b) => a - b) }
}

const WAYS = {
  'that gets them in order': { ordering: 'fifo' },
  'that gets them in batches': { batching: { maxEvents: 100, lingerMs: 100 } },
  'whose breaker is open': {},
}

for (const [what, fields] of Object.entries(WAYS)) {
  test(`the mailbox of an endpoint ${what} gets few signals, and few events, however many messages are published`, async (t) => {
    const { app, endpoint } = await calls.endpointWith(`${receiver.url}/hook`, fields)
    const isBroken = Object.keys(fields).length === 0
    if (isBroken) assert.ok(await openBreaker(pool, endpoint, 86_400_000, { successRate: 0 }))
    await publishBurst(app)
    await whenWaiting(endpoint, isBroken ? MESSAGES : 0)
    const listed = () => historyOf(endpoint)
    const { longest, signalsAtMs } = await eventually(listed, (history) => history.signalsAtMs.length > 0)
    t.diagnostic(`${signalsAtMs.length} signals and at most ${longest} events for ${MESSAGES} messages`)
    const most = mostInASecond(signalsAtMs)
    assert.ok(most < SIGNALS_MAX, `${most} signals in a second`)
    assert.ok(longest < EVENTS_MAX, `${longest} events`)
  })
}
