import { LATENCY_BOUNDS_MS, percentileMs } from '../domain/health.ts'
import type { Queryable } from './pool.ts'

/** What does not change while a process runs. */
export interface WorkerIdentity {
  readonly id: string
  readonly roles: readonly string[]
  readonly lanes: readonly string[]
  readonly host: string
  readonly pid: number
  readonly version: string
  readonly startedAtMs: number
  /** How often it writes its row. */
  readonly reportMs: number
}

/** What a process did since its last report. */
export interface WorkerReport {
  /** Share of the event loop's time, 0 to 1. */
  readonly utilisation: number
  /** Requests in flight in the fullest lane, on average, and how many there may be. */
  readonly slotsUsed: number
  readonly slots: number
  readonly attempts: number
  readonly endpointFailures: number
  readonly ownFailures: number
  /** First requests in the classes of `LATENCY_BOUNDS_MS`. */
  readonly firstRequests: readonly number[]
}

// Who has not written for so many of its reports is gone.
const SILENT_REPORTS = 3
const FORGET_AFTER = `interval '1 hour'`
const IS_LIVE = `seen_at > now() - ${SILENT_REPORTS} * report_ms * interval '1 ms'`

/** Writes a process's row. */
export async function reportWorker(db: Queryable, worker: WorkerIdentity, report: WorkerReport): Promise<void> {
  await db.query({
    name: 'worker-report',
    text: `INSERT INTO worker (id, roles, lanes, host, pid, version, started_at, seen_at, report_ms, utilisation, slots_used, slots,
        attempts, endpoint_failures, own_failures, first_requests)
      VALUES ($1, $2, $3, $4, $5, $6, to_timestamp($7::float8 / 1000), now(), $8, $9, $10, $11, $12, $13, $14, $15)
      ON CONFLICT (id) DO UPDATE SET seen_at = now(), utilisation = excluded.utilisation, slots_used = excluded.slots_used,
        slots = excluded.slots, attempts = excluded.attempts, endpoint_failures = excluded.endpoint_failures,
        own_failures = excluded.own_failures, first_requests = excluded.first_requests`,
    values: [
      worker.id,
      worker.roles,
      worker.lanes,
      worker.host,
      worker.pid,
      worker.version,
      worker.startedAtMs,
      worker.reportMs,
      report.utilisation,
      report.slotsUsed,
      report.slots,
      report.attempts,
      report.endpointFailures,
      report.ownFailures,
      report.firstRequests,
    ],
  })
}

/** The process stops. Rows of processes that are long gone leave too. */
export async function forgetWorker(db: Queryable, id: string): Promise<void> {
  await db.query(
    `DELETE FROM worker WHERE id IN (
      SELECT id FROM worker WHERE id = $1 OR seen_at < now() - ${FORGET_AFTER} ORDER BY id FOR UPDATE SKIP LOCKED
    )`,
    [id],
  )
}

/** What the workers that run have reported last, together. */
export interface Fleet {
  readonly workers: number
  /** Mean over the workers of what each has less of, time or slots; null without a worker. */
  readonly utilisation: number | null
  readonly firstRequestP99Ms: number | null
  readonly firstRequests: number
  readonly attempts: number
  readonly endpointFailures: number
  readonly ownFailures: number
}

export async function readFleet(db: Queryable): Promise<Fleet> {
  const classes = LATENCY_BOUNDS_MS.map((_, i) => i + 1).concat(LATENCY_BOUNDS_MS.length + 1)
  const { rows } = await db.query<Omit<Fleet, 'firstRequestP99Ms' | 'firstRequests'> & { classes: number[] }>({
    name: 'worker-fleet',
    text: `SELECT count(*)::int AS workers, avg(greatest(utilisation, slots_used / greatest(slots, 1))) AS utilisation,
        coalesce(sum(attempts), 0)::int AS attempts, coalesce(sum(endpoint_failures), 0)::int AS "endpointFailures",
        coalesce(sum(own_failures), 0)::int AS "ownFailures",
        ARRAY[${classes.map((i) => `coalesce(sum(first_requests[${i}]), 0)::int`).join(', ')}] AS classes
      FROM worker WHERE ${IS_LIVE}`,
  })
  const { classes: latencies, ...fleet } = rows[0]!
  return {
    ...fleet,
    firstRequestP99Ms: percentileMs(latencies, 0.99) ?? null,
    firstRequests: latencies.reduce((sum, count) => sum + count, 0),
  }
}
