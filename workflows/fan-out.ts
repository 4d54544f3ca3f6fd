import {
  ActivityFailure,
  ApplicationFailure,
  ParentClosePolicy,
  proxyActivities,
  proxyLocalActivities,
  sleep,
  startChild,
  workflowInfo,
} from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import type { FanOutInput, FanOutResult, FirstAttemptsResult, PlannedEndpoint, Remaining } from '../domain/fan-out.ts'
import { LIMITS } from '../domain/limits.ts'
import { attachTaskQueue, deliverTaskQueue, fanOutWorkflowId, partitionOf, type Lane } from '../domain/names.ts'
import { handOverTo } from './hand-over.ts'

// Timeouts and kills are retried by the policy; failed deliveries say themselves when they are due (nextRetryDelay).
const RETRY = { initialInterval: '1s', backoffCoefficient: 1 } as const

/** Events of a history whose first task is at work: started, scheduled, begun. */
const FIRST_TASK_LENGTH = 3

const ABSENT_FIRST_WAIT_MS = 1000
const ABSENT_LONGEST_WAIT_MS = 60_000

const { attemptFirst, holdBack, skipDeliveries, deadLetter } = proxyLocalActivities<Activities>({
  startToCloseTimeout: '2m',
  localRetryThreshold: '10s',
  retry: { initialInterval: '200ms', maximumInterval: '5s' },
})

/**
 * Delivers a group of messages to every endpoint that takes them. First attempts are local activities of the worker that
 * has the task; what they leave over goes on as one activity per endpoint.
 */
export async function fanOut(input: FanOutInput): Promise<FanOutResult> {
  const state = { delivered: 0, parts: 0, pending: 0, continued: 0 }
  const following: Promise<void>[] = []
  const follow = async (processId: string, remaining: readonly Remaining[]) => {
    for (const chunk of chunks(byEndpoint(remaining), LIMITS.pendingActivitiesPerWorkflow)) {
      state.continued += chunk.length
      if (state.pending + chunk.length > LIMITS.pendingActivitiesPerWorkflow) {
        await startPart(input, ++state.parts, processId, chunk.flat())
        continue
      }
      state.pending += chunk.length
      following.push(...chunk.map((endpoint) => followEndpoint(input, processId, endpoint)))
    }
  }
  const handOver = (region: string) => {
    following.push(handOverTo({ groupId: input.groupId, region }, (remaining) => follow('', remaining)))
  }
  if (input.remaining === undefined) {
    let afterEndpointId: string | undefined
    do {
      const slice = await firstAttempts(input, afterEndpointId, handOver)
      state.delivered += slice.delivered
      const { now, later } = lookedAt(slice)
      if (later.length > 0) following.push(notHeldBack(input, later, slice.lookAtMs!).then((left) => follow(slice.processId, left)))
      await follow(slice.processId, now)
      afterEndpointId = slice.nextAfterEndpointId
    } while (afterEndpointId !== undefined)
  } else {
    await follow(input.sentBy?.processId ?? '', input.remaining)
  }
  // What is looked at later adds to it.
  for (let followed = 0; followed < following.length;) {
    followed = following.length
    await Promise.all(following)
  }
  return { messages: input.messageIds.length, deliveredAtFirst: state.delivered, continued: state.continued }
}

/**
 * One slice of first attempts; waits where rows are not in this database yet (a region's replica that lags).
 * @param handOver begins to hand over what is another region's, beside the first attempts
 */
async function firstAttempts(
  input: FanOutInput,
  afterEndpointId: string | undefined,
  handOver: (region: string) => void,
): Promise<FirstAttemptsResult> {
  const { groupId, messageIds, endpointId, trigger, retried, planned } = input
  const { firstExecutionRunId } = workflowInfo()
  if (planned !== undefined && afterEndpointId === undefined) {
    const results = await Promise.all(planned.map((one) => deliverPlanned(input, one, firstExecutionRunId)))
    if (!results.some(({ routeAnew }) => routeAnew)) return mergePlanned(results)
  }
  let waitMs = ABSENT_FIRST_WAIT_MS
  for (;;) {
    const slice = await attemptFirst({
      groupId,
      messageIds,
      endpointId,
      trigger,
      retried,
      afterEndpointId,
      firstRunId: firstExecutionRunId,
    })
    slice.elsewhere?.forEach(handOver)
    if (slice.planned !== undefined) {
      const results = await Promise.all(slice.planned.map((one) => deliverPlanned(input, one)))
      return { ...mergePlanned(results), processId: results[0]?.processId ?? slice.processId }
    }
    if (slice.absent === undefined) return slice
    await sleep(waitMs)
    waitMs = Math.min(waitMs * 2, ABSENT_LONGEST_WAIT_MS)
  }
}

function deliverPlanned(input: FanOutInput, planned: PlannedEndpoint, plannedForRunId?: string): Promise<FirstAttemptsResult> {
  const { deliver } = proxyLocalActivities<Activities>({
    startToCloseTimeout: '2m',
    localRetryThreshold: '10s',
    retry: { initialInterval: '200ms', maximumInterval: '5s' },
    summary: planned.host,
  })
  const { endpointId, messageIds } = planned
  const { firstExecutionRunId, historyLength } = workflowInfo()
  const asPlanned = plannedForRunId === undefined ? {} : { plannedForRunId }
  // Where an earlier task was lost, what was begun is recorded by now, or lost with its process.
  const begun = plannedForRunId === undefined || historyLength > FIRST_TASK_LENGTH ? {} : { begunBy: input.begunBy }
  return deliver({ ...deliveries(input), endpointId, messageIds, firstRunId: firstExecutionRunId, ...asPlanned, ...begun })
}

