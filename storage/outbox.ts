import { LIMITS } from '../domain/limits.ts'
import type { NewMessage, Redelivery } from '../domain/message.ts'
import type { AttemptTrigger } from '../domain/outcome.ts'
import { DEFAULT_PRIORITY, type Priority, type PriorityWeights } from '../domain/priority.ts'
import { releasePublished } from './idempotency.ts'
import type { Pool, Queryable } from './pool.ts'
import { WAKE_BOXES } from './queue-wakes.ts'
import type { MailboxWake } from './records.ts'

/** Channel that wakes dispatchers of other processes. */
export const OUTBOX_CHANNEL = 'tidings_outbox'

/** One row of a group. */
export interface OutboxRow {
  readonly id: string
  readonly messageId: string
  readonly appId: string
  readonly eventType: string
  readonly endpointId: string | null
  readonly trigger: AttemptTrigger
  readonly retried: boolean
}

export interface AcceptResult {
  /** Ids of the messages stored; the others' event ids are taken. */
  readonly accepted: ReadonlySet<string>
  /** Ids of the messages that are not stored because their idempotency key has been published with before. */
  readonly repeated: ReadonlySet<string>
  /** Of the accepted those that wait in the outbox for their fan-out: all that were not routed. */
  readonly fannedOut: ReadonlySet<string>
  /** Set where the statement fixed what waits in the outbox as a group. */
  readonly groupId: string | undefined
  /** Mailboxes that have to be woken: their queues were empty. */
  readonly wakes: readonly MailboxWake[]
}

/** A message for an endpoint that has a queue: its place in it is taken when the message is accepted. */
export interface QueuePlace {
  readonly messageId: string
  readonly endpointId: string
  /** Whether it may be sent though what is before it in the queue waits. */
  readonly eager: boolean
}

/** What was found out of messages before they are accepted. */
export interface Routing {
  readonly places: readonly QueuePlace[]
  /** Messages that go nowhere but to their places: they need no fan-out. */
  readonly routed: ReadonlySet<string>
}

export const UNROUTED: Routing = { places: [], routed: new Set() }

// Far longer than a process takes to hear of a change (`config-feed.ts`).
const CHANGE_HEARD_WITHIN_MS = 2000

// Taken before the event ids and in order, so that two processes that accept the same ones do not wait in a ring. A key
// that another process is publishing with is waited for.
const TAKE_KEYS = `
keyed AS (
  INSERT INTO idempotency_key (hash, message_id, expires_at)
  SELECT DISTINCT ON (key) key, id, now() + ${LIMITS.idempotencyKeptMs} * interval '1 ms' FROM whole WHERE key IS NOT NULL ORDER BY key, position
  ON CONFLICT (hash) DO UPDATE SET message_id = excluded.message_id, claim = NULL, status = NULL, body_cipher = NULL, expires_at = excluded.expires_at
    WHERE idempotency_key.expires_at <= now() RETURNING message_id
), input AS MATERIALIZED (
  SELECT whole.* FROM whole LEFT JOIN keyed ON keyed.message_id = whole.id WHERE key IS NULL OR keyed.message_id IS NOT NULL
),`

/** @param first the number of the first of three parameters */
function takePlaces(first: number): string {
  return `, places AS (
  SELECT p.*, a.app_id, a.ordering_key, CASE WHEN a.fans_out THEN fixed.group_id END AS group_id
  FROM unnest($${first}::text[], $${first + 1}::text[], $${first + 2}::boolean[]) WITH ORDINALITY AS p (message_id, endpoint_id, eager, place)
  JOIN accepted a ON a.id = p.message_id, fixed
), lined AS (
  INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, next_at, group_id, seq, ordering_key)
  SELECT message_id, endpoint_id, app_id, 'parked', 0, now(), coalesce(group_id, message_id), nextval('delivery_seq'), ordering_key
  FROM (SELECT * FROM places ORDER BY place) one
), ${WAKE_BOXES}`
}

// Of an application whose endpoints have just been changed every message is fanned out: who routed it may not have heard.
// $1 to $6 of these: ordering keys, priorities, whether routed, and the three of the places; then the applications.
function changedApplications(first: number): string {
  return `changed AS MATERIALIZED (
  SELECT app_id FROM endpoint WHERE app_id = ANY($${first + 6}::text[]) AND updated_at > now() - interval '${CHANGE_HEARD_WITHIN_MS} ms'
), `
}

