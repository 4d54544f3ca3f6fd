import type { HandedMessage, Handover } from '../domain/handover.ts'
import type { Queryable } from './pool.ts'

/** A message of a group, and those of its deliveries that are another region's. */
export interface HandedOver {
  readonly region: string
  readonly messageId: string
  readonly endpointIds: readonly string[]
}

// Who finds a row that another execution has just added is given that one.
const FIX = `
WITH added AS (
  INSERT INTO handed_over (group_id, region, message_id, endpoint_ids, trigger, retried, chosen)
  SELECT $1::text, region, message_id, string_to_array(endpoints, ','), $5::smallint, $6::boolean, $7::boolean
  FROM unnest($2::text[], $3::text[], $4::text[]) AS t (region, message_id, endpoints) ORDER BY region, message_id
  ON CONFLICT (group_id, region, message_id) DO UPDATE SET region = handed_over.region
  RETURNING region, message_id, endpoint_ids
)
SELECT region, message_id AS "messageId", endpoint_ids AS "endpointIds" FROM added
UNION SELECT region, message_id, endpoint_ids FROM handed_over WHERE group_id = $1`

/** A group as its fan-out has it: how its deliveries are made, and whether their endpoint was named. */
export type HandedGroup = Pick<Handover, 'groupId' | 'trigger' | 'retried' | 'chosen'>

/**
 * Writes down which deliveries of a group are another region's. What has been written down before stays as it was.
 * @returns all that is known of the group
 */
export async function fixHandedOver(db: Queryable, group: HandedGroup, routed: readonly HandedOver[]): Promise<HandedOver[]> {
  const { rows } = await db.query<HandedOver>({
    name: 'handed-over-fix',
    text: FIX,
    values: [
      group.groupId,
      routed.map((one) => one.region),
      routed.map((one) => one.messageId),
      routed.map((one) => one.endpointIds.join(',')),
      group.trigger,
      group.retried,
      group.chosen,
    ],
  })
  return rows
}

/** What one region waits for of a group. */
export interface HandOverOf {
  readonly groupId: string
  readonly region: string
}

/** A message that waits to be handed over. */
export interface ToHandOver extends Omit<HandedMessage, 'payload'>, Omit<HandedGroup, 'groupId'> {
  /** Null once expunged or expired. */
  readonly payload: string | null
  readonly cancelled: boolean
  /** The zone that its application's data may not leave; null: none. */
  readonly residency: string | null
  /** How long it has waited. */
  readonly sinceMs: number
}

interface WaitingRow extends Omit<ToHandOver, 'createdAtMs' | 'expiresAtMs' | 'deliverAtMs'> {
  readonly createdAt: Date
  readonly expiresAt: Date
  readonly deliverAt: Date | null
}

// An endpoint's id in JSON, and what a message is besides its payload.
const ENDPOINT_BYTES = 34
const MESSAGE_BYTES = 500

/**
 * The next messages that wait for a region, about `maxBytes` of them, one at least.
 * @param except ids of messages that are left for later
 */
export async function readToHandOver(
  db: Queryable,
  { groupId, region }: HandOverOf,
  { except, maxBytes }: { readonly except: readonly string[]; readonly maxBytes: number },
): Promise<ToHandOver[]> {
  const { rows } = await db.query<WaitingRow>({
    name: 'handed-over-read',
    text: `SELECT id, app_id AS "appId", event_type AS "eventType", event_id AS "eventId", channels,
        payload_at(now(), id, expires_at, payload) AS payload, created_at AS "createdAt", expires_at AS "expiresAt", deliver_at AS "deliverAt",
        envelope, priority, ordering_key AS "orderingKey", traceparent, cancelled_at IS NOT NULL AS cancelled, endpoint_ids AS "endpointIds",
        trigger, retried, chosen, (SELECT residency FROM application WHERE id = app_id) AS residency,
        (extract(epoch FROM now() - routed_at) * 1000)::float8 AS "sinceMs"
      FROM (
        SELECT m.*, h.endpoint_ids, h.trigger, h.retried, h.chosen, h.created_at AS routed_at, sum(one.bytes) OVER (ORDER BY m.id) - one.bytes AS bytes_before
        FROM handed_over h JOIN message m ON m.id = h.message_id, LATERAL (
          SELECT coalesce(octet_length(payload_at(now(), m.id, m.expires_at, m.payload)), 0) + ${ENDPOINT_BYTES} * cardinality(h.endpoint_ids) + ${MESSAGE_BYTES} AS bytes
        ) one
        WHERE h.group_id = $1 AND h.region = $2 AND h.state = 'waiting' AND h.message_id <> ALL ($3::text[])
      ) waiting WHERE bytes_before < $4 ORDER BY id`,
    values: [groupId, region, except, maxBytes],
  })
  return rows.map(({ createdAt, expiresAt, deliverAt, ...row }) => ({
    ...row,
    createdAtMs: createdAt.getTime(),
    expiresAtMs: expiresAt.getTime(),
    deliverAtMs: deliverAt?.getTime() ?? null,
  }))
}

