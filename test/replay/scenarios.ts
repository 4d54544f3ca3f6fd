import { randomBytes } from 'node:crypto'
import { Client, Connection, WorkflowFailedError } from '@temporalio/client'
import pino from 'pino'
import type { AutoscaleView } from '../../domain/autoscale.ts'
import type { FanOutInput } from '../../domain/fan-out.ts'
import { newId } from '../../domain/ids.ts'
import {
  FAN_OUT_TASK_QUEUE,
  fanOutWorkflowId,
  mailboxWorkflowId,
  replayWorkflowId,
  SCHEDULE_WORKFLOW_ID,
  taskWorkflowId,
} from '../../domain/names.ts'
import type { RetentionResult } from '../../domain/retention.ts'
import { insertTask, markTaskStarted } from '../../storage/background-tasks.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { startAutoscaler } from '../../workers/autoscaler.ts'
import { createCalls, numbers } from '../support/calls.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'
import { freePorts, writeRegions, type RegionsOnDisk } from '../support/regions.ts'
import { createTablespace } from '../support/tablespace.ts'
import { temporalCli } from '../support/temporal-cli.ts'

/** Real parts, and what a scenario needs of them. */
export interface Stage {
  readonly service: TestService
  readonly receiver: Receiver
  readonly client: Client
  readonly pool: Pool
  /** The service's region, and one that no service runs of yet. */
  readonly regions: RegionsOnDisk
  stop(): Promise<void>
}

/** Runs a way that deliveries go; gives the ids of the workflows that carried them, all ended. */
export type Scenario = (stage: Stage) => Promise<string[]>

// Scaled by 0.02: 20 ms, 40 ms, then 1.8 s, which is beyond what an activity waits and parks in the mailbox.
// A breaker stays open for 6 s, which is longer.
// The autoscaler looks every 150 ms.
// Tables that are no longer new go to where they are already.
export const ENVIRONMENT = {
  TIDINGS_RETRY_SCHEDULE: '1,2,90',
  TIDINGS_RETRY_TIME_SCALE: '0.02',
  TIDINGS_AUTOSCALE_TIME_SCALE: '0.01',
  TIDINGS_WARM_TABLESPACE: 'pg_default',
}
const HELD_MS = 1500

/** The receiver answers by path: `/fail-<n>` fails the first n attempts of each message, `/slow` answers after its hold. */
export async function startStage(): Promise<Stage> {
  const receiver = await startReceiver((one, earlier) => {
    if (one.path.startsWith('/slow')) return { status: 200, afterMs: HELD_MS }
    return { status: earlier < Number(/^\/fail-(\d+)/.exec(one.path)?.[1] ?? 0) ? 500 : 200 }
  })
  const [own, far] = (await freePorts(2)) as [number, number]
  const regions = writeRegions({ local: { port: own }, far: { port: far } })
  const service = await startTestService({ env: { ...ENVIRONMENT, ...regions.envOf('local') } })
  const connection = await Connection.connect({ address: service.temporal.address })
  const client = new Client({ connection, namespace: service.temporal.namespace })
  const pool = createPool(service.database.url, 2)
  return {
    service,
    receiver,
    client,
    pool,
    regions,
    async stop() {
      regions.remove()
      await pool.end()
      await connection.close()
      await service.stop()
      await receiver.close()
    },
  }
}

export async function subscribe(stage: Stage, paths: readonly string[]) {
  const { svix } = stage.service
  const application = await svix.application.create({ name: 'scenario' })
  const endpoints = []
  for (const path of paths) endpoints.push(await svix.endpoint.create(application.id, { url: `${stage.receiver.url}${path}` }))
  return { appId: application.id, endpointIds: endpoints.map((one) => one.id) }
}

export async function publish(stage: Stage, appId: string, count = 1): Promise<string[]> {
  const { svix } = stage.service
  const publishing = Array.from({ length: count }, (_, n) => svix.message.create(appId, { eventType: 'invoice.paid', payload: { n } }))
  return (await Promise.all(publishing)).map((message) => message.id)
}