// Event ids are claimed in index order: two processes that accept the same ones must not wait for each other in a ring.
function acceptText({ keyed, queued }: { keyed: boolean; queued: boolean }): string {
  const firstQueued = keyed ? 12 : 11
  return `
WITH ${keyed ? 'whole' : 'input'} AS MATERIALIZED (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::float8[]${keyed ? ', $11::text[]' : ''}${queued ? `, $${firstQueued}::text[], $${firstQueued + 1}::text[], $${firstQueued + 2}::boolean[]` : ''})
    WITH ORDINALITY AS t (id, app_id, event_type, event_id, channels, payload, created_ms, expires_ms, ${keyed ? 'key, ' : ''}${queued ? 'ordering_key, priority, routed, ' : ''}position)
), ${keyed ? TAKE_KEYS : ''} ${queued ? changedApplications(firstQueued) : ''}claimed AS (
  INSERT INTO message_event_id (app_id, event_id, message_id)
  SELECT app_id, event_id, id FROM input WHERE event_id IS NOT NULL ORDER BY app_id, event_id, position
  ON CONFLICT DO NOTHING RETURNING message_id
), accepted AS MATERIALIZED (
  SELECT input.*, ${queued ? 'NOT routed OR app_id IN (SELECT app_id FROM changed)' : 'true'} AS fans_out
  FROM input LEFT JOIN claimed ON claimed.message_id = input.id
  WHERE event_id IS NULL OR claimed.message_id IS NOT NULL
), stored AS (
  INSERT INTO message (id, app_id, event_type, event_id, channels, payload, created_at, expires_at${queued ? ', ordering_key, priority' : ''})
  SELECT id, app_id, event_type, event_id, string_to_array(channels, ','), payload,
    to_timestamp(created_ms / 1000), to_timestamp(expires_ms / 1000)${queued ? ', ordering_key, priority' : ''}
  FROM accepted
), fixed AS MATERIALIZED (
  SELECT CASE WHEN $9 THEN (SELECT id FROM accepted WHERE fans_out ORDER BY position LIMIT 1) END AS group_id
), queued AS (
  INSERT INTO outbox (id, message_id, app_id, event_type, group_id, leased_until${queued ? ', priority' : ''})
  SELECT id, id, app_id, event_type, group_id, CASE WHEN $9 THEN now() + $10 * interval '1 ms' END${queued ? ', priority' : ''} FROM accepted, fixed WHERE fans_out
)${queued ? takePlaces(firstQueued + 3) : ''}
SELECT id, group_id, fans_out, false AS repeated FROM accepted, fixed
${keyed ? 'UNION ALL SELECT id, NULL, NULL, true FROM whole WHERE key IS NOT NULL AND id NOT IN (SELECT message_id FROM keyed)' : ''}
${queued ? 'UNION ALL SELECT endpoint_id, NULL, NULL, NULL FROM told WHERE wakes' : ''}`
}

const ACCEPT = { name: 'outbox-accept', text: acceptText({ keyed: false, queued: false }) }
const ACCEPT_KEYED = { name: 'outbox-accept-keyed', text: acceptText({ keyed: true, queued: false }) }
const ACCEPT_QUEUED = { name: 'outbox-accept-queued', text: acceptText({ keyed: false, queued: true }) }
const ACCEPT_KEYED_QUEUED = { name: 'outbox-accept-keyed-queued', text: acceptText({ keyed: true, queued: true }) }

/**
 * Stores messages and the outbox rows of those that need a fan-out in one statement, with the idempotency keys of those that
 * have one, and with their places in queues: of two messages, one of which was accepted before the other came, the first has
 * the lower number.
 * @param grouped whether to fix what waits in the outbox as one group, leased to the caller for `leaseMs`
 */
