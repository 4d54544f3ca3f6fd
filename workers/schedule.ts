import { setTimeout as pause } from 'node:timers/promises'
import type { Client } from '@temporalio/client'
import type { Logger } from 'pino'
import { FAN_OUT_TASK_QUEUE, SCHEDULE_WORKFLOW_ID } from '../domain/names.ts'
import type { Pool } from '../storage/pool.ts'
import { overdueSchedule } from '../storage/scheduled.ts'

export interface Schedule {
  /** Wakes the schedule's workflow, starting it where it does not run. A wake that fails is made good by the sweep. */
  wake(wakeAtMs: number): void
  stop(): Promise<void>
}

const SWEEP_EVERY_MS = 5000
const OVERDUE_AFTER_MS = 5000
const SIGNAL_DEADLINE_MS = 5000

export interface ScheduleDependencies {
  readonly client: Client
  readonly pool: Pool
  readonly log: Logger
}

/** @param sweep whether this process looks for wakes that were lost */
export function createSchedule({ client, pool, log }: ScheduleDependencies, { sweep }: { sweep: boolean }): Schedule {
  const stop = new AbortController()
  const signal = (wakeAtMs: number) =>
    client.connection.withDeadline(Date.now() + SIGNAL_DEADLINE_MS, () =>
      client.workflow.signalWithStart('schedule', {
        workflowId: SCHEDULE_WORKFLOW_ID,
        taskQueue: FAN_OUT_TASK_QUEUE,
        args: [{ wakeAtMs }],
        signal: 'wake',
        signalArgs: [{ wakeAtMs }],
        staticSummary: 'messages that wait for their time',
      }),
    )
  const look = async () => {
    while (!stop.signal.aborted) {
      await pause(SWEEP_EVERY_MS, undefined, { signal: stop.signal }).catch(() => undefined)
      if (stop.signal.aborted) return
      try {
        const overdueAtMs = await overdueSchedule(pool, OVERDUE_AFTER_MS)
        if (overdueAtMs !== undefined) await signal(overdueAtMs)
      } catch (error) {
        log.warn({ err: error }, 'schedule-sweep.failed')
      }
    }
  }
  const looking = sweep ? look() : Promise.resolve()
  return {
    wake(wakeAtMs) {
      signal(wakeAtMs).catch((error: unknown) => log.warn({ err: error }, 'schedule.not-woken'))
    },
    async stop() {
      stop.abort()
      await looking
    },
  }
}
