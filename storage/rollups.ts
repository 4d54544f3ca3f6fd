import { LATENCY_BOUNDS_MS } from '../domain/health.ts'
import { lowestIdAt } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import { STATUS_FAIL, STATUS_SUCCESS } from '../domain/outcome.ts'
import { GRAIN_MS, planTurn, type Grain, type RolledUp, type Span, type Turn } from '../domain/rollups.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'
import { createRollupPartitions, ROLLUP_TABLES } from './rollup-partitions.ts'

/** What a turn has done; undefined: nothing was to be done, or another process has the turn. */
export interface TurnDone {
  readonly throughMs: number
  /** Minutes computed, and rows written of all grains. */
  readonly minutes: number
  readonly rows: number
  /** Whether there is more to do at once. */
  readonly more: boolean
}

interface ProgressRow {
  begins_ms: number
  through_ms: number
  now_ms: number
}

const MS_OF = (column: string) => `(extract(epoch FROM ${column}) * 1000)::float8`

/** So that endpoints are counted in memory rather than sorted on disk. */
const TURN_WORK_MEM_MB = 64

/**
 * Rolls up the next minutes, and hours and days that they complete, in one transaction. Whoever holds the lock of the progress has
 * the turn: a process that dies leaves all as it was. Repeating a turn has no effect.
 * @param nowMs the time, of Postgres unless given
 */
export async function rollUp(pool: Pool, nowMs?: number): Promise<TurnDone | undefined> {
  const startedAtMs = performance.now()
  return inTransaction(pool, async (client) => {
    await client.query(`SET LOCAL work_mem = '${TURN_WORK_MEM_MB}MB'`)
    await client.query(`SET LOCAL statement_timeout = ${LIMITS.rollupStatementMs}`)
    await client.query(`SET LOCAL idle_in_transaction_session_timeout = ${LIMITS.rollupStandstillMs}`)
    const { rows } = await client.query<ProgressRow>({
      name: 'rollup-turn',
      text: `SELECT ${MS_OF('begins')} AS begins_ms, ${MS_OF('through')} AS through_ms, ${MS_OF('now()')} AS now_ms
        FROM rollup_progress FOR UPDATE SKIP LOCKED`,
    })
    const [progress] = rows
    if (progress === undefined) return undefined
    const known: RolledUp = { beginsMs: progress.begins_ms, throughMs: progress.through_ms }
    const late = await takeLate(client)
    const turn = planTurn(known, late, nowMs ?? progress.now_ms)
    if (turn === undefined) return undefined
    const written = await writeTurn(client, turn)
    await client.query('UPDATE rollup_progress SET through = to_timestamp($1::float8 / 1000), turned_at = now(), turn_ms = $2', [
      turn.throughMs,
      Math.round(performance.now() - startedAtMs),
    ])
    const minutes = turn.minutes.reduce((sum, span) => sum + (span.untilMs - span.fromMs) / GRAIN_MS.minute, 0)
    const more = turn.throughMs - known.throughMs >= LIMITS.rollupTurnMinutes * GRAIN_MS.minute || late.length >= LIMITS.rollupTurnMinutes
    return { throughMs: turn.throughMs, minutes, rows: written, more }
  })
}

/** Takes marks of some minutes that were made so long ago that what they were made for is committed. @returns beginnings of the minutes */
async function takeLate(client: Queryable): Promise<number[]> {
  const { rows } = await client.query<{ ms: number }>({
    name: 'rollup-take-late',
    text: `WITH aged AS (
        SELECT DISTINCT minute FROM rollup_late WHERE marked_at < now() - $1 * interval '1 ms' ORDER BY minute LIMIT $2
      )
      DELETE FROM rollup_late l USING aged WHERE l.minute = aged.minute AND l.marked_at < now() - $1 * interval '1 ms'
      RETURNING ${MS_OF('l.minute')} AS ms`,
    values: [LIMITS.rollupLateMs, LIMITS.rollupTurnMinutes],
  })
  return [...new Set(rows.map((row) => row.ms))]
}

async function writeTurn(client: Queryable, { minutes, hours, days, throughMs }: Turn): Promise<number> {
  await createRollupPartitions(client, { fromMs: minutes[0]!.fromMs, untilMs: throughMs })
  let rows = 0
  for (const span of minutes) rows += (await countAttempts(client, span)) + (await countDeadLetters(client, span))
  for (const span of hours) rows += await sumUp(client, 'minute', 'hour', span)
  for (const span of days) rows += await sumUp(client, 'hour', 'day', span)
  return rows
}

const CLASSES = Array.from({ length: LATENCY_BOUNDS_MS.length + 1 }, (_, i) => i)
const SUMS = 'attempts, delivered, failed, duration_ms, durations'
/** Only what differs is written: a turn that finds nothing new leaves nothing behind. */
const replacing = (columns: string) =>
  `ON CONFLICT (of_id, at) DO UPDATE SET ${columns
    .split(', ')
    .map((column) => `${column} = excluded.${column}`)
    .join(', ')}
  WHERE (${columns.replaceAll(/\w+/g, 'r.$&')}) IS DISTINCT FROM (${columns.replaceAll(/\w+/g, 'excluded.$&')})`

