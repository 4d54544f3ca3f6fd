import type { Turn } from '../storage/mailbox-queue.ts'
import { storeOperationalEvents } from '../storage/operational-events.ts'
import { inTransaction, type Queryable } from '../storage/pool.ts'
import type { Record } from '../storage/records.ts'
import { writeMarkingLate } from '../storage/rollup-late.ts'
import type { QueueRun } from './queue-run.ts'

/**
 * Records what a drain has sent, with what is to be told of it, as long as the drain holds the turn.
 * @param write answers undefined where the turn is lost
 */
export async function recordWithTurn<T>(
  { deps, held }: QueueRun,
  records: readonly Record[],
  write: (db: Queryable, turn: Turn) => Promise<T | undefined>,
): Promise<T | undefined> {
  const events = (await deps.operational?.of(records)) ?? []
  return held.check((turn) =>
    writeMarkingLate(deps.pool, records, () =>
      events.length === 0
        ? write(deps.pool, turn)
        : inTransaction(deps.pool, async (client) => {
            const written = await write(client, turn)
            if (written !== undefined) await storeOperationalEvents(client, events)
            return written
          }),
    ),
  )
}
