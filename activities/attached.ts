import { activityInfo, Context } from '@temporalio/activity'
import type { EndpointDeliveriesInput } from '../domain/fan-out.ts'
import type { InFlight } from './in-flight.ts'

const HEARTBEAT_MS = 1000

/** Activities on the task queue of the one process that has the requests. */
export function createAttached(deps: { inFlight: InFlight }) {
  return {
    /**
     * Waits for requests that outlived their local activity.
     * @returns ids of the messages that have to be sent (again) by another activity
     */
    async attachToRequests(input: EndpointDeliveriesInput): Promise<string[]> {
      const runId = input.sentInRunId ?? activityInfo().workflowExecution!.runId
      const beat = setInterval(() => Context.current().heartbeat(), HEARTBEAT_MS)
      try {
        const open = await Promise.all(
          input.messageIds.map(async (messageId) => {
            const disposition = await deps.inFlight.find(runId, `${messageId} ${input.endpointId}`)
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
