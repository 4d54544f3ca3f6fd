import { DEFAULT_ORGANISATION } from '../domain/default-organisation.ts'
import { lowestIdAt, newId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import { beginReconcile, type ReconcileProgress, type ReconcileRequest, type Unsettled } from '../domain/reconcile.ts'
import type { PayloadFilter } from '../domain/routing.ts'
import { insertTask } from './background-tasks.ts'
import { compileFilter } from './payload-filter.ts'
import type { Pool, Queryable } from './pool.ts'
import type { MailboxWake } from './records.ts'
import { SUBSCRIBED } from './replay.ts'

// Any number that nothing else locks.
const LOCK = 7_405_021
/** Above every endpoint's id. */
const LAST_ENDPOINT = '~'
/** The clocks that stamp messages (the API's) and endpoints (Postgres') may differ by so much. */
const CLOCKS_DIFFER_MS = 1000

/** A row of the outbox is named after its message, or after message, endpoint and what asked for it: `/` is followed by `0`. */
function inOutbox(messageId: string, endpointId: string): string {
  return `(EXISTS (SELECT FROM outbox o WHERE o.id = ${messageId}) OR EXISTS (SELECT FROM outbox o
    WHERE o.id > ${messageId} || '/' || ${endpointId} || '/' AND o.id < ${messageId} || '/' || ${endpointId} || '0'))`
}

// What is routed is known of today's endpoints alone. Of those that came or were enabled after the message it is known that they
// did not get it; of those that were changed in another way, or came at the same time, it is not known. Cancelled and expired messages go nowhere, and
// what waits for its time has a row.
const PAGE = `
WITH page AS MATERIALIZED (
  SELECT id, app_id, event_type, channels, live.payload, deliver_at, cancelled_at, accepted_in, live.payload IS NOT NULL AS sendable,
    coalesce(deliver_at, created_at) AS routed_at
  FROM message m CROSS JOIN LATERAL (SELECT payload_at(now(), m.id, m.expires_at, m.payload) AS payload) live
  WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3
), delivered AS MATERIALIZED (
  SELECT DISTINCT a.message_id, a.endpoint_id FROM page JOIN attempt a ON a.message_id = page.id AND a.id >= earliest_attempt($1) WHERE a.status = 0
), noted AS MATERIALIZED (
  SELECT d.message_id, d.endpoint_id, d.state, d.attempts, d.group_id FROM page JOIN delivery d ON d.message_id = page.id
), unsettled AS (
  SELECT 'retrying' AS kind, n.message_id, n.endpoint_id, n.attempts, n.group_id, NULL AS event_type, NULL::text[] AS channels, NULL AS filter,
    NULL AS payload
  FROM noted n WHERE n.state = 'retrying' AND NOT ${inOutbox('n.message_id', 'n.endpoint_id')}
  UNION ALL
  SELECT CASE WHEN e.updated_at > page.routed_at THEN 'changed' ELSE 'missing' END, page.id, e.id, 0, NULL, page.event_type, page.channels,
    e.filter, CASE WHEN e.filter IS NOT NULL THEN page.payload END
  FROM page JOIN endpoint e ON e.app_id = page.app_id
  WHERE page.sendable AND e.deleted_at IS NULL AND NOT e.disabled AND e.created_at <= page.routed_at + interval '${CLOCKS_DIFFER_MS} ms'
    AND (e.disabled_at IS NULL OR e.disabled_at <= page.routed_at) AND ${SUBSCRIBED}
    AND NOT EXISTS (SELECT FROM delivered d WHERE d.message_id = page.id AND d.endpoint_id = e.id)
    AND NOT EXISTS (SELECT FROM noted n WHERE n.message_id = page.id AND n.endpoint_id = e.id)
    AND NOT EXISTS (SELECT FROM scheduled_message s WHERE s.message_id = page.id)
    AND NOT EXISTS (SELECT FROM handed_over h WHERE h.message_id = page.id AND e.id = ANY (h.endpoint_ids) AND h.state = 'handed')
    AND NOT ${inOutbox('page.id', 'e.id')}
)
SELECT 'page' AS kind, max(id) AS message_id, NULL AS endpoint_id, count(*) FILTER (WHERE id > $1)::int AS attempts, NULL AS group_id,
  NULL AS event_type, NULL::text[] AS channels, NULL AS filter, NULL AS payload FROM page
UNION ALL
SELECT * FROM (
  SELECT * FROM unsettled WHERE (message_id, endpoint_id) > ($1, $4) ORDER BY message_id, endpoint_id LIMIT $5
) one`

interface PageRow {
  readonly kind: 'page' | Unsettled['kind']
  readonly message_id: string | null
  readonly endpoint_id: string
  readonly attempts: number
  readonly group_id: string
  readonly event_type: string
  readonly channels: readonly string[] | null
  readonly filter: string | null
  readonly payload: string | null
}

export interface UnsettledPage {
  /** Messages that were not on a page before. */
  readonly messages: number
  readonly deliveries: readonly Unsettled[]
  /** Where to go on; undefined at the end. */
  readonly next: { readonly after: string; readonly afterEndpointId: string | null } | undefined
}

/**
 * Reads the next messages, and which of their deliveries are neither recorded as delivered, nor dead, skipped, cancelled or
 * parked, nor in the outbox: by today's endpoints, as far as those were there when the message was routed. One statement.
 * @param from the last message seen, with the last endpoint where not all of its deliveries were
 * @param untilId exclusive
 */
export async function readUnsettled(
  db: Queryable,
  from: { readonly after: string; readonly afterEndpointId: string | null },
  untilId: string,
): Promise<UnsettledPage> {
  const most = LIMITS.reconcileDeliveries
  const { rows } = await db.query<PageRow>({
    name: 'reconcile-page',
    text: PAGE,
    values: [from.after, untilId, LIMITS.reconcileMessages, from.afterEndpointId ?? LAST_ENDPOINT, most],
  })
  const page = rows.find((row) => row.kind === 'page')!
  const found = rows.filter((row) => row.kind !== 'page')
  const takes = createTakes()
  const deliveries = found.filter((row) => row.filter === null || takes(row.filter, row)).map(toUnsettled)
  const last = found.length < most ? undefined : found.reduce((a, b) => (isAfter(a, b) ? a : b))
  if (last !== undefined)
    return { messages: page.attempts, deliveries, next: { after: last.message_id!, afterEndpointId: last.endpoint_id } }
  const next = page.attempts === 0 ? undefined : { after: page.message_id!, afterEndpointId: null }
  return { messages: page.attempts, deliveries, next }
}

function isAfter(a: PageRow, b: PageRow): boolean {
  return a.message_id === b.message_id ? a.endpoint_id > b.endpoint_id : a.message_id! > b.message_id!
}

function toUnsettled(row: PageRow): Unsettled {
  const delivery = { messageId: row.message_id!, endpointId: row.endpoint_id }
  if (row.kind === 'retrying') return { kind: 'retrying', ...delivery, groupId: row.group_id, attempts: row.attempts }
  return { kind: row.kind === 'changed' ? 'changed' : 'missing', ...delivery }
}

/** Compiles each filter once. */
function createTakes() {
  const compiled = new Map<string, PayloadFilter>()
  return (text: string, { event_type: eventType, channels, payload }: PageRow): boolean => {
    let filter = compiled.get(text)
    if (filter === undefined) compiled.set(text, (filter = compileFilter(text)))
    return filter({ eventType, channels, payload })
  }
}

/**
 * Puts deliveries into the outbox of which still nothing is known.
 * @param request names the reconciliation: it puts a delivery in once
 * @returns how many
 */
export async function putBack(
  db: Queryable,
  deliveries: readonly Pick<Unsettled, 'messageId' | 'endpointId'>[],
  request: string,
): Promise<number> {
  const { rowCount } = await db.query({
    name: 'reconcile-put',
    text: `INSERT INTO outbox (id, message_id, app_id, event_type, endpoint_id, trigger, retried, priority)
      SELECT m.id || '/' || asked.endpoint_id || '/' || $1, m.id, m.app_id, m.event_type, asked.endpoint_id, 0, true, m.priority
      FROM unnest($2::text[], $3::text[]) AS asked (message_id, endpoint_id) JOIN message m ON m.id = asked.message_id
      WHERE m.cancelled_at IS NULL
        AND NOT EXISTS (SELECT FROM attempt a WHERE a.message_id = m.id AND a.id >= earliest_attempt(m.id) AND a.endpoint_id || '' = asked.endpoint_id
          AND a.status = 0)
        AND NOT EXISTS (SELECT FROM delivery d WHERE d.message_id = m.id AND d.endpoint_id = asked.endpoint_id)
        AND NOT ${inOutbox('m.id', 'asked.endpoint_id')}
      ORDER BY m.id, asked.endpoint_id ON CONFLICT DO NOTHING`,
    values: [request, deliveries.map((one) => one.messageId), deliveries.map((one) => one.endpointId)],
  })
  return rowCount ?? 0
}

/**
 * Leaves deliveries that wait for a retry to their endpoints' mailboxes, as far as nobody has gone on with them: requests made,
 * due time and trigger stay as they are.
 * @returns how many, and the mailboxes that have to be woken
 */
export async function parkRetrying(
  db: Queryable,
  deliveries: readonly Extract<Unsettled, { kind: 'retrying' }>[],
): Promise<{ parked: number; wakes: MailboxWake[] }> {
  const { rows } = await db.query<{ parked: number; endpoint_id: string | null; wake_at: Date }>({
    name: 'reconcile-park',
    text: `WITH waiting AS MATERIALIZED (
        SELECT d.message_id, d.endpoint_id FROM delivery d
        JOIN unnest($1::text[], $2::text[], $3::text[], $4::int[]) AS asked (message_id, endpoint_id, group_id, attempts)
          ON d.message_id = asked.message_id AND d.endpoint_id = asked.endpoint_id
        WHERE d.state = 'retrying' AND d.group_id = asked.group_id AND d.attempts = asked.attempts
        ORDER BY d.message_id, d.endpoint_id FOR UPDATE OF d
      ), parked AS (
        UPDATE delivery d SET state = 'parked', next_at = coalesce(d.next_at, now()), updated_at = now() FROM waiting
        WHERE d.message_id = waiting.message_id AND d.endpoint_id = waiting.endpoint_id RETURNING d.endpoint_id, d.next_at
      ), boxes AS (
        INSERT INTO mailbox (endpoint_id, idle, wake_at)
        SELECT endpoint_id, false, min(next_at) FROM parked GROUP BY endpoint_id ORDER BY endpoint_id
        ON CONFLICT (endpoint_id) DO UPDATE SET idle = false, wake_at = excluded.wake_at
        WHERE mailbox.idle OR mailbox.wake_at IS NULL OR mailbox.wake_at > excluded.wake_at
        RETURNING endpoint_id, wake_at
      )
      SELECT (SELECT count(*)::int FROM parked) AS parked, boxes.endpoint_id, boxes.wake_at FROM (SELECT) one LEFT JOIN boxes ON true`,
    values: [
      deliveries.map((one) => one.messageId),
      deliveries.map((one) => one.endpointId),
      deliveries.map((one) => one.groupId),
      deliveries.map((one) => one.attempts),
    ],
  })
  const wakes = rows.flatMap((row) => (row.endpoint_id === null ? [] : [{ endpointId: row.endpoint_id, wakeAtMs: row.wake_at.getTime() }]))
  return { parked: rows[0]!.parked, wakes }
}

/** An endpoint at which something waits. */
export interface WaitingMailbox extends MailboxWake {
  /** What waits longest is due, or the mailbox does not know that something waits. */
  readonly wanted: boolean
}

/** Endpoints with parked deliveries, by id: jumps from one to the next in an index. */
export async function readWaitingMailboxes(db: Queryable, afterEndpointId: string, limit: number): Promise<WaitingMailbox[]> {
  const next = (after: string) => `SELECT d.endpoint_id, d.next_at FROM delivery d WHERE d.state = 'parked' AND d.endpoint_id > ${after}
    ORDER BY d.endpoint_id, d.next_at LIMIT 1`
  const { rows } = await db.query<{ endpoint_id: string; next_at: Date; wanted: boolean }>({
    name: 'reconcile-mailboxes',
    text: `WITH RECURSIVE box AS ((${next('$1')}) UNION ALL SELECT later.* FROM box, LATERAL (${next('box.endpoint_id')}) later)
      SELECT box.endpoint_id, box.next_at, box.next_at <= now() OR m.idle IS NOT FALSE OR m.wake_at IS NULL AS wanted
      FROM (SELECT * FROM box LIMIT $2) box LEFT JOIN mailbox m ON m.endpoint_id = box.endpoint_id ORDER BY box.endpoint_id`,
    values: [afterEndpointId, limit],
  })
  return rows.map((row) => ({ endpointId: row.endpoint_id, wakeAtMs: row.next_at.getTime(), wanted: row.wanted }))
}

/** Has mailboxes know that something waits: those that nobody wakes are woken by the sweep. */
export async function noteWaiting(db: Queryable, wakes: readonly MailboxWake[]): Promise<void> {
  await db.query({
    name: 'reconcile-note',
    text: `INSERT INTO mailbox (endpoint_id, idle, wake_at)
      SELECT endpoint_id, false, to_timestamp(ms / 1000) FROM unnest($1::text[], $2::float8[]) AS t (endpoint_id, ms) ORDER BY endpoint_id
      ON CONFLICT (endpoint_id) DO UPDATE SET idle = false, wake_at = excluded.wake_at WHERE mailbox.idle OR mailbox.wake_at IS NULL`,
    values: [wakes.map((one) => one.endpointId), wakes.map((one) => one.wakeAtMs)],
  })
}

/** Tasks that run, as far as their workflow is known to have been started. */
export async function readRunningTasks(db: Queryable, except: string | undefined): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `SELECT id FROM background_task WHERE status = 'running' AND started AND id IS DISTINCT FROM $1 ORDER BY id`,
    [except ?? null],
  )
  return rows.map(({ id }) => id)
}

