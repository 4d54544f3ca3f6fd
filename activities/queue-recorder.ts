import { recordQueued, type QueueRecords } from '../storage/mailbox-queue.ts'
import { storeOperationalEvents } from '../storage/operational-events.ts'
import { inTransaction } from '../storage/pool.ts'
import type { QueueRun } from './queue-run.ts'

/** Records what a drain has sent, as long as it holds the turn. @returns which of `next` still wait; undefined where the turn is lost */
export async function recordWithTurn({ deps, held }: QueueRun, input: QueueRecords): Promise<ReadonlySet<string> | undefined> {
  const events = (await deps.operational?.of(input.records)) ?? []
  if (events.length === 0) return held.check((turn) => recordQueued(deps.pool, turn, input))
  return held.check((turn) =>
    inTransaction(deps.pool, async (client) => {
      const waiting = await recordQueued(client, turn, input)
      if (waiting !== undefined) await storeOperationalEvents(client, events)
      return waiting
    }),
  )
}
