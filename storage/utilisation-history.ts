import type { EndpointUse } from '../domain/endpoint-advice.ts'
import { LATENCY_BOUNDS_MS, percentileMs } from '../domain/health.ts'
import type { HourOfUse } from '../domain/right-sizing.ts'
import { cut } from '../domain/rollups.ts'
import type { Queryable } from './pool.ts'
import { readRolledUp, rollupsOf, spansOf } from './statistics.ts'

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

interface EndpointRow {
  endpoint_id: string
  app_id: string
  attempts: number
  duration_ms: number
  durations: number[]
  slow: boolean
  queued: boolean
}

/** Endpoints that are told of, those with the most attempts. */
const ENDPOINTS_TOLD = 500
const CLASSES = Array.from({ length: LATENCY_BOUNDS_MS.length + 1 }, (_, i) => `sum(durations[${i + 1}])`).join(', ')

/**
 * How endpoints were used between two times, from rollups: whole minutes, of which some are left out at the end, as they are not
 * rolled up yet. Rates are of the time that is. A p95 is as exact as the classes that times are counted in.
 */
export async function readEndpointUse(
  db: Queryable,
  { since, until }: { readonly since: Date; readonly until: Date },
  { endpoints = ENDPOINTS_TOLD, nowMs = Date.now() }: { readonly endpoints?: number; readonly nowMs?: number } = {},
): Promise<EndpointUse[]> {
  const rolledUp = await readRolledUp(db)
  const fromMs = Math.max(since.getTime(), rolledUp.beginsMs)
  const untilMs = Math.min(until.getTime(), rolledUp.throughMs)
  if (fromMs >= untilMs) return []
  const { rows } = await db.query<EndpointRow>({
    text: `WITH used AS (
        SELECT of_id AS endpoint_id, sum(attempts) AS attempts, sum(duration_ms) AS duration_ms, ARRAY[${CLASSES}] AS durations
        FROM (${rollupsOf(2, 'r.of_id, r.attempts, r.duration_ms, r.durations::bigint[] AS durations', `r.of_id >= 'ep_' AND r.of_id < 'ep\`'`)}) rollup
        GROUP BY of_id HAVING sum(attempts) > 0
      )
      SELECT endpoint_id, e.app_id, attempts::float8, duration_ms::float8, durations::float8[],
        state.slow_since IS NOT NULL AS slow, e.batching IS NOT NULL OR e.ordering <> 'none' AS queued
      FROM used JOIN endpoint e ON e.id = used.endpoint_id AND e.deleted_at IS NULL
      LEFT JOIN endpoint_state state USING (endpoint_id)
      ORDER BY used.attempts DESC LIMIT $1`,
    values: [endpoints, ...spansOf(cut({ fromMs, untilMs }, rolledUp, 'day', nowMs))],
  })
  return rows.map(({ attempts, ...row }) => ({
    endpointId: row.endpoint_id,
    appId: row.app_id,
    attempts,
    perS: (attempts * 1000) / (untilMs - fromMs),
    meanMs: row.duration_ms / attempts,
    p95Ms: percentileMs(row.durations, 0.95) ?? 0,
    slow: row.slow,
    queued: row.queued,
  }))
}
