import { setTimeout as pause } from 'node:timers/promises'
import { ScheduleAlreadyRunning, ScheduleOverlapPolicy, type Client } from '@temporalio/client'
import type { Logger } from 'pino'
import { FAN_OUT_TASK_QUEUE, RETENTION_SCHEDULE_ID, RETENTION_WORKFLOW_ID } from '../domain/names.ts'

const EVERY = '1h'
/** A run that was missed, because Temporal was away, is made up for within this time. */
const CATCH_UP_WITHIN = '1h'
const AGAIN_AFTER_MS = 30_000
const DEADLINE_MS = 10_000

/**
 * Sees to it that the namespace has the schedule that runs the retention every hour. One that is there is left as it is: operators
 * pause it, or have it run at other times, in the Web UI. While Temporal cannot be reached it is tried again.
 */
export function keepRetentionSchedule({ client, log }: { readonly client: Client; readonly log: Logger }): { stop(): Promise<void> } {
  const stop = new AbortController()
  const keep = async () => {
    for (let told = false; !stop.signal.aborted; told = true) {
      try {
        return await createSchedule(client)
      } catch (error) {
        if (!told) log.warn({ err: error }, 'retention-schedule.not-made')
        await pause(AGAIN_AFTER_MS, undefined, { signal: stop.signal }).catch(() => undefined)
      }
    }
  }
  const keeping = keep()
  return {
    async stop() {
      stop.abort()
      await keeping
    },
  }
}

async function createSchedule(client: Client): Promise<void> {
  try {
    await client.connection.withDeadline(Date.now() + DEADLINE_MS, () =>
      client.schedule.create({
        scheduleId: RETENTION_SCHEDULE_ID,
        spec: { intervals: [{ every: EVERY }], jitter: '5m' },
        policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: CATCH_UP_WITHIN },
        action: {
          type: 'startWorkflow',
          workflowType: 'retention',
          workflowId: RETENTION_WORKFLOW_ID,
          taskQueue: FAN_OUT_TASK_QUEUE,
          args: [{}],
          staticSummary: 'keeps message data as long as it is to be kept',
        },
      }),
    )
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error
  }
}
