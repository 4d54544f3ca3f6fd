import { LIMITS } from '../domain/limits.ts'
import { floorTo, GRAIN_MS, type Span } from '../domain/rollups.ts'
import type { Queryable } from './pool.ts'
import type { Record } from './records.ts'

/**
 * Where attempts are recorded long after they were made (Postgres could not be reached, a process stood still), has their minutes
 * rolled up again. To be called before they are written: a mark is heeded so much later that the write is over.
 */
export async function markLateRecords(db: Queryable, records: readonly Record[], nowMs: number = Date.now()): Promise<void> {
  const lateFromMs = nowMs - LIMITS.rollupLateMs
  if (!records.some(({ attempt }) => attempt !== undefined && attempt.createdAtMs < lateFromMs)) return
  const times = records.flatMap(({ attempt }) => (attempt === undefined ? [] : [attempt.createdAtMs])).filter((ms) => ms < lateFromMs)
  await markMinutes(
    db,
    times.map((ms) => floorTo('minute', ms)),
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
