import type { Logger } from 'pino'
import {
  LATENCY_BOUNDS_MS,
  latencyClassOf,
  RECENT_SLOTS,
  SLOT_MS,
  SLOTS,
  tallyOf,
  tipsOver,
  type HealthRules,
  type HealthWindow,
} from '../domain/health.ts'
import type { AttemptOutcome } from '../domain/outcome.ts'
import { isPassingFault } from './faults.ts'
import type { Pool, Queryable } from './pool.ts'

interface Named {
  readonly id: string
  readonly appId: string
}

/** The shared window of one endpoint. */
export interface EndpointWindow {
  readonly endpointId: string
  readonly appId: string
  readonly window: HealthWindow
}

/** Counts what this process's requests come to, and shares it with all others. */
export interface EndpointHealth {
  /** A request begins. @returns what is to be told its outcome, once */
  begin(endpoint: Named): (outcome: AttemptOutcome) => void
  /** The shared window, as of the last time that this process added to it; undefined where it has not sent to the endpoint. */
  window(endpointId: string): HealthWindow | undefined
  /**
   * Where what is not shared yet makes an endpoint's failures too many it is shared at once, so that no burst goes to an
   * endpoint that has just failed.
   * @returns after it was judged; undefined, without any I/O, where there is no need
   */
  tipping(endpointId: string): Promise<void> | undefined
  /** Adds what is left, and stops. */
  stop(): Promise<void>
}

export interface EndpointHealthDependencies {
  readonly pool: Pool
  readonly log: Logger
  readonly health: Pick<HealthRules, 'minAttempts' | 'failureRate'>
  /** Given the windows of all endpoints that were added to, after each write; the next write waits for it. */
  readonly onWindows: (windows: readonly EndpointWindow[]) => Promise<void>
}

// Failures, and requests that take their time, are shared at once; successes alone can wait a little.
const URGENT_MS = 500
const CALM_MS = 2000
// What has been sent to for longer than the window is forgotten beyond this number.
const WINDOWS_MAX = 20_000

const SUCCESSES = 0
const FAILURES = 1
const RATE_LIMITED = 2
const OVERLOADED = 3
const IN_FLIGHT = 4
const LATENCIES = 5
const COUNTERS = [
  'successes',
  'failures',
  'rate_limited',
  'overloaded',
  'in_flight',
  ...LATENCY_BOUNDS_MS.map((ms) => `within_${ms}`),
  `over_${LATENCY_BOUNDS_MS.at(-1)}`,
]

/** What was counted of one endpoint since the last write. */
interface Pending {
  readonly appId: string
  readonly slots: Map<number, number[]>
  succeeded: boolean
  /** Failures since the last success. */
  failures: number
  failingSinceMs: number
}

export function createEndpointHealth(deps: EndpointHealthDependencies): EndpointHealth {
  const windows = new Map<string, HealthWindow>()
  let pending = new Map<string, Pending>()
  let timer: NodeJS.Timeout | undefined
  let dueMs = Infinity
  let flushing: Promise<void> | undefined

  const schedule = (afterMs: number) => {
    const atMs = Date.now() + afterMs
    if (atMs >= dueMs) return
    dueMs = atMs
    clearTimeout(timer)
    timer = setTimeout(() => void flush(), afterMs)
  }
  const flush = async (): Promise<void> => {
    dueMs = Infinity
    if (flushing !== undefined) return schedule(URGENT_MS)
    if (pending.size === 0) return
    const counted = pending
    pending = new Map()
    flushing = share(deps, counted, windows).then((shared) => {
      if (!shared) for (const [id, one] of counted) merge(pending, id, one)
    })
    await flushing
    flushing = undefined
    if (pending.size > 0) schedule(URGENT_MS)
  }
  let sharing: Promise<void> | undefined
  const shareNow = async () => {
    while (flushing !== undefined) await flushing
    await flush()
  }
  return {
    begin(endpoint) {
      const begunIn = Math.floor(Date.now() / SLOT_MS)
      slotOf(pending, endpoint, begunIn).slot[IN_FLIGHT]!++
      schedule(CALM_MS)
      return (outcome) => {
        const nowMs = Date.now()
        // Taken out of the slot that it was added to: what a process that died has left leaves with its slot.
        slotOf(pending, endpoint, begunIn).slot[IN_FLIGHT]!--
        const said = tallyOf(outcome)
        if (said !== undefined) count(slotOf(pending, endpoint, Math.floor(nowMs / SLOT_MS)), said, outcome.durationMs, nowMs)
        schedule(said?.success === false ? URGENT_MS : CALM_MS)
      }
    },
    window: (endpointId) => windows.get(endpointId),
    tipping(endpointId) {
      const one = pending.get(endpointId)
      if (one === undefined || one.failures === 0 || !tipsOver(windows.get(endpointId), totalOf(one), deps.health)) return undefined
      sharing ??= shareNow().finally(() => (sharing = undefined))
      return sharing
    },
    async stop() {
      await flushing
      clearTimeout(timer)
      await flush()
      clearTimeout(timer)
    },
  }
}

