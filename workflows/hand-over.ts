import { ActivityFailure, ApplicationFailure, proxyActivities, proxyLocalActivities } from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import type { Remaining } from '../domain/fan-out.ts'
import type { HandOverInput, HandOverResult } from '../domain/handover.ts'
import { handOverTaskQueue } from '../domain/names.ts'

const { handOver: handOverNow } = proxyLocalActivities<Activities>({
  startToCloseTimeout: '1m',
  localRetryThreshold: '10s',
  retry: { initialInterval: '200ms', maximumInterval: '5s' },
})

/**
 * Hands the group's deliveries of one region to it: at once in a local activity, and where the region does not answer soon in
 * one that the server retries.
 * @param follow goes on with what the region does not take
 */
export async function handOverTo(one: HandOverInput, follow: (remaining: readonly Remaining[]) => Promise<void>): Promise<void> {
  let result = await handOverNow(one)
  if (result.waits !== undefined) result = await handOverWhenItAnswers(one)
  for (;;) {
    await follow(result.here)
    if (result.afterEndpointId === undefined) return
    result = await handOverNow({ ...one, afterEndpointId: result.afterEndpointId })
  }
}

async function handOverWhenItAnswers(one: HandOverInput): Promise<HandOverResult> {
  const { handOver } = proxyActivities<Activities>({
    taskQueue: handOverTaskQueue(one.region),
    activityId: `hand-over/${one.region}`,
    summary: one.region,
    startToCloseTimeout: '10m',
    heartbeatTimeout: '10s',
    retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '30s' },
  })
  try {
    const result: unknown = await handOver(one)
    if (isResult(result)) return result
  } catch (error) {
    if (!(error instanceof ActivityFailure) || !(error.cause instanceof ApplicationFailure)) throw error
  }
  // An operator has completed or failed it by hand: nobody waits for the region any more.
  return handOverNow({ ...one, giveUp: true })
}

function isResult(result: unknown): result is HandOverResult {
  return typeof result === 'object' && result !== null && 'here' in result
}
