import { setTimeout as pause } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Prefetch } from '../domain/prefetch.ts'
import type { PriorityWeights } from '../domain/priority.ts'
import { claimExpiredGroup, claimWaiting } from '../storage/outbox.ts'
import type { Pool } from '../storage/pool.ts'
import { GROUP_LEASE_MS, type EndpointsOf, type GroupStarter } from './group-starter.ts'

/** Rows younger than this are left to the process that accepted them. */
const SWEEP_AFTER_MS = 5000
const SWEEP_EVERY_MS = 1000
const ROOM_LOOK_MS = 10
const ROOM_WAIT_MS = 1000

export interface Sweeper {
  /** Sweeps now, rows of any age: they were put into the outbox by another process, or for resending. */
  wake(): void
  stop(): Promise<void>
}

export interface SweeperDependencies {
  readonly pool: Pool
  readonly starter: GroupStarter
  readonly endpointsOf: EndpointsOf
  readonly groupMaxMessages: number
  readonly weights: PriorityWeights
  /** How much of what waits for any dispatcher this one takes. */
  readonly prefetch: Pick<Prefetch, 'room' | 'taken'>
  readonly log: Logger
}

/** Starts what no dispatcher has started: groups whose lease has run out, and rows that nobody has grouped. */
export function createSweeper(deps: SweeperDependencies): Sweeper {
  const { pool, starter, endpointsOf, groupMaxMessages, weights, prefetch, log } = deps
  let stopped = false
  let woken = false
  let sleep = new AbortController()

  /** Waits until there is some: what waits is for others meanwhile. Where nobody takes it, it is taken after `ROOM_WAIT_MS`. */
  const room = async (): Promise<number> => {
    const untilMs = performance.now() + ROOM_WAIT_MS
    for (;;) {
      const messages = prefetch.room(Date.now())
      if (messages > 0 || stopped || performance.now() >= untilMs) return Math.max(1, messages)
      await pause(ROOM_LOOK_MS)
    }
  }
  const startNext = async (minAgeMs: number): Promise<boolean> => {
    const expired = await claimExpiredGroup(pool, GROUP_LEASE_MS)
    if (expired !== undefined) return starter.start(expired.groupId, expired.rows, false)
    const max = Math.min(groupMaxMessages, await room())
    const rows = await claimWaiting(pool, { max, minAgeMs, leaseMs: GROUP_LEASE_MS, weights })
    const first = rows[0]
    if (first === undefined) return false
    // One tells about all. Where it cannot be read now, the group is not kept from its start.
    const endpoints = await endpointsOf(first).catch(() => undefined)
    prefetch.taken(rows.length, rows.length * (endpoints?.length ?? 1), Date.now())
    return starter.start(first.id, rows, true)
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