export async function acceptMessages(
  db: Queryable,
  messages: readonly NewMessage[],
  grouped: boolean,
  leaseMs: number,
  routing: Routing = UNROUTED,
): Promise<AcceptResult> {
  const keyed = messages.some((message) => message.idempotencyKey !== undefined)
  const rare = messages.some((message) => message.orderingKey !== undefined || message.priority !== undefined)
  const queued = rare || routing.places.length > 0 || routing.routed.size > 0
  const statement = queued ? (keyed ? ACCEPT_KEYED_QUEUED : ACCEPT_QUEUED) : keyed ? ACCEPT_KEYED : ACCEPT
  const { rows } = await db.query<{ id: string; group_id: string | null; fans_out: boolean; repeated: boolean | null }>({
    ...statement,
    values: [
      messages.map((message) => message.id),
      messages.map((message) => message.appId),
      messages.map((message) => message.eventType),
      messages.map((message) => message.eventId),
      messages.map((message) => message.channels?.join(',') ?? null),
      messages.map((message) => message.payload),
      messages.map((message) => message.createdAtMs),
      messages.map((message) => message.expiresAtMs),
      grouped,
      leaseMs,
      ...(keyed ? [messages.map((message) => message.idempotencyKey ?? null)] : []),
      ...(queued ? queuedColumns(messages, routing) : []),
    ],
  })
  const stored = rows.filter((row) => row.repeated === false)
  const accepted = new Set(stored.map((row) => row.id))
  const repeated = new Set(rows.filter((row) => row.repeated === true).map((row) => row.id))
  const wakes = rows.filter((row) => row.repeated === null).map((row) => ({ endpointId: row.id, wakeAtMs: Date.now() }))
  if (keyed) {
    const refused = messages.filter((message) => !accepted.has(message.id) && !repeated.has(message.id))
    // What is stored is accepted, whatever becomes of this: a key that stays finds no message, and is answered as the conflict that it was.
    await releaseKeysOf(db, refused).catch(() => undefined)
  }
  const fannedOut = new Set(stored.filter((row) => row.fans_out).map((row) => row.id))
  return { accepted, repeated, fannedOut, groupId: fannedOut.size === 0 ? undefined : (stored[0]!.group_id ?? undefined), wakes }
}

function priorityOf(message: NewMessage): Priority {
  return message.priority ?? DEFAULT_PRIORITY
}

function queuedColumns(messages: readonly NewMessage[], { places, routed }: Routing): unknown[][] {
  const isRouted = messages.map((message) => routed.has(message.id))
  return [
    messages.map((message) => message.orderingKey ?? null),
    messages.map(priorityOf),
    isRouted,
    places.map((one) => one.messageId),
    places.map((one) => one.endpointId),
    places.map((one) => one.eager),
    [...new Set(messages.filter((_, i) => isRouted[i]).map((message) => message.appId))],
  ]
}

async function releaseKeysOf(db: Queryable, refused: readonly NewMessage[]): Promise<void> {
  const keys = refused.flatMap(({ id, idempotencyKey }) => (idempotencyKey === undefined ? [] : [{ messageId: id, hash: idempotencyKey }]))
  if (keys.length > 0) await releasePublished(db, keys)
}

/**
 * Puts deliveries into the outbox again. The same `request` puts the same delivery in once, however often it is called.
 * @param request names what asked for it: a replay's task id, or a fresh id for a single resend
 */
export async function enqueueRedeliveries(db: Queryable, redeliveries: readonly Redelivery[], request: string): Promise<void> {
  await db.query({
    name: 'outbox-redeliver',
    text: `INSERT INTO outbox (id, message_id, app_id, event_type, endpoint_id, trigger, retried, priority)
      SELECT message_id || '/' || endpoint_id || '/' || $1, message_id, app_id, event_type, endpoint_id, trigger, retried,
        coalesce((SELECT priority FROM message WHERE id = message_id), 'medium')
      FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::boolean[])
        AS t (message_id, app_id, event_type, endpoint_id, trigger, retried)
      ON CONFLICT DO NOTHING`,
    values: [
      request,
      redeliveries.map((one) => one.messageId),
      redeliveries.map((one) => one.appId),
      redeliveries.map((one) => one.eventType),
      redeliveries.map((one) => one.endpointId),
      redeliveries.map((one) => one.trigger),
      redeliveries.map((one) => one.retried),
    ],
  })
}

