import type { ReplayPage, ReplayPageInput } from '../domain/fan-out.ts'
import type { TaskInput, TaskStep } from '../domain/task.ts'
import { advanceTask, readTaskInput, type TaskName } from '../storage/background-tasks.ts'
import { eraseSomeEverywhere, type ArchiveEraser } from '../storage/archive/erasure-task.ts'
import { broadcastSome } from '../storage/broadcast.ts'
import type { Configuration } from '../storage/configuration.ts'
import { eraseSome, type ErasureInput } from '../storage/erasure.ts'
import { redriveSome } from '../storage/history/dead-letters.ts'
import type { Pool } from '../storage/pool.ts'
import { enqueueReplayPage } from '../storage/replay.ts'
import { reconcileSome, type ReconcileDependencies } from './reconcile.ts'

/** A step goes on with further batches this long, so that a large task is not mostly history. */
const STEP_MS = 5000

type Step = (pool: Pool, taskId: string, input: never) => Promise<TaskStep>

/** One bounded batch of the kinds of task that need Postgres alone. */
const BATCHES: Partial<Record<TaskName, Step>> = {
  'dead-letter.redrive': redriveSome,
  'message.broadcast': broadcastSome,
}

export interface TaskDependencies extends ReconcileDependencies {
  readonly configuration: Configuration
  /** Undefined where nothing is archived. */
  readonly archiver?: ArchiveEraser | undefined
}

/** Activities of background tasks. */
export function createTasks(deps: TaskDependencies) {
  const { pool, configuration, archiver } = deps
  const erase = (_pool: Pool, taskId: string, input: ErasureInput) =>
    archiver === undefined
      ? eraseSome(pool, taskId, input, { configuration })
      : eraseSomeEverywhere(pool, taskId, input, { configuration, archive: archiver })
  /** One bounded batch of each kind of task that the workflow `task` carries; replays have a workflow of their own. */
  const batches: Partial<Record<TaskName, Step>> = {
    ...BATCHES,
    'application.erase': erase,
    'deliveries.reconcile': (_pool, taskId, input) => reconcileSome(deps, taskId, input),
  }
  return {
    enqueueReplay: (input: ReplayPageInput): Promise<ReplayPage> => enqueueReplayPage(pool, input),

    /** An operator has cancelled the task's workflow. */
    cancelTask: (input: TaskInput): Promise<void> => advanceTask(pool, input.taskId, {}, 'cancelled'),

    /** Does some of a task, each batch in one transaction with the task's progress. A task that does not exist is done. */
    async stepTask({ taskId }: TaskInput): Promise<TaskStep> {
      const task = await readTaskInput(pool, taskId)
      const batch = task === undefined ? undefined : batches[task.task]
      if (task === undefined || batch === undefined) return { done: true }
      const untilMs = Date.now() + STEP_MS
      for (;;) {
        const step = await batch(pool, taskId, task.input as never)
        if (step.done || step.waitMs !== undefined || Date.now() > untilMs) return step
      }
    },
  }
}
