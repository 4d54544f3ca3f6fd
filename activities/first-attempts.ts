import { activityInfo, Context } from '@temporalio/activity'
import type { Continuation, EndpointDeliveriesInput, FirstAttemptsInput, FirstAttemptsResult, Remaining } from '../domain/fan-out.ts'
import type { InHand } from '../domain/in-hand.ts'
import { LIMITS } from '../domain/limits.ts'
import { TRIGGER_MANUAL } from '../domain/outcome.ts'
import { hasQueue } from '../domain/ordering.ts'
import { combine, DEFAULT_PRIORITY, higher, lineOf, type Priority, type PriorityWeights } from '../domain/priority.ts'
import type { Prefetch } from '../domain/prefetch.ts'
import type { Regions } from '../domain/regions.ts'
import { readRecordedAttempts } from '../storage/deliveries.ts'
import type { CachedEndpoint, ConfigCache } from '../storage/config-cache.ts'
import { readErased } from '../storage/erasure.ts'
import { enqueueDeliveries } from '../storage/mailbox-queue.ts'
import { readMessages, type MessageCache, type StoredMessage } from '../storage/messages.ts'
import type { Pool } from '../storage/pool.ts'
import type { Recorder } from '../storage/recorder.ts'
import type { MailboxWake } from '../storage/records.ts'
import type { AttemptInput, Disposition } from './attempt.ts'
import type { BegunAttempts } from './begun-attempts.ts'
import type { EndpointRuns } from './endpoint-runs.ts'
import type { InFlight } from './in-flight.ts'
import { leaveToMailbox, type LaneSender } from './lane-sender.ts'
import type { RequestSlots } from './request-slots.ts'
import { cutSlice, deliveriesTo, divide, route, targetOf, toPlanned, withoutPlaced, type Target } from './routes.ts'
import type { RunMemory, SentPairs } from './run-memory.ts'

export interface FirstAttemptsDependencies {
  readonly pool: Pool
  readonly messages: MessageCache
  readonly configCache: ConfigCache
  readonly recorder: Recorder
  readonly inHand: Pick<InHand, 'begin' | 'done' | 'handedOn'>
  readonly prefetch: Pick<Prefetch, 'routed' | 'begin' | 'ended'>
  readonly takesItsTime: RequestSlots['takesItsTime']
  readonly sendFast: LaneSender
  readonly endpointRuns: Pick<EndpointRuns, 'isFull'>
  readonly wakeMailbox: (wake: MailboxWake) => void
  readonly runs: RunMemory
  readonly inFlight: InFlight
  readonly begun: Pick<BegunAttempts, 'take'>
  readonly priorityWeights: PriorityWeights
  /** Undefined: there is no other region. */
  readonly regions: Regions | undefined
  readonly processId: string
  /** Aborted when the process stops. */
  readonly stopping: AbortSignal
}

/** One execution of a fan-out's run in this process. */
interface Execution {
  readonly groupId: string
  readonly runId: string
  /** Whether rows of an earlier run or fan-out may wait, which a success ends. */
  readonly mayHaveRows: boolean
  readonly trigger: 0 | 1
  readonly retried: boolean
  readonly pairs: SentPairs
  /** Its requests may be on their way in another process, which lives. */
  readonly begunElsewhere: boolean
}

const HOLD_CHECK_MS = 100

/** Runs that nobody can have executed before: no row of theirs waits. */
const firstExecutions = new WeakSet<SentPairs>()

/** No endpoint's id is before it. */
const BEFORE_ALL = ''

/** Histories of fan-outs that are no other region's are as they always were. */
const toldOf = (elsewhere: readonly string[]) => (elsewhere.length === 0 ? {} : { elsewhere })

