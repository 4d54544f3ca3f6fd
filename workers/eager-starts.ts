import { setTimeout as pause } from 'node:timers/promises'
import type { Client } from '@temporalio/client'
import type { Logger } from 'pino'
import type { WorkerVersion } from '../config/temporal.ts'
import { FAN_OUT_TASK_QUEUE } from '../domain/names.ts'

/** Whether a start may bring its first task along to this process, past the task queue and its routing. */
export interface EagerStarts {
  readonly allowed: boolean
  stop(): Promise<void>
}

const LOOK_EVERY_MS = 5000
const LOOK_DEADLINE_MS = 5000
const WORKFLOW_TASKS = 1

/**
 * The server gives an eager start to whoever asks. A fan-out stays with the version that has begun it, so an old version
 * that asked would never be drained, and a ramp would not be one: only the version that all new work goes to asks.
 * @param version undefined: this process is of no version, and always asks
 */
export function watchEagerStarts(
  deps: { client: Client; namespace: string; log: Logger },
  version: WorkerVersion | undefined,
): EagerStarts {
  if (version === undefined) return { allowed: true, stop: () => Promise.resolve() }
  const { client, namespace, log } = deps
  const stop = new AbortController()
  let allowed = false

  const look = async () => {
    const { versioningInfo } = await client.connection.withDeadline(Date.now() + LOOK_DEADLINE_MS, () =>
      client.workflowService.describeTaskQueue({ namespace, taskQueue: { name: FAN_OUT_TASK_QUEUE }, taskQueueType: WORKFLOW_TASKS }),
    )
    const current = versioningInfo?.currentDeploymentVersion
    const isCurrent = current?.deploymentName === version.deploymentName && current.buildId === version.buildId
    allowed = isCurrent && !versioningInfo?.rampingDeploymentVersion
  }
  const watch = async () => {
    while (!stop.signal.aborted) {
      await look().catch((error: unknown) => log.warn({ err: error }, 'version.not-looked-up'))
      await pause(LOOK_EVERY_MS, undefined, { signal: stop.signal }).catch(() => undefined)
    }
  }
  const watching = watch()
  return {
    get allowed() {
      return allowed
    },
    async stop() {
      stop.abort()
      await watching
    },
  }
}
