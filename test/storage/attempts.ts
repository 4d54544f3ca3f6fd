import { randomUUID } from 'node:crypto'
import { newId } from '../../domain/ids.ts'
import { LATENCY_BOUNDS_MS } from '../../domain/health.ts'
import type { Grain } from '../../domain/rollups.ts'
import type { Pool } from '../../storage/pool.ts'

export interface MadeAttempt {
  readonly atMs: number
  readonly endpointId: string
  readonly appId: string
  readonly delivered: boolean
  /** Whether another attempt follows. */
  readonly again: boolean
  readonly durationMs: number
}

/** So many attempts at random times of a span, of five endpoints of two applications. */
export function randomAttempts(count: number, fromMs: number, untilMs: number): MadeAttempt[] {
  return Array.from({ length: count }, () => {
    const endpoint = Math.floor(Math.random() * 5)
    const delivered = Math.random() < 0.7
    return {
      atMs: fromMs + Math.floor(Math.random() * (untilMs - fromMs)),
      endpointId: `ep_${endpoint}`,
      appId: `app_${endpoint % 2}`,
      delivered,
      again: !delivered && Math.random() < 0.5,
      durationMs: Math.floor(Math.random() ** 4 * 40_000),
    }
  })
}

export async function insertAttempts(pool: Pool, attempts: readonly MadeAttempt[]): Promise<void> {
  const column = <T>(read: (attempt: MadeAttempt) => T) => attempts.map(read)
  await pool.query(
    `INSERT INTO attempt (message_id, id, endpoint_id, app_id, event_type, url, status, response_code, response_body, duration_ms, trigger,
       group_id, run_id, next_attempt_at, created_at)
     SELECT m, id, e, a, 'x', 'https://example.com', CASE WHEN ok THEN 0 ELSE 2 END, 200, '', d, 0, m, $8::uuid,
       CASE WHEN again THEN to_timestamp(at / 1000) END, to_timestamp(at / 1000)
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::boolean[], $7::int[], $9::float8[])
       AS t (m, id, e, a, ok, again, d, at)`,
    [
      column(() => newId('msg')),
      column(({ atMs }) => newId('atmpt', atMs)),
      column(({ endpointId }) => endpointId),
      column(({ appId }) => appId),
      column(({ delivered }) => delivered),
      column(({ again }) => again),
      column(({ durationMs }) => durationMs),
      randomUUID(),
      column(({ atMs }) => atMs),
    ],
  )
}

/** What rollups of a grain must be before that time, from raw attempts by `created_at`, in the shape of `rolledUp`. */
export async function countedRaw(pool: Pool, grain: Grain, untilMs: number): Promise<unknown[]> {
  const classes = [...LATENCY_BOUNDS_MS, 1e9].map(
    (bound, i) => `count(*) FILTER (WHERE d <= ${bound} AND d > ${LATENCY_BOUNDS_MS[i - 1] ?? -1})`,
  )
  const { rows } = await pool.query(
    `SELECT of_id, date_trunc($1, created_at, 'UTC') AS at, count(*) AS attempts, count(*) FILTER (WHERE status = 0) AS delivered,
       count(*) FILTER (WHERE status = 2 AND next_attempt_at IS NULL) AS failed, sum(d)::float8 AS duration_ms,
       ARRAY[${classes.join(', ')}]::float8[] AS durations
     FROM (
       SELECT endpoint_id AS of_id, created_at, status, next_attempt_at, duration_ms AS d FROM attempt
       UNION ALL SELECT app_id, created_at, status, next_attempt_at, duration_ms FROM attempt
     ) a WHERE created_at < to_timestamp($2::float8 / 1000) GROUP BY 1, 2 ORDER BY 1, 2`,
    [grain, untilMs],
  )
  return rows
}

export async function rolledUp(pool: Pool, grain: Grain): Promise<unknown[]> {
  const { rows } = await pool.query(
    `SELECT of_id, at, attempts, delivered, failed, duration_ms, durations::float8[] FROM rollup_${grain} WHERE attempts > 0 ORDER BY 1, 2`,
  )
  return rows.map((row: { attempts: number; delivered: number; failed: number }) => row)
}
