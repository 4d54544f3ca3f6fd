/** Which tables of days lie in another tablespace, on a slower disk, because they are no longer new. */
import { endOf, type DayTable, type Partitioned, type Retention } from './retention.ts'

const DAY_MS = 86_400_000

/** Payloads that end before their message are not: their tables are by the day of their end, and take rows until five days before it. */
const MOVED: readonly Partitioned[] = ['message', 'attempt']

/** Where tables go that are no longer new, and when. */
export interface WarmRules {
  /** A tablespace of the database's server. */
  readonly tablespace: string
  /** Days for which a table stays where it was made, after the day that it is of. */
  readonly hotDays: number
  /** Of a table, that may be copied in a second. */
  readonly bytesPerSecond: number
}

/** A table of a day with where its rows are. */
export interface PlacedTable extends DayTable {
  /** Undefined: it has no rows of its own, its parts do. */
  readonly tablespace: string | undefined
  /** Part of it has been copied. */
  readonly begun: boolean
}

/** Those that are to be moved: what is begun first, then the newest, which would lie longest where it is. Not what goes within a day. */
export function tablesToMove(tables: readonly PlacedTable[], nowMs: number, rules: WarmRules, retention: Retention): PlacedTable[] {
  const isDue = (table: PlacedTable) =>
    MOVED.includes(table.parent) &&
    table.attached &&
    table.tablespace !== undefined &&
    table.tablespace !== rules.tablespace &&
    table.dayMs + (1 + rules.hotDays) * DAY_MS <= nowMs &&
    endOf(table, retention) - DAY_MS > nowMs
  return tables.filter(isDue).sort((a, b) => Number(b.begun) - Number(a.begun) || b.dayMs - a.dayMs || (a.name < b.name ? -1 : 1))
}

/** How many pages of a table are copied at a time, given its pages and bytes: what is stored apart from its rows counts. */
export function pagesPerStep({ pages, bytes }: { readonly pages: number; readonly bytes: number }, stepBytes: number): number {
  return Math.max(1, Math.floor(stepBytes / Math.max(1, bytes / Math.max(1, pages))))
}
