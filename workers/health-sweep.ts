import { setTimeout as pause } from 'node:timers/promises'
import type { Logger } from 'pino'
import { forgetOldCounts } from '../storage/endpoint-windows.ts'
import { forgetStates } from '../storage/endpoint-state.ts'
import type { Pool } from '../storage/pool.ts'

const SWEEP_EVERY_MS = 30_000

/** Removes what is known of endpoints and is over. */
export function startHealthSweep({ pool, log }: { pool: Pool; log: Logger }): { stop(): Promise<void> } {
  const stop = new AbortController()
  const sweep = async () => {
    while (!stop.signal.aborted) {
      await pause(SWEEP_EVERY_MS, undefined, { signal: stop.signal }).catch(() => undefined)
      if (stop.signal.aborted) return
      try {
        await forgetStates(pool)
        await forgetOldCounts(pool)
      } catch (error) {
        log.warn({ err: error }, 'health-sweep.failed')
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
