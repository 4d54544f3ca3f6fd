import { setTimeout as pause } from 'node:timers/promises'
import type { Logger } from 'pino'
import { LIMITS } from '../domain/limits.ts'
import { dropRollupPartitions } from '../storage/rollup-partitions.ts'
import { rollUp } from '../storage/rollups.ts'
import type { Pool } from '../storage/pool.ts'

/** Rolls up what was attempted, beside other dispatchers of the region: one at a time has the turn. */
export function startRollups(
  { pool, log }: { readonly pool: Pool; readonly log: Logger },
  everyMs: number = LIMITS.rollupEveryMs,
): { stop(): Promise<void> } {
  const stop = new AbortController()
  const turns = async () => {
    while (!stop.signal.aborted) {
      await pause(everyMs, undefined, { signal: stop.signal }).catch(() => undefined)
      try {
        while (!stop.signal.aborted) {
          const done = await rollUp(pool)
          if (done === undefined) break
          const dropped = await dropRollupPartitions(pool, done.throughMs)
          if (dropped.length > 0) log.info({ dropped }, 'rollups.dropped')
          if (!done.more) break
        }
      } catch (error) {
        log.warn({ err: error }, 'rollups.failed')
      }
    }
  }
  const turning = turns()
  return {
    async stop() {
      stop.abort()
      await turning
    },
  }
}