/** Has the sweep start the workflows of tasks, which has no effect where they are there. */
export async function restartTasks(db: Queryable, ids: readonly string[]): Promise<void> {
  await db.query('UPDATE background_task SET started = false WHERE id = ANY($1::text[])', [ids])
}

/** Rows of the outbox, counted up to `max`. */
export async function outboxDepth(db: Queryable, max: number): Promise<number> {
  const { rows } = await db.query<{ depth: number }>({
    name: 'reconcile-depth',
    text: 'SELECT count(*)::int AS depth FROM (SELECT FROM outbox LIMIT $1) waiting',
    values: [max],
  })
  return rows[0]!.depth
}

/**
 * Does `work` unless another process is doing some of a reconciliation: two that look at the same time would both put in what
 * neither sees.
 * @returns undefined where another is
 */
export async function reconcilingAlone<T>(pool: Pool, work: () => Promise<T>): Promise<T | undefined> {
  const client = await pool.connect()
  let broken: Error | undefined
  try {
    const { rows } = await client.query<{ locked: boolean }>('SELECT pg_try_advisory_lock($1) AS locked', [LOCK])
    if (!rows[0]!.locked) return undefined
    try {
      return await work()
    } finally {
      await client.query('SELECT pg_advisory_unlock($1)', [LOCK]).catch((reason: unknown) => {
        broken = reason instanceof Error ? reason : new Error(String(reason))
      })
    }
  } finally {
    client.release(broken)
  }
}

