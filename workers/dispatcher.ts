import type { Logger } from 'pino'
import type { CoLocatedDispatcher } from '../api/intake.ts'
import { createFairQueue } from '../domain/fair-queue.ts'
import { LIMITS } from '../domain/limits.ts'
import type { NewMessage } from '../domain/message.ts'
import { TRIGGER_SCHEDULED } from '../domain/outcome.ts'
import { DEFAULT_PRIORITY, lineOf, type PriorityWeights } from '../domain/priority.ts'
import { createPublishRates } from '../domain/publish-rates.ts'
import { claimRows, type OutboxRow } from '../storage/outbox.ts'
import type { Prefetch } from '../domain/prefetch.ts'
import type { Pool } from '../storage/pool.ts'
import { createGroupStarter, GROUP_LEASE_MS, type EndpointsOf, type GroupStarter, type GroupStarterDependencies } from './group-starter.ts'
import type { StartFanOut } from './start-fan-out.ts'
import type { StartPace } from './start-pace.ts'
import { createSweeper } from './sweeper.ts'

export interface Dispatcher extends CoLocatedDispatcher {
  stop(): Promise<void>
}

export interface DispatcherDependencies {
  readonly pool: Pool
  readonly startFanOut: StartFanOut
  readonly endpointsOf: EndpointsOf
  readonly refused: GroupStarterDependencies['refused']
  readonly groupMaxMessages: number
  readonly weights: PriorityWeights
  readonly pace: StartPace
  readonly prefetch: Pick<Prefetch, 'room' | 'taken'>
  readonly log: Logger
}

/**
 * Starts fan-outs for groups that are fixed in Postgres, one at a time: while a start is in flight what arrives waits and
 * the next group takes it all (more starts in flight made groups smaller and everything slower, for those who publish little
 * too: what counts is how much the machine has to do).
 */
export function createDispatcher(deps: DispatcherDependencies): Dispatcher {
  const { pool, log, groupMaxMessages, weights, pace } = deps
  const starter = createGroupStarter(deps)
  const sweeper = createSweeper({ ...deps, starter })
  const waiting = createFairQueue<OutboxRow>()
  const rates = createPublishRates()
  /** Starts of what the intake has fixed as a group already. */
  const groups: (() => Promise<unknown>)[] = []
  let stopped = false
  let running: Promise<void> | undefined

  const run = async () => {
    try {
      for (let group = groups.shift(); group !== undefined || (waiting.size > 0 && !stopped); group = groups.shift()) {
        if (group === undefined && waiting.size < groupMaxMessages) await pace.due(() => waiting.size)
        pace.started()
        if (group !== undefined) {
          await group()
          continue
        }
        // While Temporal cannot be reached rows wait in Postgres, not here.
        if (!starter.reachable) waiting.take(waiting.size)
        await startWaiting(pool, starter, waiting.take(groupMaxMessages))
      }
    } catch (error) {
      // What was taken is in Postgres, ungrouped or leased: the sweep has it.
      log.warn({ err: error }, 'dispatch.failed')
    } finally {
      running = undefined
    }
  }
  return {
    get idle() {
      return running === undefined && starter.reachable && waiting.size === 0 && !stopped
    },
    startGroup(groupId, messages) {
      groups.push(() => starter.start(groupId, messages.map(toRow), true))
      running ??= run()
    },
    offer(messages) {
      if (!starter.reachable || stopped) return
      const nowMs = Date.now()
      for (const message of messages) {
        const { appId, priority = DEFAULT_PRIORITY } = message
        const line = lineOf(appId, priority)
        const little = rates.count(line, nowMs)
        // What does not fit is in Postgres, and the sweep finds it there. Who publishes little does not wait for that.
        if (!little && waiting.size >= LIMITS.startsWaitingMax) continue
        waiting.push(line, toRow(message), weights[priority])
        if (little) pace.hurry()
      }
      if (waiting.size > 0) running ??= run()
    },
    wake: () => sweeper.wake(),
    async stop() {
      stopped = true
      await sweeper.stop()
      await running
    },
  }
}

/** Fixes rows as a group, as far as no other dispatcher has, and starts it. */
async function startWaiting(pool: Pool, starter: GroupStarter, rows: readonly OutboxRow[]): Promise<void> {
  if (rows.length === 0) return
  const ids = rows.map((row) => row.id)
  const claimed = await claimRows(pool, ids, GROUP_LEASE_MS)
  if (claimed === undefined) return
  await starter.start(
    claimed.groupId,
    rows.filter((row) => claimed.ids.has(row.id)),
    true,
  )
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