function mergePlanned(results: readonly FirstAttemptsResult[]): FirstAttemptsResult {
  return {
    processId: results[0]?.processId ?? '',
    delivered: results.reduce((sum, result) => sum + result.delivered, 0),
    remaining: results.flatMap((result) => result.remaining),
  }
}

/** Where many endpoints failed, those that only failed are looked at before their first retry. */
function lookedAt({ remaining, lookAtMs }: FirstAttemptsResult): { now: readonly Remaining[]; later: readonly Remaining[] } {
  if (lookAtMs === undefined) return { now: remaining, later: [] }
  const others = new Set(remaining.filter(({ how }) => how !== 'retry').map(({ endpointId }) => endpointId))
  const isLater = ({ endpointId }: Remaining) => !others.has(endpointId)
  return { now: remaining.filter((one) => !isLater(one)), later: remaining.filter(isLater) }
}

/** Waits for half of the time to the first retry. @returns what is still to be retried here: the rest has been parked */
async function notHeldBack(input: FanOutInput, remaining: readonly Remaining[], lookAtMs: number): Promise<Remaining[]> {
  const waitMs = lookAtMs - Date.now()
  if (waitMs > 0) await sleep(waitMs)
  const endpoints = remaining.map(({ endpointId, messageIds }) => ({ endpointId, messageIds }))
  const held = new Set(await holdBack({ groupId: input.groupId, endpoints }))
  return remaining.filter(({ endpointId }) => !held.has(endpointId))
}

/** Sees one endpoint's deliveries to their end: delivered, dead-lettered, or parked in its mailbox. */
async function followEndpoint(input: FanOutInput, processId: string, remaining: readonly Remaining[]): Promise<void> {
  const attached = remaining.find((one) => one.how === 'attach')
  const others = remaining.filter((one) => one.how !== 'attach')
  const attaching = attached === undefined ? undefined : attach(input, processId, attached)
  for (const one of others) await redeliver(input, one)
  const left = await attaching
  if (left !== undefined && left.messageIds.length > 0) await redeliver(input, left)
}

/** Waits for requests in flight in the process that sent them; where it is gone, the slow lane takes over. */
async function attach(input: FanOutInput, processId: string, remaining: Remaining): Promise<Remaining> {
  const { attachToRequests } = proxyActivities<Activities>({
    taskQueue: attachTaskQueue(processId),
    activityId: `${remaining.endpointId}/attach`,
    summary: remaining.host,
    scheduleToStartTimeout: '10s',
    startToCloseTimeout: '5m',
    heartbeatTimeout: '10s',
    retry: { maximumAttempts: 1 },
  })
  try {
    const { endpointId, messageIds: sent } = remaining
    const messageIds = await attachToRequests({ ...deliveries(input), endpointId, messageIds: sent })
    return { ...remaining, how: 'retry', messageIds }
  } catch (error) {
    if (error instanceof ActivityFailure) return { ...remaining, how: 'slow' }
    throw error
  }
}

const LANE_OF = { retry: 'retry', fast: 'fast', slow: 'slow', attach: 'slow' } as const satisfies Record<Remaining['how'], Lane>

async function redeliver(input: FanOutInput, remaining: Remaining): Promise<void> {
  const { endpointId, messageIds } = remaining
  const lane = LANE_OF[remaining.how]
  const activities = proxyActivities<Activities>({
    taskQueue: deliverTaskQueue(lane, partitionOf(endpointId, input.partitions)),
    activityId: endpointId,
    summary: remaining.host,
    startToCloseTimeout: '15m',
    heartbeatTimeout: '10s',
    retry: RETRY,
    priority: remaining.turn ?? { fairnessKey: endpointId },
  })
  const one = { ...deliveries(input), endpointId, messageIds }
  try {
    const result: unknown = await activities.redeliver({ ...one, lane })
    // An operator completed it by hand.
    if (result !== 'done') await skipDeliveries(one)
  } catch (error) {
    if (!(error instanceof ActivityFailure) || !(error.cause instanceof ApplicationFailure)) throw error
    await deadLetter(one)
  }
}

function deliveries(input: FanOutInput) {
  // A part goes on with what the run it came from has sent and recorded.
  return { groupId: input.groupId, trigger: input.trigger, retried: input.retried, sentInRunId: input.sentBy?.runId }
}

/** More endpoints than one workflow may have pending go on in a workflow of their own. */
async function startPart(input: FanOutInput, part: number, processId: string, remaining: readonly Remaining[]): Promise<void> {
  const messageIds = [...new Set(remaining.flatMap((one) => one.messageIds))]
  await startChild('fanOut', {
    workflowId: fanOutWorkflowId(input.groupId, part),
    args: [{ ...input, messageIds, remaining, sentBy: { processId, runId: workflowInfo().runId } }],
    parentClosePolicy: ParentClosePolicy.ABANDON,
    typedSearchAttributes: workflowInfo().typedSearchAttributes,
  })
}

function byEndpoint(remaining: readonly Remaining[]): Remaining[][] {
  const endpoints = new Map<string, Remaining[]>()
  for (const one of remaining) {
    const known = endpoints.get(one.endpointId)
    if (known === undefined) endpoints.set(one.endpointId, [one])
    else known.push(one)
  }
  return [...endpoints.values()]
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size))
}
