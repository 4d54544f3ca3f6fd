import { proxyActivities, setCurrentDetails } from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import type { RetentionResult } from '../domain/retention.ts'

/** Statements between two looks at how a run goes; what is left is removed by the next run. */
const REMOVALS_MAX = 500

const OPTIONS = {
  heartbeatTimeout: '10s',
  // A table that is in use is tried again soon: whoever uses it for long is rare.
  retry: { initialInterval: '1s', backoffCoefficient: 1.5, maximumInterval: '1m', maximumAttempts: 30 },
} as const
const { createDayTables, dueDayTables, dropDayTable, removeOldRows } = proxyActivities<Activities>({
  ...OPTIONS,
  startToCloseTimeout: '30m',
})
const { archiveDayTable } = proxyActivities<Activities>({ ...OPTIONS, startToCloseTimeout: '12h' })

/**
 * One run of what keeps message data as long as it is to be kept: makes tables ahead, drops those of which nothing is kept, and
 * removes what has no table of its own day. A Temporal Schedule starts it.
 * @param input the time by which it is told what is old (Unix milliseconds); absent: now
 */
export async function retention(input: { readonly atMs?: number } = {}): Promise<RetentionResult> {
  const atMs = input.atMs ?? Date.now()
  const created = await createDayTables({ atMs })
  const due = await dueDayTables({ atMs })
  const dropped: string[] = []
  const kept: Record<string, number> = {}
  let archived = 0
  for (const table of due) {
    // Nothing is dropped that could not be archived: the run fails, and the next one tries again.
    if (table.archived === true) archived += await archiveDayTable({ table })
    const outcome = await dropDayTable({ table, atMs })
    if (outcome.dropped) dropped.push(table.name)
    else kept[table.name] = outcome.keeps
    setCurrentDetails(`${dropped.length} of ${due.length} tables dropped`)
  }
  const removed: Record<string, number> = {}
  for (let n = 0, more = true; more && n < REMOVALS_MAX; n++) {
    const step = await removeOldRows({ atMs })
    more = step.more
    for (const [table, rows] of Object.entries(step.removed)) if (rows > 0) removed[table] = (removed[table] ?? 0) + rows
  }
  return { created, archived, dropped, kept, removed }
}
