import { LIMITS } from '../domain/limits.ts'
import { floorTo, GRAIN_MS, type Span } from '../domain/rollups.ts'
import type { Queryable } from './pool.ts'
import type { Record } from './records.ts'

/**
 * Writes attempts; where that is long after they were made (Postgres could not be reached, a process stood still), has their minutes
 * rolled up again. Marks are made before the write, since a process may be killed after it, and are heeded when it is usually over;
 * and again after one that took long.
 */
export async function writeMarkingLate<T>(db: Queryable, records: readonly Record[], write: () => Promise<T>): Promise<T> {
  const beganAtMs = Date.now()
  await markLate(db, records, beganAtMs)
  const written = await write()
  const endedAtMs = Date.now()
  if (endedAtMs - beganAtMs > LIMITS.rollupSettleMs) await markLate(db, records, endedAtMs)
  return written
}

async function markLate(db: Queryable, records: readonly Record[], nowMs: number): Promise<void> {
  const lateBeforeMs = nowMs - LIMITS.rollupLateMs
  const isLate = ({ attempt }: Record) => attempt !== undefined && attempt.createdAtMs < lateBeforeMs
  if (!records.some(isLate)) return
  await markMinutes(
    db,
    records.filter(isLate).map(({ attempt }) => floorTo('minute', attempt!.createdAtMs)),
  )
}

async function markMinutes(db: Queryable, minutesMs: readonly number[]): Promise<void> {
  await db.query({
    name: 'rollup-mark-late',
    text: 'INSERT INTO rollup_late (minute) SELECT to_timestamp(ms / 1000) FROM unnest($1::float8[]) ms',
    values: [[...new Set(minutesMs)]],
  })
}

/** Has all minutes of a span rolled up again, by the next turns. @returns how many; those of the future are none */
export async function markSpan(db: Queryable, { fromMs, untilMs }: Span): Promise<number> {
  const { rowCount } = await db.query(
    `INSERT INTO rollup_late (minute, marked_at)
     SELECT to_timestamp(ms / 1000), '-infinity' FROM generate_series($1::float8::bigint, $2::float8::bigint - 1, $3::bigint) ms`,
    [floorTo('minute', fromMs), untilMs, GRAIN_MS.minute],
  )
  return rowCount ?? 0
}