/** Waits for the ends of the fan-outs that sent the messages to an endpoint that has no queue. */
async function fanOutsTo(stage: Stage, endpointId: string, messageIds: readonly string[]): Promise<string[]> {
  const attempted = () =>
    stage.pool.query<{ group_id: string; ids: string[] }>(
      'SELECT group_id, array_agg(message_id) AS ids FROM attempt WHERE endpoint_id = $1 AND message_id = ANY($2) GROUP BY group_id ORDER BY group_id',
      [endpointId, messageIds],
    )
  const { rows } = await eventually(attempted, (groups) => new Set(groups.rows.flatMap((row) => row.ids)).size === messageIds.length)
  return ended(
    stage,
    rows.map((row) => fanOutWorkflowId(row.group_id)),
  )
}

/** Waits for the first requests of the messages, then for the ends of the fan-outs that made them. */
async function fanOutsOf(stage: Stage, messageIds: readonly string[], requests: number): Promise<string[]> {
  await stage.receiver.waitFor(requests, { matches: (one) => messageIds.includes(one.headers['webhook-id'] ?? '') })
  for (;;) {
    const { rows } = await stage.pool.query<{ group_id: string; messages: number }>(
      'SELECT group_id, count(DISTINCT message_id) AS messages FROM attempt WHERE message_id = ANY($1) GROUP BY group_id ORDER BY group_id',
      [messageIds],
    )
    if (rows.reduce((sum, row) => sum + row.messages, 0) < messageIds.length) continue
    return ended(
      stage,
      rows.map((row) => fanOutWorkflowId(row.group_id)),
    )
  }
}

export async function ended(stage: Stage, workflowIds: string[]): Promise<string[]> {
  for (const id of workflowIds) {
    // An accepted message is started a moment after its publish is answered.
    const isStarted = () =>
      stage.client.workflow
        .getHandle(id)
        .describe()
        .then(
          () => true,
          () => false,
        )
    await eventually(isStarted, (started) => started)
    await stage.client.workflow.getHandle(id).result()
  }
  return workflowIds
}

/** Few deliveries: an activity per endpoint. Several messages, in as many groups as it happens. */
const delivered: Scenario = async (stage) => {
  const { appId } = await subscribe(stage, ['/a', '/b'])
  return fanOutsOf(stage, await publish(stage, appId, 4), 8)
}

/** The start of a fan-out knows its endpoints; a run that was reset does not rely on that. */
const startedAnew: Scenario = async (stage) => {
  const { appId } = await subscribe(stage, ['/a'])
  const [workflowId] = await fanOutsOf(stage, await publish(stage, appId), 1)
  const reset = ['reset', '-w', workflowId!, '--type', 'FirstWorkflowTask', '--reason', 'recorded']
  await temporalCli(stage.service.temporal, 'workflow', ...reset)
  return ended(stage, [workflowId!])
}

/** More than ten deliveries share local activities. */
const many: Scenario = async (stage) => {
  const { appId } = await subscribe(
    stage,
    Array.from({ length: 12 }, (_, i) => `/many/${i}`),
  )
  return fanOutsOf(stage, await publish(stage, appId), 12)
}

/** A message that nobody takes is not fanned out, unless its endpoints go meanwhile. */
const nobody: Scenario = async (stage) => {
  const { appId } = await subscribe(stage, [])
  const [messageId] = await publish(stage, appId)
  return ended(stage, [await startFanOut(stage, messageId!)])
}

/** As the sweep starts one for a row of the outbox. */
async function startFanOut({ client, service }: Stage, messageId: string): Promise<string> {
  const input: FanOutInput = {
    groupId: messageId,
    messageIds: [messageId],
    trigger: 0,
    retried: true,
    partitions: service.config.partitions,
  }
  const workflowId = fanOutWorkflowId(messageId)
  await client.workflow.start('fanOut', { workflowId, taskQueue: FAN_OUT_TASK_QUEUE, args: [input] })
  return workflowId
}

