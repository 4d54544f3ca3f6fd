import { ActivityFailure, ApplicationFailure, patched, proxyActivities, setCurrentDetails } from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import { LIMITS } from '../domain/limits.ts'
import type { RetentionResult, WarmResult } from '../domain/retention.ts'

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
const { warmDayTables, moveDayTable } = proxyActivities<Activities>({
  ...OPTIONS,
  startToCloseTimeout: '12h',
  // What is in use for minutes is moved by the next run.
  retry: { ...OPTIONS.retry, maximumAttempts: 8 },
})
const { archiveDayTable } = proxyActivities<Activities>({ ...OPTIONS, startToCloseTimeout: '12h' })

/**
 * One run of what keeps message data as long as it is to be kept: makes tables ahead, drops those of which nothing is kept,
 * removes what has no table of its own day, and moves to the warm tablespace what is no longer new. A Temporal Schedule starts it.
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
  // Last: whatever becomes of it, all else has been done.
  const warm = patched('warm-tables') ? { warm: await moveTables(atMs) } : {}
  return { created, archived, dropped, kept, removed, ...warm }
}

/** One table after the other, for a time; the run fails where it is not for others' use of a table that it could not be moved. */
async function moveTables(atMs: number): Promise<WarmResult> {
  const moved: string[] = []
  const left: Record<string, string> = {}
  const tables = await warmDayTables({ atMs })
  const untilMs = Date.now() + LIMITS.warmRunMs
  for (const [n, { name }] of tables.entries()) {
    setCurrentDetails(`${n} of ${tables.length} tables moved to the warm tablespace`)
    try {
      const isMoved = Date.now() < untilMs && (await moveDayTable({ name, atMs, untilMs }))
      if (isMoved) moved.push(name)
      else left[name] = 'the time of this run was over'
    } catch (error) {
      const reason = error instanceof ActivityFailure ? error.cause : undefined
      if (!(reason instanceof ApplicationFailure) || (reason.type !== 'Locked' && reason.type !== 'Crowded')) throw error
      left[name] = reason.message
    }
  }
  return { moved, left }
}
