import type { Logger } from 'pino'
import type { BegunAttempts } from '../activities/begun-attempts.ts'
import { cutGroup, deadLetterRow, deleteGroup, type OutboxRow } from '../storage/outbox.ts'
import type { Pool } from '../storage/pool.ts'
import { isRefusal, type StartFanOut } from './start-fan-out.ts'

/** Starts recorded groups, and knows whether Temporal could be reached the last time. */
export interface GroupStarter {
  readonly reachable: boolean
  /**
   * False where Temporal was not reached: the group stays recorded, and a sweep starts it when its lease has run out. A group
   * that Temporal refuses is halved until what is refused is alone, which is dead-lettered.
   * @param isNew whether nobody can have tried to start the group before
   */
  start(groupId: string, rows: readonly OutboxRow[], isNew: boolean): Promise<boolean>
}

export interface GroupStarterDependencies {
  readonly pool: Pool
  readonly startFanOut: StartFanOut
  readonly endpointsOf: EndpointsOf
  readonly refused: BegunAttempts['refused']
  readonly log: Logger
}

/** The endpoints that a row of the outbox is for. */
export type EndpointsOf = (row: OutboxRow) => Promise<readonly string[]>

/** How long a recorded group is its dispatcher's before a sweeper may start it too. */
export const GROUP_LEASE_MS = 10_000

export function createGroupStarter(deps: GroupStarterDependencies): GroupStarter {
  const { pool, log } = deps
  let reachable = true

  const start = async (groupId: string, rows: readonly OutboxRow[], isNew: boolean): Promise<boolean> => {
    let started
    try {
      started = await deps.startFanOut(groupId, rows, isNew)
    } catch (error) {
      if (isRefusal(error)) return startApart(groupId, rows, error)
      if (reachable) log.warn({ err: error }, 'temporal.unreachable')
      reachable = false
      return false
    }
    if (!reachable) log.info('temporal.reached')
    reachable = true
    // An earlier start has it, and may have recorded its first attempts before these rows were looked at.
    if (started === 'already started') await deleteGroup(pool, groupId)
    return true
  }

  const startApart = async (groupId: string, rows: readonly OutboxRow[], reason: unknown): Promise<boolean> => {
    const first = rows[0]!
    if (rows.length === 1) {
      const ended = new Set(await deps.refused(groupId))
      const endpoints = await deps.endpointsOf(first)
      await deadLetterRow(
        pool,
        first,
        endpoints.filter((id) => !ended.has(id)),
      )
      log.error({ messageId: first.messageId, err: reason }, 'message.refused-by-temporal')
      return true
    }
    // The half that has the group's name keeps it: a row is never in a group that is named after a row outside of it.
    const named = [...rows].sort((a, b) => Number(b.id === groupId) - Number(a.id === groupId))
    const kept = named.slice(0, Math.ceil(named.length / 2))
    const others = named.slice(kept.length)
    const cutId = await cutGroup(
      pool,
      groupId,
      others.map((row) => row.id),
      GROUP_LEASE_MS,
    )
    return (await start(groupId, kept, false)) && start(cutId, others, false)
  }

  return {
    get reachable() {
      return reachable
    },
    start,
  }
}
