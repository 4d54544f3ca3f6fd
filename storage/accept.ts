import { LIMITS } from '../domain/limits.ts'
import type { NewMessage } from '../domain/message.ts'
import { MAILBOX_PREFIX } from '../domain/names.ts'
import { DEFAULT_PRIORITY, type Priority } from '../domain/priority.ts'
import { float8Array, textArray } from './arrays.ts'
import { releasePublished, takeKeys } from './idempotency.ts'
import type { Queryable } from './pool.ts'
import { WAKE_BOXES } from './queue-wakes.ts'
import type { MailboxWake } from './records.ts'
import { IS_SHORT, isShort, shortPayloads } from './short-payloads.ts'

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

// Far longer than a process takes to hear of a change (`storage/listener.ts`).
const CHANGE_HEARD_WITHIN_MS = 2000

// Taken before the event ids and in order, so that two processes that accept the same ones do not wait in a ring. A key
// that another process is publishing with is waited for.
const TAKE_KEYS = `
asked AS MATERIALIZED (
  SELECT DISTINCT ON (key) key AS hash, id AS message_id, NULL::uuid AS claim FROM whole WHERE key IS NOT NULL ORDER BY key, position
), ${takeKeys('asked', LIMITS.idempotencyKeptMs)}, input AS MATERIALIZED (
  SELECT whole.* FROM whole LEFT JOIN taken ON taken.message_id = whole.id WHERE key IS NULL OR taken.message_id IS NOT NULL
),`

/** @param first the number of the first of three parameters */
function takePlaces(first: number): string {
  return `, places AS (
  SELECT p.*, a.app_id, a.ordering_key,
    CASE WHEN a.fans_out THEN coalesce(fixed.group_id, a.id) ELSE '${MAILBOX_PREFIX}' || p.endpoint_id END AS group_id
  FROM unnest($${first}::text[], $${first + 1}::text[], $${first + 2}::boolean[]) WITH ORDINALITY AS p (message_id, endpoint_id, eager, place)
  JOIN accepted a ON a.id = p.message_id, fixed
), lined AS (
  INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, next_at, group_id, seq, ordering_key)
  SELECT message_id, endpoint_id, app_id, 'parked', 0, now(), group_id, nextval('delivery_seq'), ordering_key
  FROM (SELECT * FROM places ORDER BY place) one
), ${WAKE_BOXES}`
}

/** What of the statement is only there for messages that have a place in a queue, a priority, or no need of a fan-out. */
interface QueuedParts {
  readonly types: string
  readonly names: string
  readonly columns: string
  readonly before: string
  readonly fansOut: string
  readonly priority: string
  readonly after: string
  readonly wakes: string
}

/** Parameters of `queuedColumns`. */
const QUEUED_PARAMETERS = 7
const NO_TRACE = { type: '', name: '', column: '' }

/** What any of the messages has: an idempotency key; a place in a queue, a priority or no need of a fan-out; a trace. */
interface Variant {
  readonly keyed: boolean
  readonly queued: boolean
  readonly traced: boolean
  /** Some payloads are to be gone before their messages. */
  readonly short: boolean
}

const UNQUEUED: QueuedParts = { types: '', names: '', columns: '', before: '', fansOut: 'true', priority: '', after: '', wakes: '' }

// Of an application whose endpoints have just been changed every message is fanned out: who routed it may not have heard.
/** @param first the number of the first of its parameters: `queuedColumns` */
function queuedParts(first: number): QueuedParts {
  return {
    types: `, $${first}::text[], $${first + 1}::text[], $${first + 2}::boolean[]`,
    names: 'ordering_key, priority, routed, ',
    columns: ', ordering_key, priority',
    before: `changed AS MATERIALIZED (
  SELECT app_id FROM endpoint WHERE app_id = ANY($${first + 6}::text[]) AND updated_at > now() - interval '${CHANGE_HEARD_WITHIN_MS} ms'
), `,
    fansOut: 'NOT routed OR app_id IN (SELECT app_id FROM changed)',
    priority: ', priority',
    after: takePlaces(first + 3),
    wakes: 'UNION ALL SELECT endpoint_id, NULL, NULL, NULL FROM told WHERE wakes',
  }
}

