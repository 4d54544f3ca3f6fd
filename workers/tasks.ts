import { setTimeout as pause } from 'node:timers/promises'
import { WorkflowExecutionAlreadyStartedError, type Client } from '@temporalio/client'
import type { Logger } from 'pino'
import type { LaunchTask } from '../api/dependencies.ts'
import { FAN_OUT_TASK_QUEUE, replayWorkflowId, taskWorkflowId } from '../domain/names.ts'
import { markTaskStarted, unstartedTasks, type TaskName, type TaskRequest } from '../storage/background-tasks.ts'
import type { Pool } from '../storage/pool.ts'

const SWEEP_EVERY_MS = 5000
const UNSTARTED_AFTER_MS = 5000
const TASKS_PER_SWEEP = 100
const START_DEADLINE_MS = 5000

const WORKFLOW_OF = {
  'endpoint.recover': 'replay',
  'endpoint.replay': 'replay',
  'endpoint.bulk-replay': 'replay',
  'message.broadcast': 'task',
  'dead-letter.redrive': 'task',
  'application.erase': 'task',
  'deliveries.reconcile': 'task',
} as const satisfies Record<TaskName, 'replay' | 'task'>

export interface TaskDependencies {
  readonly client: Client
  readonly pool: Pool
  readonly log: Logger
}

/** Starts the workflow of a registered task. Where Temporal cannot be reached the sweep does it later. */
export function createLaunchTask(deps: TaskDependencies): LaunchTask {
  return async (task) => {
    try {
      await start(deps, task)
    } catch (error) {
      deps.log.warn({ taskId: task.id, err: error }, 'task.not-started')
    }
  }
}

async function start({ client, pool }: TaskDependencies, { id, task, input }: TaskRequest): Promise<void> {
  const replays = WORKFLOW_OF[task] === 'replay'
  try {
    await client.connection.withDeadline(Date.now() + START_DEADLINE_MS, () =>
      client.workflow.start(WORKFLOW_OF[task], {
        workflowId: replays ? replayWorkflowId(id) : taskWorkflowId(id),
        taskQueue: FAN_OUT_TASK_QUEUE,
        args: [replays ? { ...input, taskId: id } : { taskId: id }],
        workflowIdReusePolicy: 'REJECT_DUPLICATE',
        staticSummary: task,
      }),
    )
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error
  }
  await markTaskStarted(pool, id)
}

/** Starts tasks whose process died, or did not reach Temporal, between registering and starting them. */
export function startTaskSweep(deps: TaskDependencies): { stop(): Promise<void> } {
  const stop = new AbortController()
  const sweep = async () => {
    while (!stop.signal.aborted) {
      await pause(SWEEP_EVERY_MS, undefined, { signal: stop.signal }).catch(() => undefined)
      if (stop.signal.aborted) return
      try {
        for (const task of await unstartedTasks(deps.pool, UNSTARTED_AFTER_MS, TASKS_PER_SWEEP)) await start(deps, task)
      } catch (error) {
        deps.log.warn({ err: error }, 'task-sweep.failed')
      }
    }
  }
  const sweeping = sweep()
  return {
    async stop() {
      stop.abort()
      await sweeping
    },
  }
}
