import { activityInfo, Context } from '@temporalio/activity'
import type { EndpointDeliveriesInput } from '../domain/fan-out.ts'
import type { Disposition } from './attempt.ts'
import type { BegunAttempts } from './begun-attempts.ts'
import type { InFlight } from './in-flight.ts'

const HEARTBEAT_MS = 1000

/** Activities on the task queue of the one process that has the requests. */
export function createAttached(deps: { inFlight: InFlight; begun: Pick<BegunAttempts, 'take'> }) {
  const find = async (groupId: string, runId: string, messageId: string, endpointId: string): Promise<Disposition | undefined> => {
    const inFlight = deps.inFlight.find(runId, `${messageId} ${endpointId}`)
    if (inFlight !== undefined) return inFlight
    const begun = await deps.begun.take({ groupId, runId }, messageId, endpointId)
    return typeof begun === 'object' ? begun.done : undefined
  }
  return {
    /**
     * Waits for requests that outlived their local activity, or were begun here with the start of a fan-out whose first task
     * another process has.
     * @returns ids of the messages that have to be sent (again) by another activity
     */
    async attachToRequests(input: EndpointDeliveriesInput): Promise<string[]> {
      const runId = input.sentInRunId ?? activityInfo().workflowExecution!.runId
      const beat = setInterval(() => Context.current().heartbeat(), HEARTBEAT_MS)
      try {
        const open = await Promise.all(
          input.messageIds.map(async (messageId) => {
            const disposition = await find(input.groupId, runId, messageId, input.endpointId)
            const over = disposition !== undefined && disposition.kind !== 'retrying' && disposition.kind !== 'interrupted'
            return over ? [] : [messageId]
          }),
        )
        return open.flat()
      } finally {
        clearInterval(beat)
      }
    },
  }
}
