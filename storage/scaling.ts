import { LIMITS } from '../domain/limits.ts'
import type { ScalingDecision, ScalingSample } from '../domain/scaling.ts'
import type { Pool, Queryable } from './pool.ts'

/** What waits in Postgres. */
export interface WaitingRows {
  /** For a worker; and how long the oldest of it has. */
  readonly depth: number
  readonly oldestMs: number
  /** For its endpoint: its rate limit or breaker, or what is before it in its order. */
  readonly rateLimited: number
}

// A bucket that gave all it had a moment ago is what holds its endpoint's deliveries; one that was not asked, or had more than
// was asked for, holds none. Rows that were never attempted and are not due wait for a rate or a breaker, however long that is.
// Only the head of an ordered queue can be sent, and of each key one.
const WAITING = `
WITH counted AS (
  SELECT count(*) AS rows, min(created_at) AS oldest FROM (SELECT created_at FROM outbox LIMIT $1) few
), box AS (
  SELECT m.endpoint_id, e.ordering, coalesce(s.breaker, 'closed') <> 'closed' OR EXISTS (
    SELECT FROM token_bucket b WHERE b.key IN ('endpoint ' || e.id, 'application ' || e.app_id, 'retry ' || e.id)
      AND b.tokens < 1 AND b.at > now() - interval '2 s'
  ) AS held
  FROM mailbox m JOIN endpoint e ON e.id = m.endpoint_id LEFT JOIN endpoint_state s ON s.endpoint_id = m.endpoint_id
  WHERE NOT m.idle AND (m.wake_at IS NULL OR m.wake_at <= now() + interval '2 s' OR s.breaker <> 'closed')
), boxes AS (
  SELECT box.held, due.rows, due.oldest,
    CASE WHEN box.held THEN 0 WHEN box.ordering = 'fifo' THEN least(due.rows, 1) WHEN box.ordering = 'fifo-by-key' THEN due.lines ELSE due.rows END AS free
  FROM box, LATERAL (
    SELECT count(*) AS rows, min(next_at) AS oldest, count(DISTINCT ordering_key) + count(*) FILTER (WHERE ordering_key IS NULL) AS lines
    FROM (
      SELECT next_at, ordering_key FROM delivery d
      WHERE d.endpoint_id = box.endpoint_id AND d.state = 'parked' AND (d.next_at <= now() OR (box.held AND d.attempts = 0)) LIMIT $1
    ) few
  ) due
)
SELECT counted.rows + coalesce(sum(boxes.free), 0)::bigint AS depth, coalesce(sum(boxes.rows - boxes.free), 0)::bigint AS "rateLimited",
  greatest(0, extract(epoch FROM now() - least(counted.oldest, min(boxes.oldest) FILTER (WHERE boxes.free > 0))) * 1000)::float8 AS "oldestMs"
FROM counted LEFT JOIN boxes ON true GROUP BY counted.rows, counted.oldest`

/** Counts what waits. Of the outbox, and of each endpoint, no more than `LIMITS.scalingRowsCounted` is counted. */
export async function readWaiting(db: Queryable): Promise<WaitingRows> {
  const { rows } = await db.query<Omit<WaitingRows, 'oldestMs'> & { oldestMs: number | null }>({
    name: 'scaling-waiting',
    text: WAITING,
    values: [LIMITS.scalingRowsCounted],
  })
  return { ...rows[0]!, oldestMs: rows[0]!.oldestMs ?? 0 }
}

/** Keeps a sample, and drops those that are older than `LIMITS.scalingKeptMs`. The same one is kept once. */
export async function keepSample(db: Queryable, pool: string, sample: ScalingSample): Promise<void> {
  await db.query({
    name: 'scaling-sample-keep',
    text: `WITH old AS (DELETE FROM scaling_sample WHERE pool = $1 AND at < now() - $13 * interval '1 ms')
      INSERT INTO scaling_sample (pool, at, workers, wanted, depth, rate_limited, oldest_s, utilisation, first_request_p99_ms,
        attempts, endpoint_failures, own_failures)
      VALUES ($1, to_timestamp($2::float8 / 1000), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING`,
    values: [
      pool,
      sample.atMs,
      sample.ready,
      sample.workers,
      sample.depth,
      sample.rateLimited,
      sample.oldestMs / 1000,
      sample.utilisation,
      sample.firstRequestP99Ms,
      sample.attempts,
      sample.endpointFailures,
      sample.ownFailures,
      LIMITS.scalingKeptMs,
    ],
  })
}

/** Keeps a decision with the sample that it was made by. The same one is kept once. */
export async function keepDecision(db: Queryable, pool: string, decision: ScalingDecision, sample: ScalingSample | null): Promise<void> {
  const { atMs, from, to, action, rule, reason } = decision
  await db.query({
    name: 'scaling-decision-keep',
    text: `WITH old AS (DELETE FROM scaling_decision WHERE pool = $1 AND at < now() - $9 * interval '1 ms')
      INSERT INTO scaling_decision (pool, at, from_workers, to_workers, action, rule, reason, sample)
      VALUES ($1, to_timestamp($2::float8 / 1000), $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
    values: [pool, atMs, from, to, action, rule, reason, sample, LIMITS.scalingKeptMs],
  })
}

/** The newest decisions, the newest first. @param max rows */
export async function readDecisions(pool: Pool, name: string, max: number): Promise<ScalingDecision[]> {
  const { rows } = await pool.query<Omit<ScalingDecision, 'atMs'> & { at: Date }>(
    `SELECT at, from_workers AS "from", to_workers AS "to", action, rule, reason FROM scaling_decision
     WHERE pool = $1 ORDER BY at DESC, id DESC LIMIT $2`,
    [name, max],
  )
  return rows.map(({ at, ...rest }) => ({ atMs: at.getTime(), ...rest }))
}
