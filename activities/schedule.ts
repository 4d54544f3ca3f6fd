import { LIMITS } from '../domain/limits.ts'
import type { Pool } from '../storage/pool.ts'
import { releaseDue, settleSchedule } from '../storage/scheduled.ts'

/** The activity of the schedule. */
export function createSchedule(deps: { readonly pool: Pool }) {
  return {
    /** Puts every message that is due into the outbox. @returns when the next one is, Unix milliseconds; null where none waits */
    async releaseScheduled(): Promise<{ readonly nextAtMs: number | null }> {
      while ((await releaseDue(deps.pool)) === LIMITS.releaseBatch);
      return { nextAtMs: await settleSchedule(deps.pool) }
    },
  }
}
