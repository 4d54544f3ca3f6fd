import type { Pool } from './pool.ts'

/** What waits in Postgres. No count is above the bound that it was read with, but for dead letters. */
export interface QueueDepth {
  /** Rows of the outbox: accepted, and without a record of a first attempt yet. */
  readonly outbox: number
  /** How long the oldest of them has been there; 0 where there is none. */
  readonly oldestS: number
  /** Deliveries that wait in mailboxes until they are due, and those that are. */
  readonly later: number
  readonly due: number
  /** How long the delivery that has been due longest has been so; 0 where none is. */
  readonly overdueS: number
  /** Exact up to the bound, above it as Postgres last estimated it. */
  readonly deadLetters: number
}

interface DepthRow {
  outbox: number
  oldest_s: number
  parked: number
  due: number
  overdue_s: number
  dead: number
  dead_estimate: number
}

/** Reads index entries alone, so many of each kind at most: what is counted may be millions. */
export async function readQueueDepth(pool: Pool, max: number): Promise<QueueDepth> {
  const { rows } = await pool.query<DepthRow>({
    name: 'queue-depth',
    text: `WITH waiting AS MATERIALIZED (SELECT created_at FROM outbox LIMIT $1),
        parked AS MATERIALIZED (SELECT next_at FROM delivery WHERE state = 'parked' LIMIT $1),
        dead AS MATERIALIZED (SELECT FROM delivery WHERE state = 'dead' LIMIT $1)
      SELECT count(*)::int AS outbox, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_s,
        (SELECT count(*)::int FROM parked) AS parked,
        (SELECT count(*)::int FROM parked WHERE next_at <= now()) AS due,
        (SELECT coalesce(extract(epoch FROM now() - min(next_at)), 0)::float8 FROM parked WHERE next_at <= now()) AS overdue_s,
        (SELECT count(*)::int FROM dead) AS dead,
        (SELECT reltuples::float8 FROM pg_class WHERE oid = 'delivery_dead'::regclass) AS dead_estimate
      FROM waiting`,
    values: [max],
  })
  const row = rows[0]!
  return {
    outbox: row.outbox,
    oldestS: Math.max(0, row.oldest_s),
    later: row.parked - row.due,
    due: row.due,
    overdueS: Math.max(0, row.overdue_s),
    deadLetters: row.dead < max ? row.dead : Math.max(row.dead, row.dead_estimate),
  }
}