function count(
  { one, slot }: { one: Pending; slot: number[] },
  said: { success: boolean; rateLimited: boolean; overloaded: boolean },
  durationMs: number,
  nowMs: number,
): void {
  slot[said.success ? SUCCESSES : FAILURES]!++
  if (said.rateLimited) slot[RATE_LIMITED]!++
  if (said.overloaded) slot[OVERLOADED]!++
  slot[LATENCIES + latencyClassOf(durationMs)]!++
  if (said.success) {
    one.succeeded = true
    one.failures = 0
  } else if (one.failures++ === 0) one.failingSinceMs = nowMs
}

function slotOf(pending: Map<string, Pending>, endpoint: Named, epoch: number): { one: Pending; slot: number[] } {
  let one = pending.get(endpoint.id)
  if (one === undefined) {
    one = { appId: endpoint.appId, slots: new Map(), succeeded: false, failures: 0, failingSinceMs: 0 }
    pending.set(endpoint.id, one)
  }
  let slot = one.slots.get(epoch)
  if (slot === undefined) {
    slot = Array<number>(COUNTERS.length).fill(0)
    one.slots.set(epoch, slot)
  }
  return { one, slot }
}

function totalOf({ slots }: Pending): { successes: number; failures: number } {
  let [successes, failures] = [0, 0]
  for (const slot of slots.values()) {
    successes += slot[SUCCESSES]!
    failures += slot[FAILURES]!
  }
  return { successes, failures }
}

/** Puts counts back that could not be written, under those that came since. */
function merge(pending: Map<string, Pending>, endpointId: string, older: Pending): void {
  const newer = pending.get(endpointId)
  if (newer === undefined) {
    pending.set(endpointId, older)
    return
  }
  for (const [epoch, counters] of older.slots) {
    const slot = newer.slots.get(epoch)
    if (slot === undefined) newer.slots.set(epoch, counters)
    else counters.forEach((value, i) => (slot[i]! += value))
  }
  if (newer.succeeded) return
  newer.succeeded = older.succeeded
  if (older.failures > 0) newer.failingSinceMs = older.failingSinceMs
  newer.failures += older.failures
}

/** @returns whether it was written, or never can be */
async function share(
  deps: EndpointHealthDependencies,
  counted: Map<string, Pending>,
  windows: Map<string, HealthWindow>,
): Promise<boolean> {
  try {
    const merged = await addCounts(deps.pool, counted)
    if (windows.size + merged.length > WINDOWS_MAX) windows.clear()
    for (const { endpointId, window } of merged) windows.set(endpointId, window)
    await deps.onWindows(merged).catch((error: unknown) => deps.log.warn({ err: error }, 'endpoint-health.not-acted-on'))
    return true
  } catch (error) {
    deps.log.warn({ err: error }, 'endpoint-health.not-shared')
    return !isPassingFault(error)
  }
}

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

// Rows are locked in the order of their keys. The rows of the ring that the statement changes are not seen changed by its own
// SELECT: their new version is what the INSERT returns.
const ADD_COUNTS = `
WITH counted AS (
  SELECT * FROM unnest($2::text[], $3::bigint[], ${COUNTERS.map((_, i) => `$${i + 4}::int[]`).join(', ')}) AS t (${COLUMNS})
), added AS (
  INSERT INTO endpoint_health AS h (slot, ${COLUMNS})
  SELECT epoch % ${SLOTS}, ${COLUMNS} FROM counted ORDER BY endpoint_id, epoch
  ON CONFLICT (endpoint_id, slot) DO UPDATE SET epoch = excluded.epoch,
    ${COUNTERS.map((counter) => `${counter} = excluded.${counter} + CASE WHEN h.epoch = excluded.epoch THEN h.${counter} ELSE 0 END`).join(',\n    ')}
  WHERE h.epoch <= excluded.epoch
  RETURNING slot, ${COLUMNS}
), last AS (
  SELECT * FROM unnest($${COUNTERS.length + 4}::text[], $${COUNTERS.length + 5}::text[], $${COUNTERS.length + 6}::boolean[],
    $${COUNTERS.length + 7}::int[], $${COUNTERS.length + 8}::float8[]) AS t (endpoint_id, app_id, succeeded, failures, since_ms)
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
SELECT last.app_id, merged.*, now_failing.consecutive_failures, now_failing.since, now_failing.told_at
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

async function addCounts(pool: Pool, counted: ReadonlyMap<string, Pending>): Promise<EndpointWindow[]> {
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
    ],
  })
  return rows.map((row) => ({ endpointId: row.endpoint_id, appId: row.app_id, window: toWindow(row) }))
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

/** The window begins anew: what came before says nothing about an endpoint whose breaker has opened, or closed. */
export async function forgetWindow(db: Queryable, endpointId: string): Promise<void> {
  await db.query('DELETE FROM endpoint_health WHERE endpoint_id = $1', [endpointId])
}

/** Removes what lies outside every window, and buckets that are full again. */
export async function forgetOldCounts(pool: Pool): Promise<void> {
  await pool.query('DELETE FROM endpoint_health WHERE epoch < $1', [Math.floor(Date.now() / SLOT_MS) - 2 * SLOTS])
  await pool.query(`DELETE FROM token_bucket WHERE at < now() - interval '10 minutes'`)
}
