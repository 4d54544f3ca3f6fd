import {
  ApplicationFailure,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  patched,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  sleep,
  workflowInfo,
} from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import type { ReplayInput, ReplayProgress } from '../domain/fan-out.ts'
import { REPLAY_STATUSES } from '../domain/message.ts'

export const pause = defineSignal('pause')
export const resume = defineSignal('resume')
export const cancel = defineSignal('cancel')
export const progress = defineQuery<ReplayProgress>('progress')

const DEFAULT_RATE_PER_SECOND = 100
const MAX_RATE_PER_SECOND = 1000
const MESSAGES_PER_PAGE = 100

const { enqueueReplay, cancelTask } = proxyActivities<Activities>({
  startToCloseTimeout: '1m',
  retry: { initialInterval: '1s', maximumInterval: '30s' },
})

/** Sends the messages of a time range again, at a bounded rate, through the outbox. */
export async function replay(input: ReplayInput): Promise<ReplayProgress> {
  const request = checked(input)
  let now: ReplayProgress = input.progress ?? { state: 'running', deliveries: 0 }
  const change = (changes: Partial<ReplayProgress>) => {
    now = { ...now, ...changes }
    setCurrentDetails(`${now.state}: ${now.deliveries} deliveries put into the outbox, last message ${now.afterMessageId ?? 'none yet'}`)
  }
  const isRunning = () => now.state === 'running'
  setHandler(progress, () => now)
  setHandler(pause, () => void (isRunning() && change({ state: 'paused' })))
  setHandler(resume, () => void (now.state === 'paused' && change({ state: 'running' })))
  setHandler(cancel, () => change({ state: 'cancelled' }))

  const rate = input.ratePerSecond ?? DEFAULT_RATE_PER_SECOND
  const limit = Math.min(MESSAGES_PER_PAGE, rate)
  for (;;) {
    await condition(() => now.state !== 'paused')
    if (!isRunning()) {
      if (patched('cancelled-task')) await cancelTask({ taskId: request.taskId })
      return now
    }
    const page = await enqueueReplay({ request, afterMessageId: now.afterMessageId, limit })
    if (page.afterMessageId === undefined) {
      if (isRunning()) change({ state: 'completed' })
      return now
    }
    change({ deliveries: now.deliveries + page.deliveries, afterMessageId: page.afterMessageId })
    await sleep((page.deliveries / rate) * 1000)
    if (workflowInfo().continueAsNewSuggested) await continueAsNew<typeof replay>({ ...request, progress: now })
  }
}

/**
 * Operators start replays by hand, so the input is checked here. A replay without a task id is known by its first run.
 * @throws {ApplicationFailure} that names what is wrong, and ends the workflow
 */
function checked(input: ReplayInput): ReplayInput & { readonly taskId: string } {
  const problems: string[] = []
  if (typeof input.applicationId !== 'string') problems.push('applicationId must be an application id')
  for (const field of ['since', 'until'] as const) {
    if (Number.isNaN(Date.parse(input[field]))) problems.push(`${field} must be a time such as 2026-11-23T00:00:00Z`)
  }
  if (input.status !== undefined && !REPLAY_STATUSES.includes(input.status))
    problems.push(`status must be one of ${REPLAY_STATUSES.join(', ')}`)
  const rate = input.ratePerSecond ?? DEFAULT_RATE_PER_SECOND
  if (!(rate >= 1 && rate <= MAX_RATE_PER_SECOND)) problems.push(`ratePerSecond must be 1 to ${MAX_RATE_PER_SECOND}`)
  if (problems.length > 0) throw ApplicationFailure.nonRetryable(problems.join('; '), 'InvalidReplay')
  return { ...input, taskId: input.taskId ?? `${workflowInfo().workflowId}/${workflowInfo().runId}` }
}