/**
 * Registers a reconciliation as a background task of the service's own organisation; a sweep starts its workflow within seconds.
 * @returns the task's id
 */
export async function registerReconcile(db: Queryable, request: Omit<ReconcileRequest, 'dryRun'>): Promise<string> {
  const id = newId('qtask')
  await insertTask(db, { id, orgId: DEFAULT_ORGANISATION, appId: null, task: 'deliveries.reconcile', input: request })
  return id
}

/** How far the reconciliation of a task is; undefined where it has ended. */
export async function readReconcileTask(db: Queryable, id: string): Promise<ReconcileProgress | undefined> {
  const { rows } = await db.query<{ data: Partial<ReconcileProgress>; since: string }>(
    `SELECT data, input ->> 'since' AS since FROM background_task WHERE id = $1 AND status = 'running'`,
    [id],
  )
  const row = rows[0]
  return row === undefined ? undefined : { ...beginReconcile(lowestIdAt('msg', Date.parse(row.since))), ...row.data }
}

/** Writes it down, and ends the task with it. A task that has ended stays as it is. */
export async function saveReconcileTask(db: Queryable, id: string, progress: ReconcileProgress): Promise<void> {
  await db.query({
    name: 'reconcile-save',
    text: `UPDATE background_task SET data = $2, status = $3, updated_at = now() WHERE id = $1 AND status = 'running'`,
    values: [id, JSON.stringify(progress), progress.phase === 'over' ? 'finished' : 'running'],
  })
}
