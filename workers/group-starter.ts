import type { Logger } from 'pino'
import { deleteGroup, type OutboxRow } from '../storage/outbox.ts'
import type { Pool } from '../storage/pool.ts'
import type { StartFanOut } from './start-fan-out.ts'

/** Starts recorded groups, and knows whether Temporal could be reached the last time. */
export interface GroupStarter {
  readonly reachable: boolean
  /** False where Temporal was not reached: the group stays recorded, and a sweep starts it when its lease has run out. */
  start(groupId: string, rows: readonly OutboxRow[]): Promise<boolean>
}

export function createGroupStarter(deps: { pool: Pool; startFanOut: StartFanOut; log: Logger }): GroupStarter {
  let reachable = true
  return {
    get reachable() {
      return reachable
    },
    async start(groupId, rows) {
      try {
        const started = await deps.startFanOut(groupId, rows)
        // An earlier start has it, and may have recorded its first attempts before these rows were looked at.
        if (started === 'already started') await deleteGroup(deps.pool, groupId)
        if (!reachable) deps.log.info('temporal.reached')
        reachable = true
        return true
      } catch (error) {
        if (reachable) deps.log.warn({ err: error }, 'temporal.unreachable')
        reachable = false
        return false
      }
    },
  }
}