const failing: Scenario = async (stage) => {
  const { appId } = await subscribe(stage, ['/fail-2', '/healthy'])
  return fanOutsOf(stage, await publish(stage, appId), 4)
}

/** Held for more than a second: handed over to a remote activity that attaches. */
const handedOver: Scenario = async (stage) => {
  const { appId } = await subscribe(stage, ['/slow'])
  return fanOutsOf(stage, await publish(stage, appId), 1)
}

const dead: Scenario = async (stage) => {
  const { appId, endpointIds } = await subscribe(stage, ['/fail-99'])
  await stage.pool.query(`UPDATE endpoint SET retry_schedule_ms = '{1000}' WHERE id = ANY($1)`, [endpointIds])
  return fanOutsOf(stage, await publish(stage, appId), 2)
}

const parked: Scenario = async (stage) => {
  const { appId, endpointIds } = await subscribe(stage, ['/fail-3'])
  const fanOuts = await fanOutsOf(stage, await publish(stage, appId), 4)
  return [...fanOuts, ...(await ended(stage, [mailboxWorkflowId(endpointIds[0]!)]))]
}

/** The mailbox waits for its breaker, probes, and releases the others along the ramp. */
const breaker: Scenario = async (stage) => {
  const { appId, endpointIds } = await subscribe(stage, ['/fail-1/breaker'])
  // No retry succeeds before the first attempts have opened the breaker.
  await stage.pool.query(`UPDATE endpoint SET retry_schedule_ms = '{45000,45000}' WHERE id = ANY($1)`, [endpointIds])
  await publish(stage, appId, 25)
  await stage.receiver.waitFor(50, { matches: (one) => one.path === '/fail-1/breaker', timeoutMs: 60_000 })
  return ended(stage, [mailboxWorkflowId(endpointIds[0]!)])
}

/** Many endpoints fail: those whose breakers open are held back before their first retry, the others have their activities. */
const heldBack: Scenario = async (stage) => {
  const { appId, endpointIds } = await subscribe(
    stage,
    numbers(6).map((n) => `/fail-1/held-back/${n}`),
  )
  await stage.pool.query(`UPDATE endpoint SET retry_schedule_ms = '{45000,45000}', circuit_breaker = id <> $2 WHERE id = ANY($1)`, [
    endpointIds,
    endpointIds[5],
  ])
  const messageIds = await createCalls(stage.service).publishTogether(appId, numbers(25))
  await stage.receiver.waitFor(2 * 6 * 25, { matches: (one) => one.path.startsWith('/fail-1/held-back'), timeoutMs: 60_000 })
  return [...(await fanOutsOf(stage, messageIds, 1)), ...(await ended(stage, endpointIds.slice(0, 5).map(mailboxWorkflowId)))]
}

/** An application with an endpoint that has a queue and one that has none: its messages go both ways. */
async function bothWays(stage: Stage, path: string, fields: object) {
  const calls = createCalls(stage.service)
  const { app, endpoint } = await calls.endpointWith(`${stage.receiver.url}${path}`, fields)
  const { id: plain } = await stage.service.svix.endpoint.create(app, { url: `${stage.receiver.url}${path.replace('/fail', '/plain')}` })
  return { calls, app, plain, mailboxId: mailboxWorkflowId(endpoint) }
}

/** The head of the queue fails so often that the workflow waits for its retry, and what is behind it waits too. */
const ordered: Scenario = async (stage) => {
  const { calls, app, plain, mailboxId } = await bothWays(stage, '/fail-3/ordered', { ordering: 'fifo-by-key' })
  const messageIds: string[] = []
  for (const n of numbers(2)) messageIds.push(await calls.publish(app, n, { orderingKey: 'one' }))
  await stage.receiver.waitFor(8, { matches: (one) => one.path === '/fail-3/ordered' })
  return [...(await ended(stage, [mailboxId])), ...(await fanOutsTo(stage, plain, messageIds))]
}

