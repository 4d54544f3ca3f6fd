import { setTimeout as pause } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { PriorityWeights } from '../domain/priority.ts'
import { claimExpiredGroup, claimWaiting } from '../storage/outbox.ts'
import type { Pool } from '../storage/pool.ts'
import { GROUP_LEASE_MS, type GroupStarter } from './group-starter.ts'

/** Rows younger than this are left to the process that accepted them. */
const SWEEP_AFTER_MS = 5000
const SWEEP_EVERY_MS = 1000

export interface Sweeper {
  /** Sweeps now, rows of any age: they were put into the outbox by another process, or for resending. */
  wake(): void
  stop(): Promise<void>
}

export interface SweeperDependencies {
  readonly pool: Pool
  readonly starter: GroupStarter
  readonly groupMaxMessages: number
  readonly weights: PriorityWeights
  readonly log: Logger
}

/** Starts what no dispatcher has started: groups whose lease has run out, and rows that nobody has grouped. */
export function createSweeper(deps: SweeperDependencies): Sweeper {
  const { pool, starter, groupMaxMessages, weights, log } = deps
  let stopped = false
  let woken = false
  let sleep = new AbortController()

  const startNext = async (minAgeMs: number): Promise<boolean> => {
    const expired = await claimExpiredGroup(pool, GROUP_LEASE_MS)
    if (expired !== undefined) return starter.start(expired.groupId, expired.rows)
    const rows = await claimWaiting(pool, { max: groupMaxMessages, minAgeMs, leaseMs: GROUP_LEASE_MS, weights })
    const first = rows[0]
    return first !== undefined && starter.start(first.id, rows)
  }
  const sweep = async () => {
    while (!stopped) {
      const minAgeMs = woken ? 0 : SWEEP_AFTER_MS
      woken = false
      try {
        while (!stopped && (await startNext(minAgeMs)));
      } catch (error) {
        log.warn({ err: error }, 'sweep.failed')
      }
      sleep = new AbortController()
      if (!woken && !stopped) await pause(SWEEP_EVERY_MS, undefined, { signal: sleep.signal }).catch(() => undefined)
    }
  }
  const sweeping = sweep()
  return {
    wake() {
      woken = true
      sleep.abort()
    },
    async stop() {
      stopped = true
      sleep.abort()
      await sweeping
    },
  }
}
