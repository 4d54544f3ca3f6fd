import { setTimeout as delay } from 'node:timers/promises'
import { isPassingFault } from '../../storage/faults.ts'
import { createPool } from '../../storage/pool.ts'
import { isStandby } from '../../storage/takeover.ts'
import { postgresAway } from '../stack.ts'

const POLL_MS = 250

export interface Waiting {
  /** Resolves when the process is to end. */
  readonly stopping: Promise<unknown>
  /** Begins what the wait can be used for; called once, where there is one. */
  meanwhile(): void
}

/**
 * Waits as long as a database is a standby, so that a process started for a region that may be taken over works as soon as
 * the standby is promoted. A standby that goes away meanwhile is waited for.
 * @returns whether the process was told to end instead
 * @throws {CommandFailure} `postgres_failed` where the database cannot be reached to begin with
 */
export async function waitWhileStandby(url: string, { stopping, meanwhile }: Waiting): Promise<boolean> {
  const pool = createPool(url, 1)
  try {
    if (!(await isStandby(pool).catch((cause: unknown) => Promise.reject(postgresAway(url, cause))))) return false
    process.stderr.write(`waiting: DATABASE_URL is a standby (${new URL(url).host}); this process starts when it is promoted\n`)
    meanwhile()
    const asked = stopping.then(() => true)
    for (;;) {
      if ((await Promise.race([asked, delay(POLL_MS, false)])) === true) return true
      if (!(await stillStandby(pool))) return false
    }
  } finally {
    await pool.end()
  }
}

async function stillStandby(pool: ReturnType<typeof createPool>): Promise<boolean> {
  try {
    return await isStandby(pool)
  } catch (error) {
    if (isPassingFault(error)) return true
    throw error
  }
}
