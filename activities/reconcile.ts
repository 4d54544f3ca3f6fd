import { setTimeout as pause } from 'node:timers/promises'
import { lowestIdAt } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import { mailboxWorkflowId, replayWorkflowId, taskWorkflowId } from '../domain/names.ts'
import { sortUnsettled, type ReconcileProgress, type ReconcileRequest, type Unsettled } from '../domain/reconcile.ts'
import type { TaskStep } from '../domain/task.ts'
import { notifyOutbox } from '../storage/outbox.ts'
import { inTransaction, type Pool, type Queryable } from '../storage/pool.ts'
import {
  noteWaiting,
  outboxDepth,
  parkRetrying,
  putBack,
  readReconcileTask,
  readRunningTasks,
  readUnsettled,
  readWaitingMailboxes,
  reconcilingAlone,
  restartTasks,
  saveReconcileTask,
} from '../storage/reconcile.ts'
import type { MailboxWake } from '../storage/records.ts'

/** What Temporal lists as open; some seconds may pass until it lists what has begun, or no longer lists what has ended. */
export interface OpenWorkflows {
  /** @returns which of the messages, and perhaps others, open fan-outs carry. @throws where Temporal cannot be asked */
  carrying(messageIds: readonly string[]): Promise<ReadonlySet<string>>
  /** @returns which of the workflows run. @throws where Temporal cannot be asked */
  running(workflowIds: readonly string[]): Promise<ReadonlySet<string>>
}

export interface ReconcileDependencies {
  readonly pool: Pool
  readonly openWorkflows: OpenWorkflows
  /** Wakes a mailbox, starting its workflow where none runs. */
  readonly wakeMailbox: (wake: MailboxWake) => void | Promise<void>
}

/** One reconciliation, as its steps need it. */
export interface Reconciliation {
  /** Names what it puts into the outbox. */
  readonly name: string
  readonly request: ReconcileRequest
  /** The task that carries it, which it does not start again. */
  readonly taskId?: string
  /** Writes down how far it is, in the transaction that brings it there. */
  save(db: Queryable, progress: ReconcileProgress): Promise<void>
}

export interface ReconcileStep {
  readonly progress: ReconcileProgress
  /** Set where nothing could be done now: until when to wait. */
  readonly waitMs?: number
}

const MAILBOXES_PER_STEP = 200
const WAKES_AT_A_TIME = 8
const WAIT_MS = 1000

/**
 * Does the next bounded step of a reconciliation: a page of messages, a page of mailboxes, or the tasks. It only adds what
 * neither Postgres nor Temporal knows of, so repeating a step does no harm.
 * @throws where Postgres or Temporal cannot be asked: what is not known to be lost is left alone
 */
export async function reconcileStep(
  deps: ReconcileDependencies,
  reconciliation: Reconciliation,
  progress: ReconcileProgress,
): Promise<ReconcileStep> {
  const step = { messages: nextMessages, mailboxes: nextMailboxes, tasks: lookAfterTasks, over: () => Promise.resolve({ progress }) }
  const done = await reconcilingAlone(deps.pool, () => step[progress.phase](deps, reconciliation, progress))
  return done ?? { progress, waitMs: WAIT_MS }
}

/** The next step of the reconciliation that a background task is. */
export async function reconcileSome(
  deps: ReconcileDependencies,
  taskId: string,
  request: Omit<ReconcileRequest, 'dryRun'>,
): Promise<TaskStep> {
  const before = await readReconcileTask(deps.pool, taskId)
  if (before === undefined) return { done: true }
  const save = (db: Queryable, progress: ReconcileProgress) => saveReconcileTask(db, taskId, progress)
  const { progress, waitMs } = await reconcileStep(deps, { name: taskId, request: { ...request, dryRun: false }, taskId, save }, before)
  return { done: progress.phase === 'over', ...(waitMs === undefined ? {} : { waitMs }) }
}

/**
 * Looks at a page of messages twice, and asks Temporal in between. What had left the outbox at the first look had been begun by
 * then, so Temporal lists it when it is asked: as open, or, with all that it did recorded, no longer. The second look, which is
 * that of the statement that puts in, sees those records.
 */