/** The two local activities of a fan-out's first attempts. */
export function createFirstAttempts(deps: FirstAttemptsDependencies) {
  return {
    /**
     * Routes a group and makes the first attempts of its next slice of deliveries. A group with few deliveries is only
     * routed: each endpoint's are an activity of their own.
     */
    async attemptFirst(input: FirstAttemptsInput): Promise<FirstAttemptsResult> {
      if (input.afterEndpointId === undefined) deps.recorder.forgetGroup(input.groupId)
      const messages = await readMessages(deps.pool, deps.messages, input.messageIds)
      const result = { delivered: 0, remaining: [], processId: deps.processId }
      const missing = input.messageIds.filter((id) => !messages.has(id))
      const absent = missing.length === 0 ? 0 : missing.length - (await readErased(deps.pool, missing)).size
      if (absent > 0) return { ...result, absent }
      const { here, elsewhere } = await divide(deps, input, await route(deps, input, messages))
      const isFirst = input.afterEndpointId === undefined
      const slice = cutSlice(here, input.afterEndpointId)
      const { nextAfterEndpointId } = slice
      const targets = await withoutQueued(deps, input, slice.targets)
      if (isFirst && nextAfterEndpointId === undefined && deliveriesTo(targets) <= LIMITS.activityPerEndpointMaxDeliveries) {
        deps.prefetch.routed(messages.size)
        return { ...result, planned: targets.map(toPlanned), ...toldOf(elsewhere) }
      }
      // Other regions are not kept waiting until many first attempts have been made: those begin in the next call.
      if (isFirst && elsewhere.length > 0) return { ...result, ...toldOf(elsewhere), nextAfterEndpointId: BEFORE_ALL }
      const execution = await beginExecution(deps, input)
      if (isFirst || input.afterEndpointId === BEFORE_ALL) deps.prefetch.routed(messages.size)
      return { ...(await sendAll(deps, execution, targets)), processId: deps.processId, nextAfterEndpointId }
    },

    /** Makes the first attempts of one endpoint's deliveries. */
    async deliver(input: EndpointDeliveriesInput): Promise<FirstAttemptsResult> {
      const read = await readMessages(deps.pool, deps.messages, input.messageIds)
      if (input.plannedForRunId !== undefined) {
        if (input.plannedForRunId !== activityInfo().workflowExecution!.runId || read.size < input.messageIds.length) {
          return { delivered: 0, remaining: [], processId: deps.processId, routeAnew: true }
        }
        deps.recorder.forgetGroup(input.groupId)
      }
      const messages = [...read.values()].filter(({ cancelled }) => input.plannedForRunId === undefined || cancelled !== true)
      const execution = await beginExecution(deps, input)
      if (input.plannedForRunId !== undefined) deps.prefetch.routed(read.size)
      const target = await targetOf(deps.configCache, input.endpointId, messages)
      const targets = await withoutQueued(deps, input, target === undefined ? [] : [target])
      return { ...(await sendAll(deps, execution, targets)), processId: execution.begunElsewhere ? input.begunBy! : deps.processId }
    },
  }
}

/**
 * Leaves the deliveries of endpoints that have a queue to their mailboxes. Most are in their queue since they were accepted. A
 * single attempt that somebody asks for goes at once.
 */
async function withoutQueued(
  deps: FirstAttemptsDependencies,
  input: FirstAttemptsInput | EndpointDeliveriesInput,
  all: readonly Target[],
): Promise<readonly Target[]> {
  const targets = input.trigger === TRIGGER_MANUAL ? all : all.map(withoutPlaced).filter(({ messages }) => messages.length > 0)
  if (!input.retried || !targets.some(({ endpoint }) => hasQueue(endpoint))) return targets
  const deliveries = targets.flatMap(({ endpoint, messages }) =>
    hasQueue(endpoint)
      ? messages.map(({ id, appId, orderingKey }) => ({ messageId: id, endpointId: endpoint.id, appId, orderingKey: orderingKey ?? null }))
      : [],
  )
  for (const wake of await enqueueDeliveries(deps.pool, deliveries, input)) deps.wakeMailbox(wake)
  return targets.filter(({ endpoint }) => !hasQueue(endpoint))
}

/**
 * Finds out what this run has sent already. A group that this process has just started has sent nothing; a run it knows is
 * in its memory; of any other Postgres is asked, because a worker that died may have executed it.
 */