/** Wakes dispatchers that listen. */
export async function notifyOutbox(db: Queryable): Promise<void> {
  await db.query({ name: 'outbox-notify', text: 'SELECT pg_notify($1, $2)', values: [OUTBOX_CHANNEL, ''] })
}

/**
 * Fixes the named rows, as far as nobody else has, as one group. The group is named after one of the rows that are in it:
 * named after one that another dispatcher has, it would be started, and deleted, as that one's group.
 * @returns undefined where others have them all
 */
export async function claimRows(
  db: Queryable,
  ids: readonly string[],
  leaseMs: number,
): Promise<{ groupId: string; ids: ReadonlySet<string> } | undefined> {
  const { rows } = await db.query<{ id: string; group_id: string }>({
    name: 'outbox-claim-rows',
    text: `WITH free AS MATERIALIZED (SELECT id FROM outbox WHERE id = ANY($1::text[]) AND group_id IS NULL FOR UPDATE)
      UPDATE outbox SET group_id = (SELECT min(id) FROM free), leased_until = now() + $2 * interval '1 ms'
      WHERE id IN (SELECT id FROM free) RETURNING id, group_id`,
    values: [ids, leaseMs],
  })
  const first = rows[0]
  return first === undefined ? undefined : { groupId: first.group_id, ids: new Set(rows.map((row) => row.id)) }
}

interface RawRow {
  id: string
  message_id: string
  app_id: string
  event_type: string
  endpoint_id: string | null
  trigger: number
  retried: boolean
}

export interface WaitingClaim {
  /** Rows of the group, at most. */
  readonly max: number
  /** Leaves younger rows to the process that accepted them. */
  readonly minAgeMs: number
  readonly leaseMs: number
  readonly weights: PriorityWeights
}

const ROW_COLUMNS = 'id, message_id, app_id, event_type, endpoint_id, trigger, retried'

function toRow(raw: RawRow): OutboxRow {
  return {
    id: raw.id,
    messageId: raw.message_id,
    appId: raw.app_id,
    eventType: raw.event_type,
    endpointId: raw.endpoint_id,
    trigger: raw.trigger as AttemptTrigger,
    retried: raw.retried,
  }
}

/**
 * Fixes what waits ungrouped as one group: up to `max` rows of one kind (the same endpoint, trigger and retrying), in turns
 * over the lines, one for each application and priority, so many rows at a turn as the priority's weight. The kind is that
 * of a line drawn by weight: a flood of one kind is not in front of another. Rows that another dispatcher has locked are
 * left to it.
 */
export async function claimWaiting(db: Queryable, claim: WaitingClaim): Promise<OutboxRow[]> {
  const { max, minAgeMs, leaseMs, weights } = claim
  const { rows } = await db.query<RawRow>({
    name: 'outbox-claim-waiting',
    text: `WITH RECURSIVE line AS (
        (SELECT app_id, priority FROM outbox WHERE group_id IS NULL ORDER BY app_id, priority LIMIT 1)
        UNION ALL
        SELECT later.* FROM line, LATERAL (
          SELECT o.app_id, o.priority FROM outbox o WHERE o.group_id IS NULL AND (o.app_id, o.priority) > (line.app_id, line.priority)
          ORDER BY o.app_id, o.priority LIMIT 1
        ) later
      ), weighed AS MATERIALIZED (
        SELECT line.*, CASE priority WHEN 'high' THEN $4::int WHEN 'low' THEN $6::int ELSE $5::int END AS weight, count(*) OVER () AS lines
        FROM line
      ), kind AS MATERIALIZED (
        SELECT oldest.* FROM weighed, LATERAL (
          SELECT o.endpoint_id, o.trigger, o.retried FROM outbox o
          WHERE o.group_id IS NULL AND o.app_id = weighed.app_id AND o.priority = weighed.priority
            AND o.created_at <= now() - $2 * interval '1 ms' ORDER BY o.created_at LIMIT 1
        ) oldest ORDER BY random() ^ (1.0 / weight) DESC LIMIT 1
      ), turns AS (
        SELECT front.id, (front.place - 1) / weight AS turn FROM weighed, kind, LATERAL (
          SELECT o.id, row_number() OVER (ORDER BY o.created_at, o.id) AS place FROM outbox o
          WHERE o.group_id IS NULL AND o.app_id = weighed.app_id AND o.priority = weighed.priority
            AND o.created_at <= now() - $2 * interval '1 ms'
            AND o.endpoint_id IS NOT DISTINCT FROM kind.endpoint_id AND o.trigger = kind.trigger AND o.retried = kind.retried
          ORDER BY o.created_at, o.id LIMIT $1 * 4 / lines + weight
        ) front ORDER BY turn, front.id LIMIT $1 * 4
      ), free AS MATERIALIZED (
        SELECT o.id FROM outbox o WHERE o.id IN (SELECT id FROM turns) AND o.group_id IS NULL FOR UPDATE SKIP LOCKED
      ), chosen AS MATERIALIZED (SELECT id FROM turns JOIN free USING (id) ORDER BY turn, id LIMIT $1)
      UPDATE outbox SET group_id = (SELECT min(id) FROM chosen), leased_until = now() + $3 * interval '1 ms'
      WHERE id IN (SELECT id FROM chosen) RETURNING ${ROW_COLUMNS}`,
    values: [max, minAgeMs, leaseMs, weights.high, weights.medium, weights.low],
  })
  return rows.map(toRow).sort(byId)
}

