import { LATENCY_BOUNDS_MS, RECENT_SLOTS, SLOT_MS, SLOTS, type HealthWindow } from '../domain/health.ts'
import type { Pool, Queryable } from './pool.ts'

/** The shared window of one endpoint. */
export interface EndpointWindow {
  readonly endpointId: string
  readonly appId: string
  readonly window: HealthWindow
  /** Since when it counts (`EndpointState.countsFromMs`). */
  readonly countsFromMs: number
}

export const SUCCESSES = 0
export const FAILURES = 1
export const RATE_LIMITED = 2
export const OVERLOADED = 3
export const IN_FLIGHT = 4
export const LATENCIES = 5
export const COUNTERS = [
  'successes',
  'failures',
  'rate_limited',
  'overloaded',
  'in_flight',
  ...LATENCY_BOUNDS_MS.map((ms) => `within_${ms}`),
  `over_${LATENCY_BOUNDS_MS.at(-1)}`,
]

/** What was counted of one endpoint since the last write. */
export interface Pending {
  readonly appId: string
  readonly slots: Map<number, number[]>
  succeeded: boolean
  /** Failures since the last success. */
  failures: number
  failingSinceMs: number
}

/** `endpoint_state.counts_from` as `EndpointState` has it. */
export const countsFromMsOf = (state: string) => `coalesce(floor(extract(epoch FROM ${state}.counts_from) * 1000), 0)::float8`

const sum = (counter: string, where = '') => `sum(${counter})${where === '' ? '' : ` FILTER (WHERE ${where})`}`
// A request lasts a minute at most.
const REQUEST_SLOTS = 7

/** Merges rows `slots` (endpoint_id, epoch, counters); $1 is the epoch now. */
const MERGED = `
  SELECT endpoint_id, ${[SUCCESSES, FAILURES, RATE_LIMITED].map((i) => `${sum(COUNTERS[i]!)} AS ${COUNTERS[i]!}`).join(', ')},
    ARRAY[${COUNTERS.slice(LATENCIES)
      .map((counter) => sum(counter))
      .join(', ')}]::int[] AS latencies,
    greatest(0, ${sum('in_flight', `epoch > $1::bigint - ${REQUEST_SLOTS}`)}) AS in_flight,
    ${sum('successes', `epoch > $1::bigint - ${RECENT_SLOTS}`)} AS recent_successes,
    ${sum('failures', `epoch > $1::bigint - ${RECENT_SLOTS}`)} AS recent_failures,
    ${sum('overloaded', `epoch > $1::bigint - ${RECENT_SLOTS}`)} AS recent_overloaded
  FROM slots WHERE epoch > $1::bigint - ${SLOTS} GROUP BY endpoint_id`

const COLUMNS = `endpoint_id, epoch, ${COUNTERS.join(', ')}`

