import { Context } from '@temporalio/activity'
import type { MailboxDrain } from '../domain/fan-out.ts'
import { partitionOf } from '../domain/names.ts'
import { hasQueue } from '../domain/ordering.ts'
import { TRIGGER_SCHEDULED, type AttemptOutcome } from '../domain/outcome.ts'
import type { CachedEndpoint, ConfigCache } from '../storage/config-cache.ts'
import { endDeliveries, readDueParked, settleMailbox, type ParkedDelivery } from '../storage/deliveries.ts'
import { readMessages, type MessageCache, type StoredMessage } from '../storage/messages.ts'
import type { Pool } from '../storage/pool.ts'
import type { Held } from './admission.ts'
import type { LaneSender } from './lane-sender.ts'
import type { Pace } from './pace.ts'
import { targetOf } from './routes.ts'
import { TIMER_LEAD_MS, WAIT_HERE_MS } from './timers.ts'

export interface MailboxDependencies {
  readonly pool: Pool
  readonly messages: MessageCache
  readonly configCache: ConfigCache
  readonly pace: Pace
  readonly sendRetry: LaneSender
  /** Drains the queue of an endpoint that has one; undefined for others. */
  readonly drainQueue: (run: MailboxRun) => Promise<MailboxDrain | undefined>
  readonly partitions: number
  readonly stopping: AbortSignal
}

interface MailboxRun {
  readonly endpointId: string
  readonly runId: string
}

/** What one look at what is due has come to. */
interface Page {
  readonly due: number
  readonly sent: number
  /** Set where not all that is due may be sent now. */
  readonly held?: Held | undefined
  /** Nothing was sent: the endpoint has a queue now, which another drain sends in its way. */
  readonly queued?: boolean
}

const ROWS_PER_READ = 100
const DRAIN_FOR_MS = 30_000
const HEARTBEAT_MS = 2000
const DETACH_AFTER_MS = 1000
// What is released by a rate is waited for here: a timer of the workflow for every few requests would cost more than they do.
const WAIT_FOR_RATE_MS = 2000
const SETTLE_EVERY_MS = 2000

/** The activity of an endpoint's mailbox. */
export function createMailbox(deps: MailboxDependencies) {
  return {
    /**
     * Sends what waits for one endpoint and may be sent, for half a minute at most.
     * @returns when to look again, shortly before the next one is due; null where none is parked, in which case the mailbox is marked idle
     */
    async drainMailbox(input: MailboxRun): Promise<MailboxDrain> {
      const beat = setInterval(() => Context.current().heartbeat(), HEARTBEAT_MS)
      try {
        const drain = (await deps.drainQueue(input)) ?? (await drainParked(deps, input))
        return { ...drain, partition: partitionOf(input.endpointId, deps.partitions) }
      } finally {
        clearInterval(beat)
      }
    },
  }
}

/** Sends the parked deliveries of an endpoint without a queue that are due, as fast as it may be sent to. */
async function drainParked(deps: MailboxDependencies, input: MailboxRun): Promise<MailboxDrain> {
  const endMs = Date.now() + DRAIN_FOR_MS
  let sent = 0
  let settledAtMs = 0
  for (;;) {
    const page = await sendPage(deps, input)
    sent += page.sent
    const leaves = page.queued === true || isOver(deps, endMs)
    if (page.due > 0 && page.held === undefined && !leaves) continue
    let nextAtMs = page.held?.untilMs ?? 0
    // While a rate is waited for, it is not looked at each time whether something still waits.
    if (page.held === undefined || leaves || Date.now() > settledAtMs + SETTLE_EVERY_MS) {
      const dueAtMs = await settleMailbox(deps.pool, input.endpointId)
      if (dueAtMs === null) return { sent, nextAtMs: null }
      settledAtMs = Date.now()
      nextAtMs = Math.max(nextAtMs, dueAtMs)
    }
    const waitMs = nextAtMs - Date.now()
    if (waitMs > longestWaitMs(page) || leaves) return { sent, nextAtMs: nextAtMs - TIMER_LEAD_MS, held: page.held?.reason }
    await Context.current().sleep(Math.max(1, waitMs))
  }
}

function isOver({ stopping }: MailboxDependencies, endMs: number): boolean {
  return Date.now() > endMs || stopping.aborted || Context.current().cancellationSignal.aborted
}

/** A rate is waited for here: a timer of the workflow for every few requests would cost more than they do. */
function longestWaitMs({ held }: Page): number {
  return held === undefined ? WAIT_HERE_MS : WAIT_FOR_RATE_MS
}

async function sendPage(deps: MailboxDependencies, run: MailboxRun): Promise<Page> {
  const due = await readDueParked(deps.pool, run.endpointId, Date.now(), ROWS_PER_READ)
  return due.length === 0 ? { due: 0, sent: 0 } : sendDue(deps, run, due)
}

async function sendDue(deps: MailboxDependencies, run: MailboxRun, due: readonly ParkedDelivery[]): Promise<Page> {
  const { endpointId } = run
  const messages = await readMessages(
    deps.pool,
    deps.messages,
    due.map((one) => one.messageId),
  )
  const target = await targetOf(deps.configCache, endpointId, [...messages.values()])
  if (target !== undefined && hasQueue(target.endpoint)) {
    // Or it has none any more, and it is this process that has not heard of it yet.
    deps.configCache.forget(target.endpoint.appId)
    return { due: due.length, sent: 0, queued: true }
  }
  const end = async (ended: readonly ParkedDelivery[], state: 'dead' | 'cancelled') => {
    const messageIds = ended.map((one) => one.messageId)
    if (ended.length > 0) await endDeliveries(deps.pool, { endpointId, messageIds, groupId: ended[0]!.groupId, state })
  }
  const cancelled = due.filter((one) => one.trigger === TRIGGER_SCHEDULED && messages.get(one.messageId)?.cancelled === true)
  const sendable = target === undefined ? [] : due.filter((one) => messages.has(one.messageId) && !cancelled.includes(one))
  await end(cancelled, 'cancelled')
  await end(
    due.filter((one) => !sendable.includes(one) && !cancelled.includes(one)),
    'dead',
  )
  if (target === undefined || sendable.length === 0) return { due: due.length, sent: 0 }
  const turn = await deps.pace.ask(target.endpoint, sendable)
  const outcomes = await Promise.all(turn.now.map((one) => sendOne(deps, run, target.endpoint, messages.get(one.messageId)!, one)))
  await deps.pace.answered(endpointId, outcomes.flat())
  return { due: due.length, sent: turn.now.length, held: turn.held }
}

async function sendOne(
  deps: MailboxDependencies,
  { runId }: MailboxRun,
  endpoint: CachedEndpoint,
  message: StoredMessage,
  { groupId, attempts: attemptsBefore, trigger, retried }: ParkedDelivery,
): Promise<AttemptOutcome[]> {
  const delivery = { message, endpoint, lane: 'retry', groupId, runId, attemptsBefore, hadRow: true, trigger, retried } as const
  const ends = { signal: deps.stopping, lost: Context.current().cancellationSignal }
  const sending = await deps.sendRetry({ ...delivery, parkAlways: true, ...ends })
  if (typeof sending === 'string') return []
  const timer = setTimeout(() => sending.detach(), DETACH_AFTER_MS)
  await sending.done.finally(() => clearTimeout(timer))
  return sending.answered === undefined ? [] : [await sending.answered]
}
