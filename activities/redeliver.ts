import { activityInfo, ApplicationFailure, Context } from '@temporalio/activity'
import { ApplicationFailureCategory } from '@temporalio/common'
import type { EndpointDeliveriesInput } from '../domain/fan-out.ts'
import type { Lane } from '../domain/names.ts'
import { TRIGGER_SCHEDULED } from '../domain/outcome.ts'
import type { ConfigCache } from '../storage/config-cache.ts'
import { endDeliveries, readDeliveryStates, type DeliveryState } from '../storage/deliveries.ts'
import { readMessages, type MessageCache } from '../storage/messages.ts'
import type { Pool } from '../storage/pool.ts'
import type { Recorder } from '../storage/recorder.ts'
import type { AttemptInput, Disposition } from './attempt.ts'
import { leaveToMailbox, type LaneSender } from './lane-sender.ts'
import type { EndpointRuns } from './endpoint-runs.ts'
import { targetOf } from './routes.ts'
import { TIMER_LEAD_MS, WAIT_HERE_MS } from './timers.ts'

export interface RedeliverDependencies {
  readonly pool: Pool
  readonly messages: MessageCache
  readonly configCache: ConfigCache
  readonly senders: Readonly<Record<Lane, LaneSender>>
  readonly recorder: Recorder
  readonly endpointRuns: EndpointRuns
  readonly stopping: AbortSignal
}

const HEARTBEAT_MS = 2000
const DETACH_AFTER_MS = 1000
const BUSY_RETRY_MS = 1000
/** Nobody is sent early; those due this shortly after the first wait for one another rather than each cost a round. */
const TOGETHER_MS = 50
const STAY_MS = 20_000
/** How much earlier than its timer a run must be to count as an operator's: the server's clock may differ from this one. */
const EARLY_MS = TIMER_LEAD_MS + 300

/** A delivery that waits in this activity, with the reason of its last failure where this run of the activity saw it. */
interface Waiting {
  readonly nextAtMs: number
  readonly reason: string
}

/** What is being sent and recorded, by run, message and endpoint. */
type UnderWay = Map<string, Promise<Waiting[]>>

/** Activities on the delivery task queues. */
export function createRedeliver(deps: RedeliverDependencies) {
  const underWay: UnderWay = new Map()
  return {
    /**
     * Sends what waits for one endpoint and is due; throws with the delay to the next due time until nothing waits here any
     * more (delivered, dead-lettered, or parked). The server retries it then: its timer is the backoff. An endpoint that has
     * its share of the lane's activities leaves what is due to its mailbox, where waiting costs a row.
     *
     * Started before anything is due it sends at once: an operator has reset or unpaused it.
     */
    async redeliver(input: EndpointDeliveriesInput & { readonly lane: Lane }): Promise<'done'> {
      const info = activityInfo()
      // Equal on the activity's first run, which only finds out when it is due.
      let armed = info.currentAttemptScheduledTimestampMs > info.scheduledTimestampMs
      const runId = input.sentInRunId ?? info.workflowExecution!.runId
      const beat = setInterval(() => Context.current().heartbeat(), HEARTBEAT_MS)
      const leaveAtMs = Date.now() + STAY_MS
      const run = deps.endpointRuns.begin(input.lane, input.endpointId)
      try {
        for (;;) {
          const waiting = await sendDue({ ...deps, underWay }, { ...input, runId, armed, parks: run.isOver })
          if (waiting.length === 0) return 'done'
          const waitMs = nextAtMsOf(waiting) - Date.now()
          if (waitMs > WAIT_HERE_MS || Date.now() > leaveAtMs || deps.stopping.aborted) throw waits(waiting, waitMs)
          await Context.current().sleep(Math.max(1, waitMs))
          armed = false
        }
      } finally {
        clearInterval(beat)
        run.end()
      }
    },

    /** An operator has completed the activity of an endpoint: its deliveries are skipped, which their owner can see. */
    async skipDeliveries(input: EndpointDeliveriesInput): Promise<void> {
      await endDeliveries(deps.pool, { ...input, state: 'skipped' })
    },

    /** An operator has failed the activity of an endpoint: its deliveries are dead-lettered. */
    async deadLetter(input: EndpointDeliveriesInput): Promise<void> {
      await endDeliveries(deps.pool, { ...input, state: 'dead' })
    },
  }
}