// What was counted before the time from which an endpoint's counts say something, by a process that has not heard of it yet, is
// left out; requests on their way are not. Rows are locked in the order of their keys. The rows of the ring that the statement changes are not seen changed by its own
// SELECT: their new version is what the INSERT returns.
const ADD_COUNTS = `
WITH told AS (
  SELECT t.*, ${countsFromMsOf('s')} AS counts_from_ms
  FROM unnest($${COUNTERS.length + 4}::text[], $${COUNTERS.length + 5}::text[], $${COUNTERS.length + 6}::boolean[],
    $${COUNTERS.length + 7}::int[], $${COUNTERS.length + 8}::float8[], $${COUNTERS.length + 9}::float8[])
    AS t (endpoint_id, app_id, succeeded, failures, since_ms, known_from_ms)
  LEFT JOIN endpoint_state s USING (endpoint_id)
), last AS (
  SELECT endpoint_id, app_id, counts_from_ms, succeeded AND NOT overtaken AS succeeded, CASE WHEN overtaken THEN 0 ELSE failures END AS failures,
    since_ms, overtaken
  FROM told, LATERAL (SELECT counts_from_ms > known_from_ms AS overtaken) o
), counted AS (
  SELECT t.endpoint_id, epoch, ${COUNTERS.map((counter) => (counter === 'in_flight' ? `t.${counter}` : `CASE WHEN overtaken THEN 0 ELSE t.${counter} END`)).join(', ')}
  FROM unnest($2::text[], $3::bigint[], ${COUNTERS.map((_, i) => `$${i + 4}::int[]`).join(', ')}) AS t (${COLUMNS}) JOIN last USING (endpoint_id)
), added AS (
  INSERT INTO endpoint_health AS h (slot, ${COLUMNS})
  SELECT epoch % ${SLOTS}, counted.* FROM counted ORDER BY endpoint_id, epoch
  ON CONFLICT (endpoint_id, slot) DO UPDATE SET epoch = excluded.epoch,
    ${COUNTERS.map((counter) => `${counter} = excluded.${counter} + CASE WHEN h.epoch = excluded.epoch THEN h.${counter} ELSE 0 END`).join(',\n    ')}
  WHERE h.epoch <= excluded.epoch
  RETURNING slot, ${COLUMNS}
), well AS (
  DELETE FROM endpoint_failing f USING last WHERE f.endpoint_id = last.endpoint_id AND last.succeeded AND last.failures = 0
), failing AS (
  INSERT INTO endpoint_failing AS f (endpoint_id, app_id, consecutive_failures, since)
  SELECT endpoint_id, app_id, failures, to_timestamp(since_ms / 1000) FROM last WHERE failures > 0 ORDER BY endpoint_id
  ON CONFLICT (endpoint_id) DO UPDATE SET (consecutive_failures, since, told_at) = (
    SELECT CASE WHEN succeeded THEN 0 ELSE f.consecutive_failures END + excluded.consecutive_failures,
      CASE WHEN succeeded THEN excluded.since ELSE f.since END, CASE WHEN succeeded THEN NULL ELSE f.told_at END
    FROM last WHERE last.endpoint_id = excluded.endpoint_id)
  RETURNING endpoint_id, consecutive_failures, since, told_at
), slots AS (
  SELECT ${COLUMNS} FROM added
  UNION ALL
  SELECT ${COLUMNS} FROM endpoint_health h WHERE h.endpoint_id IN (SELECT endpoint_id FROM last)
    AND NOT EXISTS (SELECT FROM added WHERE added.endpoint_id = h.endpoint_id AND added.slot = h.slot)
), merged AS (${MERGED})
SELECT last.app_id, last.counts_from_ms, merged.*, now_failing.consecutive_failures, now_failing.since, now_failing.told_at
FROM merged JOIN last USING (endpoint_id)
LEFT JOIN (
  SELECT * FROM failing
  UNION ALL
  SELECT f.endpoint_id, f.consecutive_failures, f.since, f.told_at FROM endpoint_failing f JOIN last USING (endpoint_id)
  WHERE NOT last.succeeded AND last.failures = 0
) now_failing USING (endpoint_id)`

interface WindowRow {
  app_id: string
  endpoint_id: string
  counts_from_ms: number
  successes: number
  failures: number
  rate_limited: number
  latencies: number[]
  in_flight: number | null
  recent_successes: number | null
  recent_failures: number | null
  recent_overloaded: number | null
  consecutive_failures: number | null
  since: Date | null
  told_at: Date | null
}