/** Groups that wait for a region, any of them: several processes that read them at a time read others. */
export async function readWaitingGroups(
  db: Queryable,
  region: string,
  { except, limit }: { readonly except: readonly string[]; readonly limit: number },
): Promise<string[]> {
  const { rows } = await db.query<{ group_id: string }>({
    name: 'handed-over-groups',
    text: `SELECT group_id FROM handed_over WHERE region = $1 AND state = 'waiting' AND group_id <> ALL ($3::text[])
      GROUP BY group_id ORDER BY random() LIMIT $2`,
    values: [region, limit, except],
  })
  return rows.map((row) => row.group_id)
}

/**
 * Writes down what became of messages that waited: the region has them, or they are attempted here.
 * @param messageIds null: of all
 * @returns how many waited
 */
export async function settleHandedOver(
  db: Queryable,
  { groupId, region }: HandOverOf,
  messageIds: readonly string[] | null,
  state: 'handed' | 'here',
): Promise<number> {
  const { rowCount } = await db.query({
    name: 'handed-over-settle',
    text: `UPDATE handed_over SET state = $4, settled_at = now()
      WHERE group_id = $1 AND region = $2 AND ($3::text[] IS NULL OR message_id = ANY ($3)) AND state = 'waiting'`,
    values: [groupId, region, messageIds, state],
  })
  return rowCount ?? 0
}

/** Messages that are not to be sent any more wait for nobody. */
export async function dropHandedOver(db: Queryable, { groupId, region }: HandOverOf, messageIds: readonly string[]): Promise<void> {
  await db.query({
    name: 'handed-over-drop',
    text: `DELETE FROM handed_over WHERE group_id = $1 AND region = $2 AND message_id = ANY ($3::text[]) AND state = 'waiting'`,
    values: [groupId, region, messageIds],
  })
}

/** Deliveries to one endpoint that are attempted here after all. */
export interface KeptHere {
  readonly endpointId: string
  readonly appId: string
  readonly messageIds: readonly string[]
}

/** @param afterEndpointId where the last read ended */
export async function readKeptHere(
  db: Queryable,
  { groupId, region }: HandOverOf,
  afterEndpointId: string | undefined,
  limit: number,
): Promise<KeptHere[]> {
  const { rows } = await db.query<KeptHere>({
    name: 'handed-over-here',
    text: `SELECT one.id AS "endpointId", m.app_id AS "appId", array_agg(m.id ORDER BY m.id) AS "messageIds"
      FROM handed_over h JOIN message m ON m.id = h.message_id CROSS JOIN LATERAL unnest(h.endpoint_ids) AS one (id)
      WHERE h.group_id = $1 AND h.region = $2 AND h.state = 'here' AND ($3::text IS NULL OR one.id COLLATE "C" > $3)
      GROUP BY one.id, m.app_id ORDER BY one.id COLLATE "C" LIMIT $4`,
    values: [groupId, region, afterEndpointId ?? null, limit],
  })
  return rows
}

/** What of a message another region attempts. */
export interface Handing {
  readonly region: string
  readonly endpointIds: readonly string[]
  /** Null as long as it waits for the region. */
  readonly handedAt: Date | null
}

/** The oldest first. */
export async function listHandings(db: Queryable, messageId: string): Promise<Handing[]> {
  const { rows } = await db.query<Handing>({
    name: 'handed-over-list',
    text: `SELECT region, endpoint_ids AS "endpointIds", settled_at AS "handedAt" FROM handed_over
      WHERE message_id = $1 AND state <> 'here' ORDER BY created_at, region`,
    values: [messageId],
  })
  return rows
}

/** What waits for one region. */
export interface HandOverDepth {
  readonly region: string
  /** Messages of groups, no more than were counted. */
  readonly waiting: number
  /** How long the oldest has waited. */
  readonly oldestS: number
}

/** @param max of rows that are counted */
export async function readHandOverDepth(db: Queryable, max: number): Promise<HandOverDepth[]> {
  const { rows } = await db.query<HandOverDepth>({
    name: 'handed-over-depth',
    text: `SELECT region, count(*)::int AS waiting, greatest(0, extract(epoch FROM now() - min(created_at)))::float8 AS "oldestS"
      FROM (SELECT region, created_at FROM handed_over WHERE state = 'waiting' LIMIT $1) one GROUP BY region`,
    values: [max],
  })
  return rows
}