/** @returns what waits at the endpoint after it */
async function sendDue(
  deps: RedeliverDependencies & { readonly underWay: UnderWay },
  input: EndpointDeliveriesInput & { readonly lane: Lane; readonly runId: string; readonly armed: boolean; readonly parks: boolean },
): Promise<readonly Waiting[]> {
  const { runId } = input
  const states = (await readDeliveryStates(deps.pool, input)).filter(isOpen)
  const reached = dueNow(states, input.armed)
  const messages = await readMessages(
    deps.pool,
    deps.messages,
    reached.map((state) => state.messageId),
  )
  const cancelled = reached.filter((state) => input.trigger === TRIGGER_SCHEDULED && messages.get(state.messageId)?.cancelled === true)
  if (cancelled.length > 0)
    await endDeliveries(deps.pool, { ...input, messageIds: cancelled.map((state) => state.messageId), state: 'cancelled' })
  const due = reached.filter((state) => !cancelled.includes(state))
  const target = due.length === 0 ? undefined : await targetOf(deps.configCache, input.endpointId, [...messages.values()])
  // An endpoint that is gone or disabled gets nothing more; a message that is gone cannot be sent.
  const over = due.filter((state) => target === undefined || !messages.has(state.messageId))
  if (over.length > 0) await endDeliveries(deps.pool, { ...input, messageIds: over.map((state) => state.messageId), state: 'dead' })
  const delivery = { groupId: input.groupId, runId, trigger: input.trigger, retried: input.retried, lane: input.lane, hadRow: true }
  const sent = await Promise.all(
    due.map(async (state) => {
      const message = messages.get(state.messageId)
      if (target === undefined || message === undefined) return []
      const ends = { signal: deps.stopping, lost: Context.current().cancellationSignal }
      const attempt = { message, endpoint: target.endpoint, attemptsBefore: state.attempts, ...delivery, ...ends }
      if (!input.parks) return sendOnce(deps, attempt)
      await leaveToMailbox(deps.recorder, attempt, Date.now())
      return []
    }),
  )
  const waiting = states.filter((state) => !reached.includes(state)).map((state) => ({ nextAtMs: state.nextAtMs, reason: 'waits' }))
  return [...waiting, ...sent.flat()]
}

function isOpen(state: DeliveryState): boolean {
  return state.state === 'new' || state.state === 'retrying'
}

function dueNow(states: readonly DeliveryState[], armed: boolean): readonly DeliveryState[] {
  const nowMs = Date.now()
  const due = states.filter((state) => state.state === 'new' || state.nextAtMs <= nowMs)
  const early = due.length === 0 && armed && Math.min(...states.map((state) => state.nextAtMs)) > nowMs + EARLY_MS
  return early ? states : due
}

/**
 * An activity that Temporal did not hear of for too long is executed again, perhaps in the same process, while Postgres has not
 * taken yet what the first has sent: then it waits for that.
 */
function sendOnce(deps: RedeliverDependencies & { readonly underWay: UnderWay }, attempt: AttemptInput): Promise<Waiting[]> {
  const { underWay } = deps
  const key = `${attempt.runId} ${attempt.message.id} ${attempt.endpoint.id}`
  const known = underWay.get(key)
  if (known !== undefined) return known
  const sending = sendOne(deps, attempt).finally(() => underWay.delete(key))
  underWay.set(key, sending)
  return sending
}

async function sendOne(deps: RedeliverDependencies, attempt: AttemptInput): Promise<Waiting[]> {
  let sending = await deps.senders[attempt.lane](attempt)
  // Only the fast lane turns endpoints away.
  if (sending === 'slow') sending = await deps.senders.slow({ ...attempt, lane: 'slow' })
  if (typeof sending === 'string') return [{ nextAtMs: Date.now() + BUSY_RETRY_MS, reason: 'the endpoint has too many requests waiting' }]
  const timer = setTimeout(() => sending.detach(), DETACH_AFTER_MS)
  const disposition: Disposition = await sending.done.finally(() => clearTimeout(timer))
  if (disposition.kind === 'retrying') return [{ nextAtMs: disposition.nextAtMs, reason: disposition.reason }]
  if (disposition.kind === 'interrupted') return [{ nextAtMs: Date.now(), reason: 'the worker stopped' }]
  return []
}

function nextAtMsOf(waiting: readonly Waiting[]): number {
  const firstAtMs = Math.min(...waiting.map((one) => one.nextAtMs))
  return Math.max(...waiting.map((one) => one.nextAtMs).filter((atMs) => atMs <= firstAtMs + TOGETHER_MS))
}

function waits(waiting: readonly Waiting[], delayMs: number): ApplicationFailure {
  const reason = waiting.find((one) => one.reason !== 'waits')?.reason ?? 'waits'
  const failure = ApplicationFailure.create({
    type: 'DeliveryWaits',
    message: `${waiting.length === 1 ? 'one delivery waits' : `${waiting.length} deliveries wait`}: ${reason}`,
    nextRetryDelay: Math.max(1, delayMs - TIMER_LEAD_MS),
    category: ApplicationFailureCategory.BENIGN,
  })
  failure.stack = ''
  return failure
}