/** Two batches, each sent twice. */
const batched: Scenario = async (stage) => {
  const { calls, app, plain, mailboxId } = await bothWays(stage, '/fail-1/batched', { batching: { maxEvents: 2, lingerMs: 50 } })
  const messageIds = await calls.publishTogether(app, numbers(4))
  await stage.receiver.waitFor(4, { matches: (one) => one.path === '/fail-1/batched' })
  return [...(await ended(stage, [mailboxId])), ...(await fanOutsTo(stage, plain, messageIds))]
}

/** Retries of each priority, to an endpoint that raises it. */
const prioritised: Scenario = async (stage) => {
  const calls = createCalls(stage.service)
  const { app, endpoint } = await calls.endpointWith(`${stage.receiver.url}/fail-1/prioritised`, { priority: 'high' })
  const messageIds = await Promise.all((['low', 'medium', 'high'] as const).map((priority, n) => calls.publish(app, n, { priority })))
  await stage.receiver.waitFor(6, { matches: (one) => one.path === '/fail-1/prioritised' })
  return fanOutsTo(stage, endpoint, messageIds)
}

const replayed: Scenario = async (stage) => {
  const since = new Date(Date.now() - 60_000)
  const { appId, endpointIds } = await subscribe(stage, ['/fail-2'])
  await stage.pool.query(`UPDATE endpoint SET retry_schedule_ms = '{1000}' WHERE id = ANY($1)`, [endpointIds])
  const messageIds = await publish(stage, appId)
  await fanOutsOf(stage, messageIds, 2)
  const { id } = await stage.service.svix.endpoint.recover(appId, endpointIds[0]!, { since })
  const [first] = await ended(stage, [replayWorkflowId(id)])
  return [first!, ...(await fanOutsOf(stage, messageIds, 3)).slice(1)]
}

/** A background task in steps, and a replay that an operator cancels before its first page. */
const tasks: Scenario = async (stage) => {
  const { appId } = await subscribe(stage, [])
  const orgId = stage.service.organisation
  const id = newId('qtask')
  const input = { applicationId: appId, diedBefore: new Date().toISOString() }
  await insertTask(stage.pool, { id, orgId, appId, task: 'dead-letter.redrive', input })
  await markTaskStarted(stage.pool, id)
  const workflow = { taskQueue: FAN_OUT_TASK_QUEUE, workflowId: taskWorkflowId(id) }
  await stage.client.workflow.start('task', { ...workflow, args: [{ taskId: id }] })
  const cancelled = newId('qtask')
  const range = { since: '2026-01-01T00:00:00Z', until: '2026-01-02T00:00:00Z' }
  const replay = { taskQueue: FAN_OUT_TASK_QUEUE, workflowId: replayWorkflowId(cancelled) }
  await stage.client.workflow.signalWithStart('replay', {
    ...replay,
    args: [{ applicationId: appId, taskId: cancelled, ...range }],
    signal: 'cancel',
    signalArgs: [],
  })
  return ended(stage, [workflow.workflowId, replay.workflowId])
}

/** The second message is due before the first: the schedule is woken. */
const scheduled: Scenario = async (stage) => {
  const { appId } = await subscribe(stage, ['/scheduled'])
  const later = (ms: number) => ({ eventType: 'invoice.paid', payload: {}, deliverAt: new Date(Date.now() + ms) })
  await stage.service.svix.message.create(appId, later(2000))
  await stage.service.svix.message.create(appId, later(1000))
  await stage.receiver.waitFor(2, { matches: (one) => one.path === '/scheduled' })
  return ended(stage, [SCHEDULE_WORKFLOW_ID])
}

