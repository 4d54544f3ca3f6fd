import { TRIGGER_MANUAL } from '../../domain/outcome.ts'
import type { Priority } from '../../domain/priority.ts'
import { EXPUNGED_CHANNEL } from '../config-changes.ts'
import { createParameters, cutPage, pageClause, type Page, type PageOf } from '../page.ts'
import type { Queryable } from '../pool.ts'
import { readInWindows } from './windows.ts'

/** A message as the API shows it. */
export interface StoredMessage {
  readonly id: string
  readonly appId: string
  readonly eventType: string
  readonly eventId: string | null
  readonly channels: readonly string[] | null
  /** The exact text that is sent; null once expunged or expired, undefined where it was not asked for. */
  readonly payload?: string | null | undefined
  readonly createdAt: Date
  /** When it is, or was, to be delivered; null: at once. */
  readonly deliverAt?: Date | null | undefined
  readonly orderingKey?: string | null | undefined
  readonly priority?: Priority | undefined
}

/** Bounds and conditions of a history list. */
export interface HistoryFilter {
  /** Ids below this one (exclusive). */
  readonly beforeId?: string | undefined
  /** Ids above this one (exclusive): the horizon of history where the caller gave no bound. */
  readonly afterId?: string | undefined
  readonly channel?: string | undefined
  readonly eventTypes?: readonly string[] | undefined
}

/** An expired payload reads as gone although its table has not been dropped yet. */
const LIVE_PAYLOAD = 'payload_at(now(), m.id, m.expires_at, m.payload)'

/** @returns the columns of a message under the alias m */
export function messageColumns(withPayload: boolean): string {
  const columns =
    'm.id, m.app_id AS "appId", m.event_type AS "eventType", m.event_id AS "eventId", m.channels, m.created_at AS "createdAt", m.deliver_at AS "deliverAt", m.ordering_key AS "orderingKey", m.priority'
  return withPayload ? `${columns}, ${LIVE_PAYLOAD} AS payload` : columns
}

/** Finds a message of the application by its id or by the publisher's `eventId`. */
export async function findMessage(
  db: Queryable,
  appId: string,
  idOrEventId: string,
  options: { withPayload: boolean },
): Promise<StoredMessage | undefined> {
  const { rows } = await db.query<StoredMessage>({
    name: options.withPayload ? 'message-find-payload' : 'message-find',
    text: `SELECT ${messageColumns(options.withPayload)} FROM message m
           WHERE m.id = coalesce((SELECT message_id FROM message_event_id WHERE app_id = $1 AND event_id = $2), $2) AND m.app_id = $1`,
    values: [appId, idOrEventId],
  })
  return rows[0]
}

/** Those of the event ids that the application has messages with. */
export async function findTakenEventIds(db: Queryable, appId: string, eventIds: readonly string[]): Promise<Set<string>> {
  const { rows } = await db.query<{ event_id: string }>({
    name: 'event-ids-taken',
    text: 'SELECT event_id FROM message_event_id WHERE app_id = $1 AND event_id = ANY($2::text[])',
    values: [appId, eventIds],
  })
  return new Set(rows.map((row) => row.event_id))
}

/** The named messages without their payloads. */
export async function findMessages(db: Queryable, ids: readonly string[]): Promise<Map<string, StoredMessage>> {
  const { rows } = await db.query<StoredMessage>(`SELECT ${messageColumns(false)} FROM message m WHERE m.id = ANY($1::text[])`, [ids])
  return new Map(rows.map((row) => [row.id, row]))
}

/** @returns whether the message's text is still there to be sent again */
export async function hasPayload(db: Queryable, messageId: string): Promise<boolean> {
  const { rows } = await db.query<{ live: boolean }>(
    'SELECT payload_at(now(), id, expires_at, payload) IS NOT NULL AS live FROM message WHERE id = $1',
    [messageId],
  )
  return rows[0]?.live === true
}

/** Conditions on message ids, channel and event types under the alias m, joined with AND. */
export function historyConditions(filter: HistoryFilter, idColumn: string, add: (value: unknown) => string): string[] {
  const conditions: string[] = []
  if (filter.beforeId !== undefined) conditions.push(`${idColumn} < ${add(filter.beforeId)}`)
  if (filter.afterId !== undefined) conditions.push(`${idColumn} > ${add(filter.afterId)}`)
  if (filter.channel !== undefined) conditions.push(`m.channels @> ARRAY[${add(filter.channel)}::text]`)
  if (filter.eventTypes !== undefined) conditions.push(`m.event_type = ANY(${add(filter.eventTypes)}::text[])`)
  return conditions
}

