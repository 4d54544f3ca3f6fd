import type { HandedMessage, Handover, HandoverAnswer } from '../domain/handover.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'
import { IS_SHORT, shortPayloads } from './short-payloads.ts'

/** What became of a call. */
export interface HandedIn extends HandoverAnswer {
  /** Those that were not here before, with their rows in the outbox. */
  readonly stored: readonly HandedMessage[]
}

const STORE = `
WITH input AS MATERIALIZED (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::float8[], $9::float8[],
    $10::jsonb[], $11::text[], $12::text[], $13::text[], $14::text[])
    AS t (id, app_id, event_type, event_id, channels, payload, created_ms, expires_ms, deliver_ms, envelope, priority, ordering_key, traceparent, endpoints)
), taken AS MATERIALIZED (
  INSERT INTO handed_in (message_id, group_id, endpoint_ids, chosen)
  SELECT id, $15::text, string_to_array(endpoints, ','), $17::boolean FROM input ORDER BY id
  ON CONFLICT DO NOTHING RETURNING message_id, endpoint_ids
), stored AS (
  INSERT INTO message (id, app_id, event_type, event_id, channels, payload, created_at, expires_at, deliver_at, envelope, priority, ordering_key, traceparent, accepted_in)
  SELECT id, app_id, event_type, event_id, string_to_array(channels, ','), CASE WHEN NOT ${IS_SHORT} THEN payload END, to_timestamp(created_ms / 1000),
    to_timestamp(expires_ms / 1000),    to_timestamp(deliver_ms / 1000), envelope, priority, ordering_key, traceparent, $16::text
  FROM input JOIN taken ON taken.message_id = input.id ORDER BY id
  ON CONFLICT DO NOTHING
), ${shortPayloads('input JOIN taken ON taken.message_id = input.id')}
queued AS (
  INSERT INTO outbox (id, message_id, app_id, event_type, endpoint_id, trigger, retried, priority)
  SELECT id || coalesce('/' || endpoint_id || '/' || $15, ''), id, app_id, event_type, endpoint_id, $18::smallint, $19::boolean, priority
  FROM input JOIN taken ON taken.message_id = input.id
  CROSS JOIN LATERAL unnest(CASE WHEN $17 THEN taken.endpoint_ids ELSE ARRAY[NULL::text] END) AS one (endpoint_id)
  ON CONFLICT DO NOTHING
)
SELECT message_id FROM taken`

/**
 * Stores messages that another region has handed over, with outbox rows, in one transaction. Repeating a call stores and starts
 * nothing.
 * @param mayHold whether what belongs to an application of that zone may be here
 */
export async function storeHandover(pool: Pool, handover: Handover, mayHold: (zone: string) => boolean): Promise<HandedIn> {
  const { messages } = handover
  return inTransaction(pool, async (client) => {
    const zones = await zonesOf(client, [...new Set(messages.map((message) => message.appId))])
    const known = await knownEndpoints(client, [...new Set(messages.flatMap((message) => message.endpointIds))])
    const [refused, unknown, taken]: [string[], string[], HandedMessage[]] = [[], [], []]
    for (const message of messages) {
      const zone = zones.get(message.appId)
      if (zone !== undefined && !mayHold(zone)) refused.push(message.id)
      else if (message.endpointIds.every((id) => known.has(id))) taken.push(message)
      else unknown.push(message.id)
    }
    const stored = taken.length === 0 ? new Set<string>() : await store(client, handover, taken)
    return { stored: taken.filter((message) => stored.has(message.id)), refused, unknown }
  })
}

async function zonesOf(db: Queryable, appIds: readonly string[]): Promise<Map<string, string>> {
  const { rows } = await db.query<{ id: string; zone: string }>({
    name: 'handed-in-zones',
    text: `SELECT id, residency AS zone FROM application WHERE id = ANY ($1::text[]) AND residency IS NOT NULL
      UNION SELECT id, zone FROM application_zone WHERE id = ANY ($1)`,
    values: [appIds],
  })
  return new Map(rows.map((row) => [row.id, row.zone]))
}

/** Those that are disabled or deleted are known too: their deliveries end as those of any fan-out. */
async function knownEndpoints(db: Queryable, ids: readonly string[]): Promise<Set<string>> {
  const { rows } = await db.query<{ id: string }>({
    name: 'handed-in-endpoints',
    text: 'SELECT id FROM endpoint WHERE id = ANY ($1::text[])',
    values: [ids],
  })
  return new Set(rows.map((row) => row.id))
}

async function store(db: Queryable, handover: Handover, messages: readonly HandedMessage[]): Promise<Set<string>> {
  const { rows } = await db.query<{ message_id: string }>({
    name: 'handed-in-store',
    text: STORE,
    values: [
      messages.map((message) => message.id),
      messages.map((message) => message.appId),
      messages.map((message) => message.eventType),
      messages.map((message) => message.eventId),
      messages.map((message) => message.channels?.join(',') ?? null),
      messages.map((message) => message.payload),
      messages.map((message) => message.createdAtMs),
      messages.map((message) => message.expiresAtMs),
      messages.map((message) => message.deliverAtMs),
      messages.map((message) => (message.envelope === null ? null : JSON.stringify(message.envelope))),
      messages.map((message) => message.priority),
      messages.map((message) => message.orderingKey),
      messages.map((message) => message.traceparent),
      messages.map((message) => message.endpointIds.join(',')),
      handover.groupId,
      handover.from,
      handover.chosen,
      handover.trigger,
      handover.retried,
    ],
  })
  return new Set(rows.map((row) => row.message_id))
}

/** Where messages that other regions have handed over are to be sent, by the messages' ids. */
export async function readHandedIn(db: Queryable, messageIds: readonly string[]): Promise<Map<string, readonly string[]>> {
  const { rows } = await db.query<{ message_id: string; endpoint_ids: string[] }>({
    name: 'handed-in-read',
    text: 'SELECT message_id, endpoint_ids FROM handed_in WHERE message_id = ANY ($1::text[]) AND NOT chosen',
    values: [messageIds],
  })
  return new Map(rows.map((row) => [row.message_id, row.endpoint_ids]))
}
