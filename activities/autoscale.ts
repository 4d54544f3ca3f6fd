import { ApplicationFailure } from '@temporalio/common'
import type { Logger } from 'pino'
import type { KeptDecision } from '../domain/autoscale.ts'
import type { MissingSample, ScalingSample, ScalingTarget } from '../domain/scaling.ts'
import type { Pool } from '../storage/pool.ts'
import { keepDecision, keepSample, readWaiting } from '../storage/scaling.ts'
import { readFleet } from '../storage/workers.ts'

/** Tasks that wait in the task queues of deliveries. */
export interface Backlog {
  readonly tasks: number
  /** Of the oldest; 0 where none waits. */
  readonly oldestMs: number
}

export interface AutoscaleDependencies {
  readonly pool: Pool
  /** Name of the pool of workers. */
  readonly poolName: string
  readonly target: ScalingTarget
  readonly readBacklog: () => Promise<Backlog>
  readonly log: Logger
}

/** What the workflow `autoscale` asks for. */
export function createAutoscaleActivities(deps: AutoscaleDependencies) {
  const { pool, poolName, target, log } = deps
  /** Names which part could not be asked: that is what operators can mend. What exactly went wrong is in the log. */
  const asked = async <T>(part: string, answer: Promise<T>): Promise<T> => {
    try {
      return await answer
    } catch (error) {
      log.warn({ part, err: error }, 'autoscale.not-sampled')
      throw new Error(`${part} could not be asked`, { cause: error })
    }
  }
  const failed = (what: string, error: unknown): ApplicationFailure => {
    log.error({ err: error }, 'autoscale.failed')
    const failure = ApplicationFailure.retryable(what, 'Fault')
    failure.stack = ''
    return failure
  }
  return {
    /** Looks at target, queues and workers, and keeps what it saw. It does not fail: what could not be seen is said. */
    async sampleFleet(): Promise<ScalingSample | MissingSample> {
      const atMs = Date.now()
      try {
        const [{ wanted, ready }, waiting, fleet, backlog] = await Promise.all([
          asked(`the target ${target.name}`, target.read()),
          asked('Postgres', readWaiting(pool)),
          asked('Postgres', readFleet(pool)),
          asked('Temporal', deps.readBacklog()),
        ])
        const depth = waiting.depth + backlog.tasks
        const oldestMs = Math.max(waiting.oldestMs, backlog.oldestMs)
        const sample = { ...fleet, atMs, workers: wanted, ready, depth, oldestMs, rateLimited: waiting.rateLimited }
        await asked('Postgres', keepSample(pool, poolName, sample))
        return sample
      } catch (error) {
        return { atMs, missing: error instanceof Error ? error.message : 'a fault' }
      }
    },

    /** Asks the target for so many workers. */
    async scaleFleet({ workers }: { readonly workers: number }): Promise<void> {
      try {
        await target.scaleTo(workers)
        log.info({ pool: poolName, target: target.name, workers }, 'autoscale.scaled')
      } catch (error) {
        throw failed(`the target ${target.name} could not be told`, error)
      }
    },

    /** Keeps decisions, each once. */
    async keepDecisions({ decisions }: { readonly decisions: readonly KeptDecision[] }): Promise<void> {
      try {
        for (const { decision, sample } of decisions) await keepDecision(pool, poolName, decision, sample)
      } catch (error) {
        throw failed('decisions could not be kept in Postgres', error)
      }
    },
  }
}

export type AutoscaleActivities = ReturnType<typeof createAutoscaleActivities>