export async function listMessages(
  db: Queryable,
  appId: string,
  filter: HistoryFilter,
  page: Page,
  options: { withPayload: boolean },
): Promise<PageOf<StoredMessage>> {
  const rows = await readInWindows('msg', page, filter, Date.now(), async (bounds, part) => {
    const parameters = createParameters()
    const where = [`m.app_id = ${parameters.add(appId)}`, ...historyConditions({ ...filter, ...bounds }, 'm.id', parameters.add)]
    const { rows: some } = await db.query<StoredMessage>(
      `SELECT ${messageColumns(options.withPayload)} FROM message m WHERE ${where.join(' AND ')} AND ${pageClause(part, 'm.id', parameters)}`,
      parameters.values,
    )
    return some
  })
  return cutPage(rows, page)
}

/** Deletes the text of a message; it can never be sent again. */
export async function expungeMessage(db: Queryable, messageId: string): Promise<void> {
  // In one statement, so that processes hear of it when it is committed, and drop what they have in memory.
  await db.query(
    `WITH expunged AS (UPDATE message SET payload = NULL WHERE id = $1 RETURNING id, expires_at),
      gone AS (DELETE FROM message_payload p USING expunged e WHERE p.message_id = e.id AND p.expires_at = e.expires_at)
      SELECT pg_notify($2, id) FROM expunged`,
    [messageId, EXPUNGED_CHANNEL],
  )
}

/** A message that no endpoint is routed to: the caller sends it where it wants through the outbox. */
export async function insertUnroutedMessage(
  db: Queryable,
  message: { id: string; appId: string; eventType: string; payload: string; createdAtMs: number; expiresAtMs: number },
): Promise<void> {
  await db.query(
    `INSERT INTO message (id, app_id, event_type, payload, created_at, expires_at)
     VALUES ($1, $2, $3, $4, to_timestamp($5::double precision / 1000), to_timestamp($6::double precision / 1000))`,
    [message.id, message.appId, message.eventType, message.payload, message.createdAtMs, message.expiresAtMs],
  )
}

/** What delivers a message: the fan-out of a group, or, where all of its endpoints have queues, the mailbox of one of them. */
export type Carrier = { readonly groupId: string } | { readonly mailboxOf: string }

// What is in a queue need not have been in a group: the group that it names has no fan-out then. Only what an endpoint with a
// queue is sent by hand comes from a fan-out.
const CARRIER = `
SELECT coalesce(
    (SELECT a.group_id FROM attempt a JOIN endpoint e ON e.id = a.endpoint_id
     WHERE a.message_id = $1 AND a.id >= earliest_attempt($1) AND (a.trigger = ${TRIGGER_MANUAL} OR (e.ordering = 'none' AND e.batching IS NULL)) ORDER BY a.id DESC LIMIT 1),
    (SELECT group_id FROM outbox WHERE message_id = $1 AND group_id IS NOT NULL LIMIT 1),
    (SELECT group_id FROM delivery WHERE message_id = $1 AND seq IS NULL LIMIT 1)) AS "groupId",
  coalesce(
    (SELECT endpoint_id FROM delivery WHERE message_id = $1 AND seq IS NOT NULL ORDER BY seq LIMIT 1),
    (SELECT endpoint_id FROM attempt WHERE message_id = $1 AND id >= earliest_attempt($1) ORDER BY id DESC LIMIT 1)) AS "mailboxOf"`

/**
 * What carries (or carried) the message: of its newest attempt, else of what waits in the outbox or as a delivery.
 * @returns undefined while no process has grouped it and nothing was attempted
 */
export async function findCarrierOfMessage(db: Queryable, messageId: string): Promise<Carrier | undefined> {
  const { rows } = await db.query<{ groupId: string | null; mailboxOf: string | null }>({
    name: 'message-carrier',
    text: CARRIER,
    values: [messageId],
  })
  const { groupId, mailboxOf } = rows[0]!
  if (groupId !== null) return { groupId }
  return mailboxOf === null ? undefined : { mailboxOf }
}