async function nextMessages(
  { pool, openWorkflows, wakeMailbox }: ReconcileDependencies,
  { name, request, save }: Reconciliation,
  progress: ReconcileProgress,
): Promise<ReconcileStep> {
  if (!request.dryRun && (await outboxDepth(pool, LIMITS.reconcileOutboxMax)) >= LIMITS.reconcileOutboxMax)
    return { progress, waitMs: WAIT_MS }
  const page = await readUnsettled(pool, progress, lowestIdAt('msg', Date.parse(request.until)))
  const wanted = page.deliveries.filter(({ kind }) => kind !== 'changed' || request.changed)
  const { carried, missing, retrying } = sortUnsettled(wanted, await carryingOf(openWorkflows, wanted))
  const looked: ReconcileProgress = {
    ...progress,
    ...(page.next ?? { phase: 'mailboxes', after: '', afterEndpointId: null }),
    messages: progress.messages + page.messages,
    carried: progress.carried + carried,
    changed: progress.changed + page.deliveries.length - wanted.length,
  }
  if (request.dryRun || missing.length + retrying.length === 0) {
    const next = { ...looked, put: looked.put + missing.length, parked: looked.parked + retrying.length }
    await save(pool, next)
    return { progress: next }
  }
  const { next, wakes } = await inTransaction(pool, async (client) => {
    const put = missing.length === 0 ? 0 : await putBack(client, missing, name)
    const { parked, wakes } = retrying.length === 0 ? { parked: 0, wakes: [] } : await parkRetrying(client, retrying)
    if (put > 0) await notifyOutbox(client)
    const next = { ...looked, put: looked.put + put, parked: looked.parked + parked }
    await save(client, next)
    return { next, wakes }
  })
  await wakeAll(wakes, wakeMailbox)
  return { progress: next }
}

async function carryingOf(openWorkflows: OpenWorkflows, wanted: readonly Unsettled[]): Promise<ReadonlySet<string>> {
  if (wanted.length === 0) return new Set()
  await pause(LIMITS.reconcileListLagMs)
  return openWorkflows.carrying([...new Set(wanted.map(({ messageId }) => messageId))])
}

/** Mailboxes whose time will come are woken by the sweep then, if their timer is gone. */
async function nextMailboxes(
  { pool, openWorkflows, wakeMailbox }: ReconcileDependencies,
  { request, save }: Reconciliation,
  progress: ReconcileProgress,
): Promise<ReconcileStep> {
  const boxes = await readWaitingMailboxes(pool, progress.after, MAILBOXES_PER_STEP)
  const wanted = boxes.filter((one) => one.wanted)
  const running = wanted.length === 0 ? undefined : await openWorkflows.running(wanted.map((one) => mailboxWorkflowId(one.endpointId)))
  const lost = wanted.filter((one) => running?.has(mailboxWorkflowId(one.endpointId)) !== true)
  if (!request.dryRun && lost.length > 0) {
    await noteWaiting(pool, lost)
    await wakeAll(lost, wakeMailbox)
  }
  const last = boxes.at(-1)
  const next: ReconcileProgress = {
    ...progress,
    ...(last === undefined ? { phase: 'tasks' } : { after: last.endpointId }),
    mailboxes: progress.mailboxes + lost.length,
  }
  await save(pool, next)
  return { progress: next }
}

async function wakeAll(wakes: readonly MailboxWake[], wake: ReconcileDependencies['wakeMailbox']): Promise<void> {
  const waiting = [...wakes]
  const lines = Array.from({ length: WAKES_AT_A_TIME }, async () => {
    for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) await wake(one)
  })
  await Promise.all(lines)
}

/** A task that runs and whose workflow does not is started again by the sweep; its steps know how far it is. */
async function lookAfterTasks(
  { pool, openWorkflows }: ReconcileDependencies,
  { request, taskId, save }: Reconciliation,
  progress: ReconcileProgress,
): Promise<ReconcileStep> {
  const tasks = await readRunningTasks(pool, taskId)
  const workflows = (id: string) => [taskWorkflowId(id), replayWorkflowId(id)]
  const running = await openWorkflows.running(tasks.flatMap(workflows))
  const lost = tasks.filter((id) => !workflows(id).some((one) => running.has(one)))
  if (!request.dryRun && lost.length > 0) await restartTasks(pool, lost)
  const next: ReconcileProgress = { ...progress, phase: 'over', tasks: progress.tasks + lost.length }
  await save(pool, next)
  return { progress: next }
}