async function beginExecution(deps: FirstAttemptsDependencies, input: FirstAttemptsInput | EndpointDeliveriesInput): Promise<Execution> {
  const runId = activityInfo().workflowExecution!.runId
  const expected = deps.runs.takeExpected(input.groupId)
  let pairs = deps.runs.get(runId)
  if (pairs === undefined) {
    const { messageIds, groupId, firstRunId } = input
    const isFirstRun = firstRunId === runId
    const recorded = expected ? [] : await readRecordedAttempts(deps.pool, { messageIds, groupId, runId, isFirstRun })
    pairs = deps.runs.get(runId) ?? deps.runs.begin(runId)
    if (expected) firstExecutions.add(pairs)
    for (const { messageId, endpointId, delivered } of recorded) {
      // A failed one goes on as its row in `delivery` says, which the endpoint's retrying activity reads.
      const known: Disposition = delivered ? { kind: 'delivered' } : { kind: 'retrying', nextAtMs: 0, reason: 'recorded' }
      pairs.set(messageId, endpointId, Promise.resolve(known))
    }
  }
  const mayHaveRows = !firstExecutions.has(pairs) || input.trigger === TRIGGER_MANUAL
  const begunBy = 'begunBy' in input ? input.begunBy : undefined
  const begunElsewhere = begunBy !== undefined && begunBy !== deps.processId
  return { groupId: input.groupId, runId, mayHaveRows, trigger: input.trigger, retried: input.retried, pairs, begunElsewhere }
}

async function sendAll(deps: FirstAttemptsDependencies, execution: Execution, targets: readonly Target[]) {
  const left = new Map<string, Left>()
  let delivered = 0
  const leave = (target: Target, message: StoredMessage, how: Continuation) => {
    const key = `${target.endpoint.id} ${how}`
    const priority = combine(message.priority ?? DEFAULT_PRIORITY, target.endpoint.priority)
    const known = left.get(key)
    if (known === undefined) {
      left.set(key, { endpoint: target.endpoint, how, messageIds: [message.id], priority })
    } else {
      known.messageIds.push(message.id)
      known.priority = higher(known.priority, priority)
    }
  }
  const slice = { holds: createHolds(), retriesAtMs: [], lost: Context.current().cancellationSignal }
  deps.inHand.begin(deliveriesTo(targets))
  deps.prefetch.begin(deliveriesTo(targets))
  // Who gets a few is not behind who gets many.
  const fewestFirst = [...targets].sort((a, b) => a.messages.length - b.messages.length)
  await Promise.all(
    fewestFirst.flatMap((target) =>
      target.messages.map(async (message) => {
        const waitsForEndpoint = deps.takesItsTime(target.endpoint.id)
        if (waitsForEndpoint) deps.inHand.handedOn(message.id)
        try {
          const result = await sendOne(deps, execution, target.endpoint, message, slice)
          if (result === 'delivered') delivered++
          else if (result !== 'ended') leave(target, message, result)
        } finally {
          const nowMs = Date.now()
          if (!waitsForEndpoint) deps.inHand.done(message.id, nowMs)
          deps.prefetch.ended(nowMs)
        }
      }),
    ),
  )
  slice.holds.stop()
  const remaining = [...left.values()].map((one) => toRemaining(one, deps.priorityWeights))
  return { delivered, remaining, ...lookAt(remaining, slice) }
}

/** One slice of deliveries on its way. */
interface Slice {
  readonly holds: Holds
  /** When what failed is due again, in Unix milliseconds. */
  readonly retriesAtMs: number[]
  /** Aborted when another process does it: this one stood still for so long that Temporal took it for dead. */
  readonly lost: AbortSignal
}

function lookAt(remaining: readonly Remaining[], { retriesAtMs }: Slice): Pick<FirstAttemptsResult, 'lookAtMs'> {
  const failed = remaining.filter(({ how }) => how === 'retry').length
  if (failed < LIMITS.failedLookedAtFrom || retriesAtMs.length === 0) return {}
  const nowMs = Date.now()
  const soonestAtMs = retriesAtMs.reduce((a, b) => Math.min(a, b))
  // Half of the wait is time for breakers to open, and half for the activities of the others, which are many too, to be scheduled.
  return { lookAtMs: Math.round(nowMs + (soonestAtMs - nowMs) / 2) }
}

