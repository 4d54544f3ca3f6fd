import { lowestIdAt } from '../domain/ids.ts'
import type { EndpointUse } from '../domain/endpoint-advice.ts'
import type { HourOfUse } from '../domain/right-sizing.ts'
import type { Queryable } from './pool.ts'

/** A pool of workers as the autoscaler's samples have it. */
export interface PoolUse {
  readonly pool: string
  readonly samples: number
  readonly hours: readonly HourOfUse[]
}

interface PoolRow {
  pool: string
  hour: number
  samples: number
  workers: number
  busy: number
  busy_p95: number
}

/**
 * What the autoscaler has sampled since then, by pool and hour of the day (UTC). A sample that does not say how busy the workers
 * were counts for none.
 * @param since reads a row for each sample since then: a week of them are 40,000 a pool
 */
export async function readPoolUse(db: Queryable, since: Date): Promise<PoolUse[]> {
  // Samples of one pool are found by (pool, at): pools are few, and their names are taken one by one from that index.
  const { rows } = await db.query<PoolRow>({
    text: `WITH RECURSIVE pools AS (
        (SELECT pool FROM scaling_sample ORDER BY pool LIMIT 1)
        UNION ALL
        SELECT (SELECT s.pool FROM scaling_sample s WHERE s.pool > pools.pool ORDER BY s.pool LIMIT 1) FROM pools WHERE pools.pool IS NOT NULL
      )
      SELECT s.pool, extract(hour FROM s.at AT TIME ZONE 'UTC')::int AS hour, count(*)::int AS samples, avg(s.workers)::float8 AS workers,
        avg(s.workers * s.utilisation)::float8 AS busy,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY s.workers * s.utilisation)::float8 AS busy_p95
      FROM pools JOIN scaling_sample s ON s.pool = pools.pool
      WHERE s.at >= $1 AND s.utilisation IS NOT NULL
      GROUP BY s.pool, hour ORDER BY s.pool, hour`,
    values: [since],
  })
  return [...new Set(rows.map(({ pool }) => pool))].map((pool) => {
    const own = rows.filter((row) => row.pool === pool)
    const hours = own.map(({ hour, samples, workers, busy, busy_p95: busyP95 }) => ({ hour, samples, workers, busy, busyP95 }))
    return { pool, samples: own.reduce((sum, { samples }) => sum + samples, 0), hours }
  })
}

/** How much of the attempts is looked at. */
export interface AttemptSampling {
  /** The time since then is cut into so many parts; of each the first attempts are read. */
  readonly slices: number
  readonly attemptsPerSlice: number
  /** Endpoints that are told of, those with the most attempts. */
  readonly endpoints: number
}

export const ATTEMPT_SAMPLING: AttemptSampling = { slices: 100, attemptsPerSlice: 1000, endpoints: 500 }

interface EndpointRow {
  endpoint_id: string
  app_id: string
  attempts: number
  per_s: number
  mean_ms: number
  p95_ms: number
  slow: boolean
  queued: boolean
}

/** Of fewer messages than that, each with many deliveries, the time between them says nothing: they count for a second at least. */
const MESSAGES_THAT_TIME = 10

/**
 * How endpoints were used between two times, from samples of the attempts: reads at most `slices × attemptsPerSlice` rows, each
 * slice a range of the primary key (ids begin with their time). A slice that is full counts for as long as its rows took.
 */
export async function readEndpointUse(
  db: Queryable,
  { since, until }: { readonly since: Date; readonly until: Date },
  { slices, attemptsPerSlice, endpoints }: AttemptSampling = ATTEMPT_SAMPLING,
): Promise<EndpointUse[]> {
  const stepMs = (until.getTime() - since.getTime()) / slices
  const bounds = Array.from({ length: slices + 1 }, (_, i) => since.getTime() + i * stepMs)
  const ids = bounds.map((ms) => lowestIdAt('msg', ms))
  const { rows } = await db.query<EndpointRow>({
    text: `WITH slice AS (
        SELECT n, low, high FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS given (low, high, n)
      ), sampled AS MATERIALIZED (
        SELECT slice.n, a.endpoint_id, a.app_id, a.duration_ms, a.message_id
        FROM slice CROSS JOIN LATERAL (
          SELECT endpoint_id, app_id, duration_ms, message_id FROM attempt
          WHERE message_id >= slice.low AND message_id < slice.high ORDER BY message_id, id LIMIT $3
        ) a
      ), full_until AS (
        SELECT n, max(message_id) AS last, count(DISTINCT message_id) AS messages FROM sampled GROUP BY n HAVING count(*) >= $3
      ), covered AS (
        SELECT slice.n, CASE WHEN m.created_at IS NULL THEN $4::float8
          ELSE greatest(CASE WHEN f.messages >= ${MESSAGES_THAT_TIME} THEN 0.001 ELSE 1 END, extract(epoch FROM m.created_at) - $5::float8 - (slice.n - 1) * $4::float8) END AS seconds
        FROM slice LEFT JOIN full_until f USING (n) LEFT JOIN message m ON m.id = f.last
      ), used AS (
        SELECT endpoint_id, min(app_id) AS app_id, count(*)::int AS attempts, sum(1 / c.seconds) / $6::float8 AS per_s,
          avg(duration_ms)::float8 AS mean_ms, percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms)::float8 AS p95_ms
        FROM sampled JOIN covered c USING (n) GROUP BY endpoint_id ORDER BY per_s DESC LIMIT $7
      )
      SELECT used.*, state.slow_since IS NOT NULL AS slow, e.batching IS NOT NULL OR e.ordering <> 'none' AS queued
      FROM used JOIN endpoint e ON e.id = used.endpoint_id AND e.deleted_at IS NULL
      LEFT JOIN endpoint_state state ON state.endpoint_id = e.id
      ORDER BY used.per_s DESC`,
    values: [ids.slice(0, -1), ids.slice(1), attemptsPerSlice, stepMs / 1000, since.getTime() / 1000, slices, endpoints],
  })
  return rows.map((row) => ({
    endpointId: row.endpoint_id,
    appId: row.app_id,
    attempts: row.attempts,
    perS: row.per_s,
    meanMs: row.mean_ms,
    p95Ms: row.p95_ms,
    slow: row.slow,
    queued: row.queued,
  }))
}