// Event ids are claimed in index order: two processes that accept the same ones must not wait for each other in a ring.
function acceptText({ keyed, queued, traced, short }: Variant): string {
  const first = keyed ? 12 : 11
  const more = queued ? queuedParts(first) : UNQUEUED
  const trace = traced
    ? { type: `, $${first + (queued ? QUEUED_PARAMETERS : 0)}::text[]`, name: 'traceparent, ', column: ', traceparent' }
    : NO_TRACE
  return `
WITH ${keyed ? 'whole' : 'input'} AS MATERIALIZED (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::float8[]${keyed ? ', $11::text[]' : ''}${more.types}${trace.type})
    WITH ORDINALITY AS t (id, app_id, event_type, event_id, channels, payload, created_ms, expires_ms, ${keyed ? 'key, ' : ''}${more.names}${trace.name}position)
), ${keyed ? TAKE_KEYS : ''} ${more.before}claimed AS (
  INSERT INTO message_event_id (app_id, event_id, message_id)
  SELECT app_id, event_id, id FROM input WHERE event_id IS NOT NULL ORDER BY app_id, event_id, position
  ON CONFLICT DO NOTHING RETURNING message_id
), accepted AS MATERIALIZED (
  SELECT input.*, ${more.fansOut} AS fans_out
  FROM input LEFT JOIN claimed ON claimed.message_id = input.id
  WHERE event_id IS NULL OR claimed.message_id IS NOT NULL
), stored AS (
  INSERT INTO message (id, app_id, event_type, event_id, channels, payload, created_at, expires_at${more.columns}${trace.column})
  SELECT id, app_id, event_type, event_id, string_to_array(channels, ','), ${short ? `CASE WHEN NOT ${IS_SHORT} THEN payload END` : 'payload'},
    to_timestamp(created_ms / 1000), to_timestamp(expires_ms / 1000)${more.columns}${trace.column}
  FROM accepted
), ${short ? shortPayloads('accepted') : ''}
fixed AS MATERIALIZED (
  SELECT CASE WHEN $9 THEN (SELECT id FROM accepted WHERE fans_out ORDER BY position LIMIT 1) END AS group_id
), queued AS (
  INSERT INTO outbox (id, message_id, app_id, event_type, group_id, leased_until${more.priority})
  SELECT id, id, app_id, event_type, group_id, CASE WHEN $9 THEN now() + $10 * interval '1 ms' END${more.priority} FROM accepted, fixed WHERE fans_out
)${more.after}
SELECT id, group_id, fans_out, false AS repeated FROM accepted, fixed
${keyed ? 'UNION ALL SELECT id, NULL, NULL, true FROM whole WHERE key IS NOT NULL AND id NOT IN (SELECT message_id FROM taken)' : ''}
${more.wakes}`
}

const statements = new Map<string, { readonly name: string; readonly text: string }>()

/** A statement of its own for what the messages have, so that those that have nothing pay for nothing. */
function statementFor(variant: Variant): { readonly name: string; readonly text: string } {
  const { keyed, queued, traced, short } = variant
  const name = `outbox-accept${keyed ? '-keyed' : ''}${queued ? '-queued' : ''}${traced ? '-traced' : ''}${short ? '-short' : ''}`
  let statement = statements.get(name)
  if (statement === undefined) {
    statement = { name, text: acceptText(variant) }
    statements.set(name, statement)
  }
  return statement
}

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
  const traced = messages.some((message) => message.traceparent !== undefined)
  const { rows } = await db.query<{ id: string; group_id: string | null; fans_out: boolean; repeated: boolean | null }>({
    ...statementFor({ keyed, queued, traced, short: messages.some(isShort) }),
    values: [
      textArray(messages.map((message) => message.id)),
      textArray(messages.map((message) => message.appId)),
      textArray(messages.map((message) => message.eventType)),
      textArray(messages.map((message) => message.eventId)),
      textArray(messages.map((message) => message.channels?.join(','))),
      textArray(messages.map((message) => message.payload)),
      float8Array(messages.map((message) => message.createdAtMs)),
      float8Array(messages.map((message) => message.expiresAtMs)),
      grouped,
      leaseMs,
      ...(keyed ? [messages.map((message) => message.idempotencyKey ?? null)] : []),
      ...(queued ? queuedColumns(messages, routing) : []),
      ...(traced ? [messages.map((message) => message.traceparent ?? null)] : []),
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