// The minute is that of the id, as everywhere where attempts are bounded by time. A class has its bound: width_bucket counts what
// is at a threshold as above it. Applications are summed from endpoints, so that each attempt is counted once.
const COUNT_ATTEMPTS = `
WITH counted AS MATERIALIZED (
  SELECT width_bucket(id, $1::text[] COLLATE "C") AS n, endpoint_id, app_id, count(*) AS attempts,
    count(*) FILTER (WHERE status = ${STATUS_SUCCESS}) AS delivered,
    count(*) FILTER (WHERE status = ${STATUS_FAIL} AND next_attempt_at IS NULL) AS failed, sum(duration_ms) AS duration_ms,
    ${CLASSES.map((i) => `count(*) FILTER (WHERE class = ${i}) AS class_${i}`).join(', ')}
  FROM (
    SELECT *, width_bucket(duration_ms, ARRAY[${LATENCY_BOUNDS_MS.map((ms) => ms + 1).join(', ')}]) AS class
    FROM attempt WHERE id >= $2 AND id < $3
  ) a
  GROUP BY n, endpoint_id, app_id
)
INSERT INTO rollup_minute AS r (of_id, at, ${SUMS})
SELECT coalesce(endpoint_id, app_id), to_timestamp($4::float8 / 1000) + (n - 1) * interval '1 minute', sum(attempts), sum(delivered),
  sum(failed), sum(duration_ms), ARRAY[${CLASSES.map((i) => `sum(class_${i})`).join(', ')}]::integer[]
FROM counted GROUP BY GROUPING SETS ((n, endpoint_id), (n, app_id))
${replacing(SUMS)}`

/** @param span whole minutes */
async function countAttempts(client: Queryable, { fromMs, untilMs }: Span): Promise<number> {
  const minutes = Array.from({ length: (untilMs - fromMs) / GRAIN_MS.minute }, (_, i) => fromMs + i * GRAIN_MS.minute)
  const lows = minutes.map((ms) => lowestIdAt('atmpt', ms))
  const { rowCount } = await client.query({
    name: 'rollup-attempts',
    text: COUNT_ATTEMPTS,
    values: [lows, lows[0], lowestIdAt('atmpt', untilMs), fromMs],
  })
  return rowCount ?? 0
}

// One that was put back meanwhile has died nevertheless: what was counted stays.
const COUNT_DEAD_LETTERS = `
INSERT INTO rollup_minute AS r (of_id, at, ${SUMS}, dead_letters)
SELECT coalesce(endpoint_id, app_id), at, 0, 0, 0, 0, '{${CLASSES.map(() => 0).join(',')}}'::integer[], count(*)
FROM (
  SELECT endpoint_id, app_id, date_trunc('minute', updated_at) AS at FROM delivery
  WHERE state = 'dead' AND updated_at >= to_timestamp($1::float8 / 1000) AND updated_at < to_timestamp($2::float8 / 1000)
) d
GROUP BY GROUPING SETS ((at, endpoint_id), (at, app_id))
ON CONFLICT (of_id, at) DO UPDATE SET dead_letters = excluded.dead_letters WHERE r.dead_letters < excluded.dead_letters`

async function countDeadLetters(client: Queryable, { fromMs, untilMs }: Span): Promise<number> {
  const { rowCount } = await client.query({ name: 'rollup-dead-letters', text: COUNT_DEAD_LETTERS, values: [fromMs, untilMs] })
  return rowCount ?? 0
}

async function sumUp(client: Queryable, from: Grain, to: Grain, { fromMs, untilMs }: Span): Promise<number> {
  const [source, target] = [ROLLUP_TABLES[from].table, ROLLUP_TABLES[to].table]
  const { rowCount } = await client.query({
    name: `rollup-${to}`,
    text: `INSERT INTO ${target} AS r (of_id, at, ${SUMS}, dead_letters)
      SELECT of_id, date_trunc('${to}', at, 'UTC') AS begins, sum(attempts), sum(delivered), sum(failed), sum(duration_ms),
        ARRAY[${CLASSES.map((i) => `sum(durations[${i + 1}])`).join(', ')}]::${to === 'day' ? 'bigint' : 'integer'}[], sum(dead_letters)
      FROM ${source} WHERE at >= to_timestamp($1::float8 / 1000) AND at < to_timestamp($2::float8 / 1000)
      GROUP BY of_id, begins
      ${replacing(`${SUMS}, dead_letters`)}`,
    values: [fromMs, untilMs],
  })
  return rowCount ?? 0
}

export interface RollupProgress extends RolledUp {
  readonly turnedAtMs: number | null
  /** How long the last turn took. */
  readonly turnMs: number | null
  /** Minutes that are going to be computed anew, and those of them that an operator asked for. */
  readonly late: number
  readonly asked: number
}

export async function readProgress(db: Queryable): Promise<RollupProgress> {
  const { rows } = await db.query<RollupProgress>({
    name: 'rollup-progress',
    text: `SELECT ${MS_OF('begins')} AS "beginsMs", ${MS_OF('through')} AS "throughMs", ${MS_OF('turned_at')} AS "turnedAtMs",
        turn_ms AS "turnMs", (SELECT count(DISTINCT minute) FROM rollup_late) AS late,
        (SELECT count(DISTINCT minute) FROM rollup_late WHERE marked_at = '-infinity') AS asked
      FROM rollup_progress`,
  })
  return rows[0]!
}