/** @param countsFromMs that the counts were made with */
export async function addCounts(
  pool: Pool,
  counted: ReadonlyMap<string, Pending>,
  countsFromMs: (endpointId: string) => number,
): Promise<EndpointWindow[]> {
  const slots = [...counted].flatMap(([id, one]) => [...one.slots].map(([epoch, counters]) => ({ id, epoch, counters })))
  const endpoints = [...counted]
  const { rows } = await pool.query<WindowRow>({
    name: 'health-add',
    text: ADD_COUNTS,
    values: [
      Math.floor(Date.now() / SLOT_MS),
      slots.map(({ id }) => id),
      slots.map(({ epoch }) => epoch),
      ...COUNTERS.map((_, i) => slots.map(({ counters }) => counters[i])),
      endpoints.map(([id]) => id),
      endpoints.map(([, one]) => one.appId),
      endpoints.map(([, one]) => one.succeeded),
      endpoints.map(([, one]) => one.failures),
      endpoints.map(([, one]) => one.failingSinceMs),
      endpoints.map(([id]) => countsFromMs(id)),
    ],
  })
  return rows.map((row) => ({
    endpointId: row.endpoint_id,
    appId: row.app_id,
    window: toWindow(row),
    countsFromMs: row.counts_from_ms,
  }))
}

function toWindow(row: WindowRow): HealthWindow {
  const recentSuccesses = row.recent_successes ?? 0
  return {
    successes: row.successes,
    failures: row.failures,
    rateLimited: row.rate_limited,
    latencies: row.latencies,
    inFlight: row.in_flight ?? 0,
    recent: {
      successes: recentSuccesses,
      overloaded: row.recent_overloaded ?? 0,
      attempts: recentSuccesses + (row.recent_failures ?? 0),
    },
    consecutiveFailures: row.consecutive_failures ?? 0,
    failingSinceMs: row.since?.getTime() ?? null,
    toldOfDisablingMs: row.told_at?.getTime() ?? null,
  }
}

const NOTHING_COUNTED: WindowRow = {
  app_id: '',
  endpoint_id: '',
  counts_from_ms: 0,
  successes: 0,
  failures: 0,
  rate_limited: 0,
  latencies: Array<number>(LATENCY_BOUNDS_MS.length + 1).fill(0),
  in_flight: 0,
  recent_successes: 0,
  recent_failures: 0,
  recent_overloaded: 0,
  consecutive_failures: 0,
  since: null,
  told_at: null,
}

/** The window of one endpoint as it is in Postgres. */
export async function readHealth(db: Queryable, endpointId: string): Promise<HealthWindow> {
  const { rows } = await db.query<Partial<WindowRow>>({
    name: 'health-read',
    text: `WITH slots AS (SELECT ${COLUMNS} FROM endpoint_health WHERE endpoint_id = $2), merged AS (${MERGED})
      SELECT merged.*, f.consecutive_failures, f.since, f.told_at
      FROM (SELECT $2::text AS endpoint_id) asked LEFT JOIN merged USING (endpoint_id) LEFT JOIN endpoint_failing f USING (endpoint_id)`,
    values: [Math.floor(Date.now() / SLOT_MS), endpointId],
  })
  const known = Object.entries(rows[0] ?? {}).filter(([, value]) => value !== null)
  return toWindow({ ...NOTHING_COUNTED, ...Object.fromEntries(known) })
}

/**
 * The window begins anew: what came before says nothing about an endpoint whose breaker has opened, or closed. Requests on their
 * way stay counted: each is taken out by the process that made it.
 */
export async function forgetWindow(db: Queryable, endpointId: string): Promise<void> {
  const counters = COUNTERS.filter((counter) => counter !== 'in_flight')
  await db.query({
    name: 'health-forget',
    // In the order in which rows are added.
    text: `WITH known AS (SELECT slot FROM endpoint_health WHERE endpoint_id = $1 ORDER BY epoch FOR UPDATE)
      UPDATE endpoint_health h SET ${counters.map((counter) => `${counter} = 0`).join(', ')}
      FROM known WHERE h.endpoint_id = $1 AND h.slot = known.slot`,
    values: [endpointId],
  })
}

/** Removes what lies outside every window, and buckets that are full again. */
export async function forgetOldCounts(pool: Pool): Promise<void> {
  await pool.query('DELETE FROM endpoint_health WHERE epoch < $1', [Math.floor(Date.now() / SLOT_MS) - 2 * SLOTS])
  await pool.query(`DELETE FROM token_bucket WHERE at < now() - interval '10 minutes'`)
}