/**
 * Leases one recorded group whose lease has run out, because its dispatcher died or could not reach Temporal. Who has the
 * lock of the row that names the group has the group: sweepers that lock different rows of it would wait in a ring.
 */
export async function claimExpiredGroup(db: Queryable, leaseMs: number): Promise<{ groupId: string; rows: OutboxRow[] } | undefined> {
  const { rows } = await db.query<RawRow & { group_id: string }>({
    name: 'outbox-claim-expired',
    text: `WITH expired AS (
        SELECT group_id FROM outbox WHERE id = group_id AND leased_until < now()
        ORDER BY leased_until LIMIT 1 FOR UPDATE SKIP LOCKED
      )
      UPDATE outbox SET leased_until = now() + $1 * interval '1 ms'
      WHERE group_id = (SELECT group_id FROM expired) RETURNING group_id, ${ROW_COLUMNS}`,
    values: [leaseMs],
  })
  const first = rows[0]
  return first === undefined ? undefined : { groupId: first.group_id, rows: rows.map(toRow).sort(byId) }
}

function byId(a: OutboxRow, b: OutboxRow): number {
  return a.id < b.id ? -1 : 1
}

/** The group is in Temporal's hands. */
export async function deleteGroup(pool: Pool, groupId: string): Promise<void> {
  await pool.query({ name: 'outbox-delete-group', text: 'DELETE FROM outbox WHERE group_id = $1', values: [groupId] })
}

/**
 * Makes some rows of a group a group of their own, leased to the caller: the server has refused them together.
 * @param ids of rows in it, without the one that it is named after
 * @returns the name of the new group
 */
export async function cutGroup(db: Queryable, groupId: string, ids: readonly string[], leaseMs: number): Promise<string> {
  const newGroupId = ids[0]!
  await db.query({
    name: 'outbox-cut-group',
    text: `UPDATE outbox SET group_id = $3, leased_until = now() + $4 * interval '1 ms' WHERE group_id = $1 AND id = ANY($2::text[])`,
    values: [groupId, ids, newGroupId, leaseMs],
  })
  return newGroupId
}

/**
 * Takes a row out of the outbox whose fan-out cannot be started, and dead-letters its message at the given endpoints. What is
 * known of a delivery stays as it is.
 */
export async function deadLetterRow(db: Queryable, row: OutboxRow, endpointIds: readonly string[]): Promise<void> {
  await db.query({
    name: 'outbox-dead-letter',
    text: `WITH gone AS (DELETE FROM outbox WHERE id = $1 RETURNING message_id, app_id, group_id, trigger)
      INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, trigger, group_id)
      SELECT message_id, endpoint_id, app_id, 'dead', 0, trigger, coalesce(group_id, $1)
      FROM gone, unnest($2::text[]) AS endpoint_id ORDER BY endpoint_id
      ON CONFLICT DO NOTHING`,
    values: [row.id, endpointIds],
  })
}
