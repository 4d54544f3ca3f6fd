import { LATENCY_BOUNDS_MS } from '../domain/health.ts'
import { lowestIdAt } from '../domain/ids.ts'
import { STATUS_FAIL, STATUS_SUCCESS } from '../domain/outcome.ts'
import { cut, GRAINS, type Grain, type Parts, type RolledUp, type Span } from '../domain/rollups.ts'
import type { Queryable } from './pool.ts'
import { ROLLUP_TABLES } from './rollup-partitions.ts'

/** What was attempted in some time. */
export interface Counts {
  readonly attempts: number
  readonly delivered: number
  /** Attempts that did not deliver and after which nothing follows. */
  readonly failed: number
  readonly deadLetters: number
  /** Of all attempts together. */
  readonly durationMs: number
  /** Attempts by how long they took, in the classes of `LATENCY_BOUNDS_MS`. */
  readonly durations: readonly number[]
}

export interface Point extends Counts {
  readonly atMs: number
}

export async function readRolledUp(db: Queryable): Promise<RolledUp> {
  const { rows } = await db.query<RolledUp>({
    name: 'statistics-rolled-up',
    text: `SELECT (extract(epoch FROM begins) * 1000)::float8 AS "beginsMs", (extract(epoch FROM through) * 1000)::float8 AS "throughMs"
      FROM rollup_progress`,
  })
  return rows[0]!
}

const CLASSES = Array.from({ length: LATENCY_BOUNDS_MS.length + 1 }, (_, i) => `sum(durations[${i + 1}])`).join(', ')
// Sums of bigint are numeric, which takes several times as long; counts are exact in float8 up to 2^53.
const SUMS = `sum(attempts) AS attempts, sum(delivered) AS delivered, sum(failed) AS failed, sum(dead_letters) AS "deadLetters",
  sum(duration_ms) AS "durationMs", ARRAY[${CLASSES}] AS durations`

const bounds = (spans: readonly Span[]) => [spans.map((span) => span.fromMs), spans.map((span) => span.untilMs)]

/** Rows of all grains that lie in the spans of $first and the parameters after it: two for each grain. */
export function rollupsOf(first: number, columns: string, where: string): string {
  return GRAINS.map(
    (grain, i) => `SELECT ${columns} FROM unnest($${first + 2 * i}::float8[], $${first + 1 + 2 * i}::float8[]) AS part (low, high)
    JOIN ${ROLLUP_TABLES[grain].table} r ON r.at >= to_timestamp(part.low / 1000) AND r.at < to_timestamp(part.high / 1000) AND ${where}`,
  ).join('\nUNION ALL\n')
}

/** The values of `rollupsOf`. */
export function spansOf(parts: Parts): number[][] {
  return GRAINS.flatMap((grain) => bounds(parts[grain]))
}

const COLUMNS = `r.at, ${['attempts', 'delivered', 'failed', 'dead_letters', 'duration_ms'].map((column) => `r.${column}::float8`).join(', ')},
  r.durations::float8[] AS durations`

/**
 * The points of an endpoint or application, of `grain`; what is not rolled up yet is left out. A point without an attempt or a
 * dead letter is absent.
 */
export async function readPoints(db: Queryable, ofId: string, parts: Parts, grain: Grain): Promise<Point[]> {
  const { rows } = await db.query<Point>({
    name: 'statistics-points',
    text: `SELECT (extract(epoch FROM date_trunc($2, at, 'UTC')) * 1000)::float8 AS "atMs", ${SUMS}
      FROM (${rollupsOf(3, COLUMNS, 'r.of_id = $1')}) rollup GROUP BY 1 ORDER BY 1`,
    values: [ofId, grain, ...spansOf(parts)],
  })
  return rows
}

/** What was attempted in the same time at two places. */
export function addPoints(a: Point, b: Point): Point {
  return {
    atMs: a.atMs,
    attempts: a.attempts + b.attempts,
    delivered: a.delivered + b.delivered,
    failed: a.failed + b.failed,
    deadLetters: a.deadLetters + b.deadLetters,
    durationMs: a.durationMs + b.durationMs,
    durations: a.durations.map((count, i) => count + b.durations[i]!),
  }
}

export interface StatusCounts {
  readonly success: number
  readonly fail: number
}

/** Attempts of an endpoint by status, exact to the millisecond that ids have: rollups, and raw attempts of what they do not have. */
export async function countByStatus(db: Queryable, endpointId: string, span: Span, nowMs: number): Promise<StatusCounts> {
  const parts = cut(span, await readRolledUp(db), 'day', nowMs)
  const [lows, highs] = bounds(parts.raw).map((times) => times.map((ms) => lowestIdAt('atmpt', ms)))
  const { rows } = await db.query<StatusCounts>({
    name: 'statistics-by-status',
    text: `SELECT coalesce(sum(success), 0)::float8 AS success, coalesce(sum(fail), 0)::float8 AS fail FROM (
        ${rollupsOf(4, 'r.delivered AS success, r.attempts - r.delivered AS fail', 'r.of_id = $1')}
        UNION ALL
        SELECT count(*) FILTER (WHERE a.status = ${STATUS_SUCCESS}), count(*) FILTER (WHERE a.status = ${STATUS_FAIL})
        FROM unnest($2::text[], $3::text[]) AS part (low, high) JOIN attempt a ON a.endpoint_id = $1 AND a.id >= part.low AND a.id < part.high
      ) counts`,
    values: [endpointId, lows, highs, ...spansOf(parts)],
  })
  return rows[0]!
}