/** What is left over of one endpoint goes on in one activity, as urgent as the most urgent of it. */
interface Left {
  readonly endpoint: CachedEndpoint
  readonly how: Continuation
  readonly messageIds: string[]
  priority: Priority
}

function toRemaining({ endpoint, how, messageIds, priority }: Left, weights: PriorityWeights): Remaining {
  const turn = { fairnessKey: lineOf(endpoint.appId, priority), fairnessWeight: weights[priority] }
  return { endpointId: endpoint.id, host: endpoint.host, how, messageIds, turn }
}

async function sendOne(
  deps: FirstAttemptsDependencies,
  execution: Execution,
  endpoint: CachedEndpoint,
  message: StoredMessage,
  { holds, retriesAtMs, lost }: Slice,
): Promise<'delivered' | 'ended' | Continuation> {
  const known = execution.pairs.get(message.id, endpoint.id)
  if (known !== undefined) return continuationOf(await known)
  if (execution.begunElsewhere) return 'attach'
  const attempt: AttemptInput = {
    message,
    endpoint,
    lane: 'fast',
    groupId: execution.groupId,
    runId: execution.runId,
    attemptsBefore: 0,
    hadRow: execution.mayHaveRows,
    trigger: execution.trigger,
    retried: execution.retried,
    signal: deps.stopping,
    lost,
  }
  const begun = deps.begun.take(execution, message.id, endpoint.id)
  const sending = (begun === undefined ? undefined : await begun) ?? (await deps.sendFast(attempt))
  if (sending === 'busy') return 'fast'
  if (sending === 'slow') {
    if (!deps.endpointRuns.isFull('slow', endpoint.id)) return 'slow'
    // Its activity would do no more, at the price of one.
    const parking = leaveToMailbox(deps.recorder, attempt, Date.now())
    execution.pairs.set(message.id, endpoint.id, parking)
    return continuationOf(await parking)
  }
  execution.pairs.set(message.id, endpoint.id, sending.done)
  const disposition = await holds.hold(sending.sentAtMs, sending.done)
  if (disposition !== 'held too long') {
    if (disposition.kind === 'delivered') execution.pairs.delivered(message.id, endpoint.id)
    if (disposition.kind === 'retrying') retriesAtMs.push(disposition.nextAtMs)
    return continuationOf(disposition)
  }
  sending.detach()
  deps.inFlight.add(execution.runId, `${message.id} ${endpoint.id}`, sending.done)
  return 'attach'
}

function continuationOf(disposition: Disposition): 'delivered' | 'ended' | 'retry' {
  switch (disposition.kind) {
    case 'delivered':
      return 'delivered'
    case 'retrying':
    case 'interrupted':
      return 'retry'
    case 'parked':
    case 'ended':
      return 'ended'
  }
}

/** Waits for requests, but for each no longer than a second: one timer for all of them, and none while all answer in time. */
interface Holds {
  hold(sentAtMs: number, done: Promise<Disposition>): Promise<Disposition | 'held too long'>
  stop(): void
}

function createHolds(): Holds {
  const held = new Set<{ readonly sentAtMs: number; letGo: () => void }>()
  const check = () => {
    const before = Date.now() - LIMITS.firstAttemptHoldMs
    for (const one of held) {
      if (one.sentAtMs > before) continue
      held.delete(one)
      one.letGo()
    }
  }
  let interval: NodeJS.Timeout | undefined
  const timer = setTimeout(() => {
    check()
    interval = setInterval(check, HOLD_CHECK_MS)
  }, LIMITS.firstAttemptHoldMs)
  return {
    hold: (sentAtMs, done) =>
      new Promise((resolve, reject) => {
        const one = { sentAtMs, letGo: () => resolve('held too long') }
        held.add(one)
        done.then(
          (disposition) => {
            held.delete(one)
            resolve(disposition)
          },
          (error: unknown) => {
            held.delete(one)
            reject(error)
          },
        )
      }),
    stop() {
      clearTimeout(timer)
      clearInterval(interval)
    },
  }
}
