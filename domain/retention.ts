/** How long message data is kept, and which of its tables are to go. A table holds one day (UTC). */
import { dayOf, idsOfDay, type ArchivePart } from './archive.ts'
import { LIMITS } from './limits.ts'

const DAY_MS = 86_400_000

/** Days for which history is kept after the day that it is of. */
export interface Retention {
  /** Attempts that succeeded. */
  readonly deliveredDays: number
  /** Attempts that failed, and deliveries that ended without success. */
  readonly failedDays: number
  /** The audit log. 0: for ever. */
  readonly auditDays: number
}

/**
 * What is partitioned: messages by their acceptance, attempts by their time, payloads that end before their message by their end,
 * idempotency keys by when they were taken, and the audit log.
 */
export const PARTITIONED = ['message', 'attempt', 'message_payload', 'idempotency_key', 'audit_log'] as const
export type Partitioned = (typeof PARTITIONED)[number]

/** Of those what is configuration: where regions share it, each copy has days of its own, and so has the cluster. */
export const CONFIGURATION_BY_DAYS: Partitioned = 'audit_log'
/** Whole days, after its own, for which a table of keys is used: a key is kept for 12 hours. */
const KEY_DAYS = 1

/** A table of one day; of attempts those that succeeded, those that failed, or both of a day in which neither is left apart. */
export interface DayTable {
  readonly name: string
  readonly parent: Partitioned
  /** The day's first instant, in Unix milliseconds. Of what there was before there were days: the last one's. */
  readonly dayMs: number
  readonly part: 'delivered' | 'failed' | 'whole'
  /** False: it has been taken out of its parent, and remains to be dropped. */
  readonly attached: boolean
  /** Set: it is in the cluster that regions share configuration by. Absent: in this region's database. */
  readonly shared?: true
}

/** One that is to go. */
export interface DueTable extends DayTable {
  /** Set: its rows are to be in the archive before. */
  readonly archived?: true
}

/** When nothing of a table is kept any longer, in Unix milliseconds; Infinity: it is kept for ever. */
export function endOf(table: Pick<DayTable, 'parent' | 'dayMs' | 'part'>, { deliveredDays, failedDays, auditDays }: Retention): number {
  const daysOf = {
    message: LIMITS.payloadRetentionMaxDays,
    attempt: { delivered: deliveredDays, failed: failedDays, whole: Math.max(deliveredDays, failedDays) }[table.part],
    message_payload: 0,
    idempotency_key: KEY_DAYS,
    audit_log: auditDays === 0 ? Infinity : auditDays,
  }
  return table.dayMs + DAY_MS + daysOf[table.parent] * DAY_MS
}

/** Those that are to go, the oldest first; of a day of attempts that goes as a whole its parts are not named. */
export function dueTables(tables: readonly DayTable[], nowMs: number, retention: Retention): DayTable[] {
  const due = tables.filter((table) => endOf(table, retention) <= nowMs)
  const whole = new Set(due.filter(({ parent, part }) => parent === 'attempt' && part === 'whole').map(({ dayMs }) => dayMs))
  return due
    .filter(({ parent, part, dayMs }) => parent !== 'attempt' || part === 'whole' || !whole.has(dayMs))
    .sort((a, b) => a.dayMs - b.dayMs || (a.name < b.name ? -1 : 1))
}

/** Days whose tables are to be there: today's and those of some days to come, for payloads of every day at which one may end. */
export function daysAhead(parent: Partitioned, nowMs: number): { readonly fromMs: number; readonly toMs: number } {
  const fromMs = Math.floor(nowMs / DAY_MS) * DAY_MS
  const longest = parent === 'message_payload' ? LIMITS.payloadRetentionMaxDays : 0
  return { fromMs, toMs: fromMs + (longest + LIMITS.partitionDaysAhead) * DAY_MS }
}

/** Whether rows of a table are archived when they leave the database: the archive has messages and attempts. */
export function isArchived<Table extends Pick<DayTable, 'parent'>>(
  table: Table,
): table is Table & { readonly parent: 'message' | 'attempt' } {
  return table.parent === 'message' || table.parent === 'attempt'
}

/** A part of the archive, with the ids that are in it. */
export interface ArchivedRange extends ArchivePart {
  readonly fromId: string
  readonly toId: string
}

/**
 * What of the archive a table's rows are. Of attempts that went as a whole day those that succeeded may have been archived before.
 * @param firstMs the first day of which it has rows: what there was before there were days has several
 */
export function archivedRanges(table: DayTable, firstMs: number): ArchivedRange[] {
  if (!isArchived(table)) return []
  const { parent, part, dayMs } = table
  const outcomes = ({ delivered: ['success'], failed: ['failure'], whole: ['success', 'failure'] } as const)[part]
  const ranges: ArchivedRange[] = []
  for (let ms = Math.min(firstMs, dayMs); ms <= dayMs; ms += DAY_MS) {
    const day = dayOf(ms)
    for (const outcome of parent === 'message' ? [null] : outcomes) ranges.push({ table: parent, outcome, day, ...idsOfDay(parent, day) })
  }
  return ranges
}

/** From when on history is kept; what is older and has no table of its own day is removed row by row. Unix milliseconds. */
export function keptSince(nowMs: number, { deliveredDays, failedDays, auditDays }: Retention) {
  const todayMs = Math.floor(nowMs / DAY_MS) * DAY_MS
  return {
    messagesMs: todayMs - LIMITS.payloadRetentionMaxDays * DAY_MS,
    deliveredMs: todayMs - deliveredDays * DAY_MS,
    failedMs: todayMs - failedDays * DAY_MS,
    /** Undefined: all of the audit log is kept. */
    auditMs: auditDays === 0 ? undefined : todayMs - auditDays * DAY_MS,
  }
}

/** What a run of the retention has come to, as the Web UI shows it. */
export interface RetentionResult {
  /** Tables made ahead. */
  readonly created: number
  /** Rows of dropped tables that are in the archive. */
  readonly archived: number
  readonly dropped: readonly string[]
  /** Tables that keep much beyond their time, with how many rows at least; they are looked at again by the next run. */
  readonly kept: Readonly<Record<string, number>>
  /** Rows removed of tables that are not dropped, by table. */
  readonly removed: Readonly<Record<string, number>>
  /** Absent: it is the result of an earlier version. */
  readonly warm?: WarmResult
}

/** What a run of the retention has moved to the warm tablespace. */
export interface WarmResult {
  readonly moved: readonly string[]
  /** What was to be moved and was not, with the reason; the next run tries again. */
  readonly left: Readonly<Record<string, string>>
}
