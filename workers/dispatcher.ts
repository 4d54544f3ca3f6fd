import { setTimeout as pause } from 'node:timers/promises'
import type { Logger } from 'pino'
import { createFairQueue } from '../domain/fair-queue.ts'
import type { NewMessage } from '../domain/message.ts'
import { TRIGGER_SCHEDULED } from '../domain/outcome.ts'
import { claimExpiredGroup, claimRows, claimWaiting, deleteGroup, type OutboxRow } from '../storage/outbox.ts'
import type { Pool } from '../storage/pool.ts'
import type { StartFanOut } from './start-fan-out.ts'

/** How long a recorded group is its dispatcher's before a sweeper may start it too. */
export const GROUP_LEASE_MS = 10_000
/** Rows younger than this are left to the process that accepted them. */
const SWEEP_AFTER_MS = 5000
const SWEEP_EVERY_MS = 1000

/** What the intake of the same process hands over, so that nothing is read back. */
export interface LocalDispatcher {
  /** True where a group could be started at once: the accept statement then fixes what it stores as a group. */
  readonly idle: boolean
  /** Starts a group that the accept statement has fixed. */
  startGroup(groupId: string, messages: readonly NewMessage[]): void
  /** Takes what was stored ungrouped into the next group. */
  offer(messages: readonly NewMessage[]): void
}

export interface Dispatcher extends LocalDispatcher {
  /** Rows were put into the outbox by another process, or for resending. */
  wake(): void
  stop(): Promise<void>
}

export interface DispatcherDependencies {
  readonly pool: Pool
  readonly startFanOut: StartFanOut
  readonly groupMaxMessages: number
  readonly log: Logger
}

/**
 * Starts fan-outs for groups that are fixed in Postgres, one at a time: while a start is in flight what arrives waits and
 * the next group takes it all (more starts in flight made groups smaller and everything slower).
 */
export function createDispatcher(deps: DispatcherDependencies): Dispatcher {
  const { pool, log, groupMaxMessages } = deps
  const waiting = createFairQueue<OutboxRow>()
  const stop = new AbortController()
  let busy = false
  let reachable = true
  let woken = false
  let sweeping: Promise<void> = Promise.resolve()

  const start = async (groupId: string, rows: readonly OutboxRow[]): Promise<boolean> => {
    try {
      const started = await deps.startFanOut(groupId, rows)
      // An older start has it; its first record may have come before the rows were put here, so they go now.
      if (started === 'already started') await deleteGroup(pool, groupId)
      if (!reachable) log.info('temporal.reached')
      reachable = true
      return true
    } catch (error) {
      // The group stays recorded; when its lease runs out a sweep starts it under the same id.
      if (reachable) log.warn({ err: error }, 'temporal.unreachable')
      reachable = false
      return false
    }
  }
  const claimLocal = async (): Promise<{ groupId: string; rows: OutboxRow[] } | undefined> => {
    const rows = waiting.take(groupMaxMessages)
    if (rows.length === 0) return undefined
    const claimed = await claimRows(pool, rows.map((row) => row.id), GROUP_LEASE_MS)
    return claimed && { groupId: claimed.groupId, rows: rows.filter((row) => claimed.ids.has(row.id)) }
  }
  const run = async (first: () => Promise<void>) => {
    busy = true
    try {
      await first()
      while (waiting.size > 0 && !stop.signal.aborted) {
        // While Temporal cannot be reached rows wait in Postgres, not here.
        if (!reachable) waiting.take(waiting.size)
        const group = await claimLocal()
        if (group !== undefined) await start(group.groupId, group.rows)
      }
    } catch (error) {
      log.warn({ err: error }, 'dispatch.failed')
    } finally {
      busy = false
    }
  }
  const sweepOnce = async (minAgeMs: number) => {
    for (;;) {
      if (stop.signal.aborted) return
      const expired = await claimExpiredGroup(pool, GROUP_LEASE_MS)
      if (expired !== undefined) {
        if (!(await start(expired.groupId, expired.rows))) return
        continue
      }
      const rows = await claimWaiting(pool, groupMaxMessages, minAgeMs, GROUP_LEASE_MS)
      const first = rows[0]
      if (first === undefined || !(await start(first.id, rows))) return
    }
  }
  const sweep = async () => {
    while (!stop.signal.aborted) {
      const minAgeMs = woken ? 0 : SWEEP_AFTER_MS
      woken = false
      try {
        await sweepOnce(minAgeMs)
      } catch (error) {
        log.warn({ err: error }, 'sweep.failed')
      }
      if (!woken) await pause(SWEEP_EVERY_MS, undefined, { signal: wakeSignal() }).catch(() => undefined)
    }
  }
  let wakeUp = new AbortController()
  const wakeSignal = () => (wakeUp = new AbortController()).signal
  sweeping = sweep()

  return {
    get idle() {
      return !busy && reachable && waiting.size === 0 && !stop.signal.aborted
    },
    startGroup(groupId, messages) {
      void run(async () => {
        await start(groupId, messages.map(toRow))
      })
    },
    offer(messages) {
      if (!reachable) return
      for (const message of messages) waiting.push(message.appId, toRow(message))
      if (!busy) void run(() => Promise.resolve())
    },
    wake() {
      woken = true
      wakeUp.abort()
    },
    async stop() {
      stop.abort()
      wakeUp.abort()
      await sweeping
    },
  }
}

function toRow(message: NewMessage): OutboxRow {
  return {
    id: message.id,
    messageId: message.id,
    appId: message.appId,
    eventType: message.eventType,
    endpointId: null,
    trigger: TRIGGER_SCHEDULED,
    retried: true,
  }
}
