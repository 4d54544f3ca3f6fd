/** How far the retention is behind, told from the tables that are there: nobody has to remember when it ran. */
import { dueTables, endOf, type DayTable, type Retention } from './retention.ts'

const DAY_MS = 86_400_000

/**
 * For how long the oldest table has been there beyond its time, in milliseconds; 0: none is. Tables of messages are not looked at:
 * they may have some that are to be kept longer. They go with the attempts of their day.
 */
export function overdueMs(tables: readonly DayTable[], nowMs: number, retention: Retention): number {
  const due = dueTables(tables, nowMs, retention).filter(({ parent }) => parent !== 'message')
  return Math.max(0, ...due.map((table) => nowMs - endOf(table, retention)))
}

/** How many days from tomorrow on have their tables; what is of another day goes into the tables of what belongs to none. */
export function daysWithTables(tables: readonly DayTable[], nowMs: number): number {
  const whole = tables.filter(({ attached, part }) => attached && part === 'whole')
  const there = new Set(whole.map(({ parent, dayMs }) => `${parent} ${dayMs}`))
  const tomorrowMs = (Math.floor(nowMs / DAY_MS) + 1) * DAY_MS
  let days = 0
  while (['message', 'attempt'].every((parent) => there.has(`${parent} ${tomorrowMs + days * DAY_MS}`))) days++
  return days
}
