/** First attempts begin while Temporal starts their fan-out, and are recorded by it (ADR 38). */
import assert from 'node:assert/strict'
import { after, before, test, type TestContext } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { Client, Connection } from '@temporalio/client'
import { findTemporal } from '../../cli/embedded/temporal-program.ts'
import { startTemporal, type EmbeddedTemporal } from '../../cli/embedded/temporal.ts'
import { createProgress } from '../../cli/progress.ts'
import { readConfig } from '../../config/index.ts'
import type { FanOutInput } from '../../domain/fan-out.ts'
import { fanOutWorkflowId } from '../../domain/names.ts'
import { NO_RUN } from '../../domain/outcome.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { createScratch } from '../support/scratch.ts'
import { startTestService, type TestService } from '../support/service.ts'
import type { TestTemporal } from '../support/temporal.ts'

const NAMESPACE = 'tidings-test'

interface OwnTemporal {
  readonly server: EmbeddedTemporal
  readonly temporal: TestTemporal
  stop(): Promise<void>
}

/** @param eager whether the server hands the first task of a workflow to who starts it */
async function serveTemporal({ eager }: { eager: boolean }): Promise<OwnTemporal> {
  const scratch = createScratch('begun')
  const program = await findTemporal({ cacheDir: readConfig().cacheDir, dataDir: scratch.path }, createProgress())
  const dynamicConfig = { 'system.enableEagerWorkflowStart': eager }
  const server = await startTemporal({ program, dataDir: scratch.path, namespace: NAMESPACE, port: 0, uiPort: 0, dynamicConfig })
  const stop = async () => {
    await server.stop()
    scratch.remove()
  }
  return { server, temporal: { address: server.address, namespace: NAMESPACE, program }, stop }
}

let own: OwnTemporal
let service: TestService
let receiver: Receiver
let pool: Pool

before(async () => {
  receiver = await startReceiver((one, earlier) => (one.path === '/hangs-at-first' && earlier === 0 ? 'hang' : { status: 200 }))
  own = await serveTemporal({ eager: true })
  service = await startTestService({ temporal: own.temporal })
  pool = createPool(service.database.url, 2)
})

after(async () => {
  await pool.end()
  await service.stop()
  await receiver.close()
  await own.stop()
})

async function subscribe({ svix }: TestService, paths: readonly string[]) {
  const { id: appId } = await svix.application.create({ name: 'begun' })
  const endpoints = []
  for (const path of paths) endpoints.push((await svix.endpoint.create(appId, { url: `${receiver.url}${path}` })).id)
  const publish = async () => (await svix.message.create(appId, { eventType: 'invoice.paid', payload: { secret: 'begun' } })).id
  return { endpoints, publish }
}

const requestsOf = (messageId: string, path: string) =>
  receiver.received.filter((one) => one.headers['webhook-id'] === messageId && one.path === path)

async function attemptsOf(messageId: string, db = pool) {
  const { rows } = await db.query<{ endpointId: string; runId: string; status: number; groupId: string }>(
    'SELECT endpoint_id AS "endpointId", run_id AS "runId", status, group_id AS "groupId" FROM attempt WHERE message_id = $1 ORDER BY id',
    [messageId],
  )
  return rows
}

/** What fan-outs have been started with, and the names of the activities they have asked for. */
async function historiesOf({ address }: TestTemporal, groupIds: readonly string[]) {
  const connection = await Connection.connect({ address })
  try {
    const client = new Client({ connection, namespace: NAMESPACE })
    return await Promise.all(
      groupIds.map(async (groupId) => {
        const { events } = await client.workflow.getHandle(fanOutWorkflowId(groupId)).fetchHistory()
        const started = events![0]!.workflowExecutionStartedEventAttributes!
        const input = JSON.parse(Buffer.from(started.input!.payloads![0]!.data!).toString()) as FanOutInput
        const activities = events!.flatMap((one) => one.activityTaskScheduledEventAttributes?.activityType?.name ?? [])
        return { runId: started.originalExecutionRunId!, input, activities }
      }),
    )
  } finally {
    await connection.close()
  }
}

