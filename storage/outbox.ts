import type { Redelivery } from '../domain/message.ts'
import type { AttemptTrigger } from '../domain/outcome.ts'
import type { PriorityWeights } from '../domain/priority.ts'
import type { Pool, Queryable } from './pool.ts'

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
 * known of a delivery stays as it is, except a retry of this group, which nobody would make.
 */
export async function deadLetterRow(db: Queryable, row: OutboxRow, endpointIds: readonly string[]): Promise<void> {
  await db.query({
    name: 'outbox-dead-letter',
    text: `WITH gone AS (DELETE FROM outbox WHERE id = $1 RETURNING message_id, app_id, group_id, trigger)
      INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, trigger, group_id)
      SELECT message_id, endpoint_id, app_id, 'dead', 0, trigger, coalesce(group_id, $1)
      FROM gone, unnest($2::text[]) AS endpoint_id ORDER BY endpoint_id
      ON CONFLICT (message_id, endpoint_id) DO UPDATE SET state = 'dead', next_at = NULL, updated_at = now()
      WHERE delivery.state = 'retrying' AND delivery.group_id = excluded.group_id`,
    values: [row.id, endpointIds],
  })
}
