import { setTimeout as pause } from 'node:timers/promises'
import { LIMITS } from '../domain/limits.ts'
import type { Pool } from './pool.ts'

/** Channel on which every process hears how far this region's copy is; the payload is the clock's time in Unix milliseconds. */
export const CONFIG_CLOCK_CHANNEL = 'tidings_config_clock'

const POLL_MS = 5

/** What is known of this region's copy of the configuration. */
export interface ConfigCopy {
  /** The copy has all that was written until then. */
  heard(clockMs: number): void
  /** What was heard may be out of date: the connection that listens was lost. */
  missed(): void
  /**
   * Milliseconds; Infinity where it is not known. The clocks of the machines are part of it: they are expected to differ by
   * less than a tenth of a second.
   */
  ageMs(): number
  /** Whether what it says may be answered. */
  isFresh(): boolean
  /** Waits until the copy has the change that this entry of the audit log tells of. @returns false where it has not in time */
  waitFor(auditId: string): Promise<boolean>
}

export function createConfigCopy(pool: Pool): ConfigCopy {
  let clockMs = -Infinity
  const ageMs = () => Math.max(0, Date.now() - clockMs)
  return {
    heard(ms) {
      clockMs = Math.max(clockMs, ms)
    },
    missed() {
      clockMs = -Infinity
    },
    ageMs,
    isFresh: () => ageMs() <= LIMITS.configCopyMaxAgeMs,
    async waitFor(auditId) {
      const untilMs = Date.now() + LIMITS.configCopyWaitMs
      for (;;) {
        const { rowCount } = await pool.query({ name: 'config-has', text: 'SELECT FROM audit_log WHERE id = $1', values: [auditId] })
        if (rowCount !== 0) return true
        if (Date.now() > untilMs) return false
        await pause(POLL_MS)
      }
    },
  }
}
