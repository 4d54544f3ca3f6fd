import { ApplicationFailure, Context } from '@temporalio/activity'
import type { DayTable, Retention } from '../domain/retention.ts'
import { tablesToMove, type WarmRules } from '../domain/warm-tables.ts'
import { isLocked } from '../storage/partitions.ts'
import type { Pool } from '../storage/pool.ts'
import { checkTablespace, moveDay, placeDayTables, removeLeftMoves, WarmTableError } from '../storage/warm-tables.ts'

export interface WarmTablesDependencies {
  readonly pool: Pool
  readonly retention: Retention
  /** Undefined: tables stay where they were made. */
  readonly warm: WarmRules | undefined
  /** The activity's own unless given. */
  readonly context?: () => Pick<Context, 'heartbeat' | 'cancellationSignal'>
}

const HEARTBEAT_MS = 2000

/** Both take the time (Unix milliseconds) by which they tell what is old. */
export function createWarmTables({ pool, retention, warm, context = () => Context.current() }: WarmTablesDependencies) {
  const working = async <T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    const { heartbeat, cancellationSignal } = context()
    const beat = setInterval(heartbeat, HEARTBEAT_MS)
    try {
      return await work(cancellationSignal)
    } catch (error) {
      throw failureOf(error)
    } finally {
      clearInterval(beat)
    }
  }
  const toMove = async (atMs: number) => (warm === undefined ? [] : tablesToMove(await placeDayTables(pool), atMs, warm, retention))
  return {
    /** Tables that are to be moved, in order. Removes what moves have left that do not go on. */
    warmDayTables: ({ atMs }: { atMs: number }): Promise<Pick<DayTable, 'name'>[]> =>
      working(async () => {
        await removeLeftMoves(pool, warm?.tablespace)
        if (warm !== undefined) await checkTablespace(pool, warm.tablespace)
        return (await toMove(atMs)).map(({ name }) => ({ name }))
      }),

    /**
     * Moves one of them. What was begun goes on; moving it again does nothing.
     * @param untilMs from then on (Unix milliseconds) what is left is left to another time
     * @returns whether it was moved
     */
    moveDayTable: ({ name, atMs, untilMs }: { name: string; atMs: number; untilMs: number }): Promise<boolean> =>
      working(async (signal) => {
        await removeLeftMoves(pool, warm?.tablespace)
        const isLeft = (await toMove(atMs)).some((table) => table.name === name)
        if (warm === undefined || !isLeft) return true
        const moved = await moveDay(pool, name, { ...warm, isOver: () => signal.aborted || Date.now() >= untilMs })
        signal.throwIfAborted()
        return moved
      }),
  }
}

function failureOf(error: unknown): unknown {
  if (isLocked(error)) return ApplicationFailure.retryable('others use the table, or an older snapshot of the database, for long', 'Locked')
  if (!(error instanceof WarmTableError)) return error
  const type = { no_tablespace: 'NoTablespace', rows_differ: 'RowsDiffer', default_crowded: 'Crowded' }[error.code]
  return ApplicationFailure.nonRetryable(error.message, type)
}