test('a first request does not wait for Temporal, and its fan-out records it', async () => {
  const { publish } = await subscribe(service, ['/a', '/b'])
  process.kill(own.server.pid, 'SIGSTOP')
  const messageId = await publish()
  try {
    await receiver.waitFor(2, { matches: (one) => one.headers['webhook-id'] === messageId })
    assert.deepEqual(await attemptsOf(messageId), [], 'nothing is recorded before a run has taken it over')
  } finally {
    process.kill(own.server.pid, 'SIGCONT')
  }
  const attempts = await eventually(
    () => attemptsOf(messageId),
    (rows) => rows.length === 2,
  )
  const [fanOut] = await historiesOf(own.temporal, [attempts[0]!.groupId])
  assert.deepEqual(new Set(attempts.map(({ runId }) => runId)), new Set([fanOut!.runId]))
  assert.match(fanOut!.input.begunBy ?? '', /^[0-9a-f]{12}$/)
  assert.equal(receiver.received.filter((one) => one.headers['webhook-id'] === messageId).length, 2)
})

test('what no run takes over is recorded without one and given up where it hangs; the fan-out that comes later sends only that', async (t) => {
  const { endpoints, publish } = await subscribe(service, ['/answers', '/hangs-at-first'])
  process.kill(own.server.pid, 'SIGSTOP')
  const messageId = await publish()
  try {
    const recorded = await eventually(
      () => attemptsOf(messageId),
      (rows) => rows.length > 0,
    )
    assert.deepEqual(
      recorded.map(({ endpointId, runId, status }) => [endpointId, runId, status]),
      [[endpoints[0], NO_RUN, 0]],
    )
  } finally {
    process.kill(own.server.pid, 'SIGCONT')
  }
  const attempts = await eventually(
    () => attemptsOf(messageId),
    (rows) => rows.length > 1,
    60_000,
  )
  assert.deepEqual(
    attempts.map(({ endpointId, status }) => [endpointId, status]),
    [
      [endpoints[0], 0],
      [endpoints[1], 0],
    ],
  )
  t.diagnostic(`requests: ${requestsOf(messageId, '/answers').length}, ${requestsOf(messageId, '/hangs-at-first').length}`)
  assert.equal(requestsOf(messageId, '/answers').length, 1)
  assert.equal(requestsOf(messageId, '/hangs-at-first').length, 2)
})

test('a process that is given the first task of what another has begun waits for that, and sends nothing twice', async (t: TestContext) => {
  const other = await serveTemporal({ eager: false })
  const first = await startTestService({ temporal: other.temporal })
  const others: TestService[] = []
  const db = createPool(first.database.url, 1)
  t.after(async () => {
    await db.end()
    for (const one of others) await one.service.stop()
    await first.stop()
    await other.stop()
  })
  const roles = ['dispatcher', 'delivery'] as const
  while (others.length < 3) others.push(await startTestService({ temporal: other.temporal, database: first.database, roles }))
  const { publish } = await subscribe(first, ['/shared', '/shared'])
  const messageIds: string[] = []
  const attached = []
  // Which process is given a task is the server's choice.
  while (attached.length === 0 && messageIds.length < 30) {
    // Of what follows a start that was not eager within a second nothing is begun.
    await pause(1100)
    const messageId = await publish()
    messageIds.push(messageId)
    const attempts = await eventually(
      () => attemptsOf(messageId, db),
      (rows) => rows.length === 2,
    )
    assert.ok(attempts.every(({ status, runId }) => status === 0 && runId !== NO_RUN))
    const fanOuts = await historiesOf(other.temporal, [attempts[0]!.groupId])
    assert.ok(fanOuts.every(({ input }) => input.begunBy !== undefined))
    attached.push(...fanOuts.filter(({ activities }) => activities.includes('attachToRequests')))
  }
  t.diagnostic(`fan-out ${messageIds.length} was run by another process`)
  assert.ok(attached.length > 0)
  assert.ok(attached.every(({ activities }) => !activities.includes('redeliver')))
  for (const messageId of messageIds) assert.equal(requestsOf(messageId, '/shared').length, 2)
})