/** The rules reach their least, operators set, pause and resume, the target is away for a while; at last it is cancelled. */
const autoscale: Scenario = async ({ service, client }) => {
  let [wanted, away] = [1, false]
  const answer = <T>(work: () => T) => (away ? Promise.reject(new Error('away')) : Promise.resolve(work()))
  const target = {
    name: 'scenario',
    read: () => answer(() => ({ wanted, ready: wanted })),
    scaleTo: (workers: number) => answer(() => void (wanted = workers)),
  }
  const autoscaler = await startAutoscaler(service.config, { target, pool: 'scenario', min: 2, max: 9, log: pino({ level: 'silent' }) })
  const handle = client.workflow.getHandle(autoscaler.workflowId)
  const seen = (is: (view: AutoscaleView) => boolean) => eventually(() => handle.query<AutoscaleView>('state'), is)
  await seen(({ state }) => state.workers === 2)
  await handle.signal('override', { workers: 5, until: new Date(Date.now() + 3_600_000).toISOString() })
  await seen(({ state }) => state.workers === 5)
  away = true
  await seen(({ decisions }) => decisions[0]?.rule === 'override' && decisions[0].reason.startsWith('5') && decisions[0].action === 'hold')
  await handle.signal('override', { workers: 7 })
  await seen(({ decisions }) => decisions[0]?.rule === 'target')
  away = false
  await seen(({ state }) => state.workers === 7)
  for (const signal of ['pause', 'clear', 'resume']) await handle.signal(signal)
  await seen(({ control, decisions }) => !control.paused && decisions[0]?.rule !== 'override')
  await handle.cancel()
  await handle.result().catch((error: unknown) => {
    if (!(error instanceof WorkflowFailedError)) throw error
  })
  await autoscaler.stop()
  return [autoscaler.workflowId]
}

/** The process that has the requests is gone: after ten seconds the slow lane sends. */
export const processGone: Scenario = async (stage) => {
  const { appId } = await subscribe(stage, [])
  const [messageId] = await publish(stage, appId)
  const endpoint = await stage.service.svix.endpoint.create(appId, { url: `${stage.receiver.url}/gone` })
  const input: FanOutInput = {
    groupId: messageId!,
    messageIds: [messageId!],
    trigger: 0,
    retried: true,
    partitions: stage.service.config.partitions,
    remaining: [{ endpointId: endpoint.id, host: '127.0.0.1', how: 'attach', messageIds: [messageId!] }],
    sentBy: { processId: randomBytes(6).toString('hex'), runId: '00000000-0000-4000-8000-000000000000' },
  }
  const workflowId = fanOutWorkflowId(messageId!, 1)
  await stage.client.workflow.start('fanOut', { workflowId, taskQueue: FAN_OUT_TASK_QUEUE, args: [input] })
  await stage.receiver.waitFor(1, { matches: (one) => one.path === '/gone' })
  return ended(stage, [workflowId])
}

/** A table of long ago is dropped, and one that is elsewhere than it should be is moved. */
const retention: Scenario = async ({ client, pool, service }) => {
  const elsewhere = await createTablespace(service.database.url)
  const day = new Date(Date.now() - 10 * 86_400_000).toISOString().slice(0, 10)
  const name = `message_${day.replaceAll('-', '')}`
  for (const one of ['2025-01-01', day]) await pool.query(`SELECT create_day('message', $1)`, [one])
  await pool.query(`ALTER TABLE ${name} SET TABLESPACE ${elsewhere.name}`)
  const workflowId = 'retention/recorded'
  const result = await client.workflow.execute('retention', { workflowId, taskQueue: FAN_OUT_TASK_QUEUE, args: [{}] })
  const { dropped, warm } = result as RetentionResult
  if (!dropped.includes('message_20250101')) throw new Error('nothing was dropped')
  if (!warm!.moved.includes(name)) throw new Error('nothing was moved')
  await elsewhere.drop()
  return [workflowId]
}

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  delivered,
  reset: startedAnew,
  many,
  nobody,
  failing,
  'handed-over': handedOver,
  dead,
  parked,
  breaker,
  'held-back': heldBack,
  ordered,
  batched,
  prioritised,
  replayed,
  tasks,
  scheduled,
  autoscale,
  retention,
  'process-gone': processGone,
}
