import { LIMITS } from '../domain/limits.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'
import { putBack, readUnsettled, type UnsettledPage } from './reconcile.ts'

/**
 * - `missing`: accepted by the lost primary, and not known to the one that took its place
 * - `known`: its publisher published the same `eventId` again after the failover
 * - `gone`: its application has been erased since
 */
export interface Unreplicated {
  readonly messageId: string
  readonly appId: string
  readonly acceptedAt: Date
  readonly state: 'missing' | 'known' | 'gone'
}

export interface UnreplicatedPage {
  /** Messages of the lost primary that were compared. */
  readonly compared: number
  /** In the order of their acceptance. */
  readonly found: readonly Unreplicated[]
  /** The last message compared; undefined at the end. */
  readonly lastId: string | undefined
}

/** Compares the next messages of two databases by their ids. One statement each. */
export async function readUnreplicated(old: Queryable, current: Queryable, afterId: string): Promise<UnreplicatedPage> {
  const { rows: there } = await old.query<{ id: string; app_id: string; event_id: string | null; created_at: Date }>({
    name: 'unreplicated-old',
    text: 'SELECT id, app_id, event_id, created_at FROM message WHERE id > $1 ORDER BY id LIMIT $2',
    values: [afterId, LIMITS.unreplicatedCompared],
  })
  if (there.length === 0) return { compared: 0, found: [], lastId: undefined }
  const { rows } = await current.query<{ id: string; known: boolean; gone: boolean }>({
    name: 'unreplicated-new',
    text: `SELECT t.id, EXISTS (SELECT FROM message_event_id e WHERE e.app_id = t.app_id AND e.event_id = t.event_id) AS known,
        NOT EXISTS (SELECT FROM application a WHERE a.id = t.app_id) AS gone
      FROM unnest($1::text[], $2::text[], $3::text[]) AS t (id, app_id, event_id)
      WHERE NOT EXISTS (SELECT FROM message m WHERE m.id = t.id) AND NOT EXISTS (SELECT FROM erased_message e WHERE e.id = t.id)`,
    values: [there.map((one) => one.id), there.map((one) => one.app_id), there.map((one) => one.event_id)],
  })
  const absent = new Map(rows.map((row) => [row.id, row.gone ? 'gone' : row.known ? 'known' : 'missing'] as const))
  const found = there.flatMap(({ id, app_id: appId, created_at: acceptedAt }) => {
    const state = absent.get(id)
    return state === undefined ? [] : [{ messageId: id, appId, acceptedAt, state }]
  })
  return { compared: there.length, found, lastId: there.at(-1)!.id }
}

/** Rows of the lost primary, as JSON. */
interface Rows {
  readonly messages: string
  readonly payloads: string
  readonly attempts: string
  readonly deliveries: string
  readonly scheduled: string
  readonly eventIds: string
  readonly handedOver: string
  readonly handedIn: string
}

async function readRows(old: Queryable, messageIds: readonly string[]): Promise<Rows> {
  const all = (table: string, key = 'message_id') =>
    `(SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]')::text FROM ${table} t WHERE t.${key} = ANY($1::text[]))`
  const { rows } = await old.query<Rows>({
    name: 'unreplicated-rows',
    text: `SELECT ${all('message', 'id')} AS messages, ${all('message_payload')} AS payloads, ${all('attempt')} AS attempts, ${all('delivery')} AS deliveries,
      ${all('scheduled_message')} AS scheduled, ${all('message_event_id')} AS "eventIds",
      ${all('handed_over')} AS "handedOver", ${all('handed_in')} AS "handedIn"`,
    values: [messageIds],
  })
  return rows[0]!
}

// What had a place in a queue gets the next ones, in the order that it had. What waited for a retry of a workflow waits in the
// mailbox, unless the workflow is here. What is there already stays.
const COPY = `
WITH ids AS (
  INSERT INTO message_event_id SELECT * FROM jsonb_populate_recordset(NULL::message_event_id, $5::jsonb) ORDER BY app_id, event_id
  ON CONFLICT DO NOTHING
), messages AS (
  INSERT INTO message SELECT * FROM jsonb_populate_recordset(NULL::message, $1::jsonb) ORDER BY id ON CONFLICT DO NOTHING RETURNING id
), payloads AS (
  INSERT INTO message_payload SELECT p.* FROM jsonb_populate_recordset(NULL::message_payload, $9::jsonb) p JOIN messages m ON m.id = p.message_id
  ON CONFLICT DO NOTHING
), attempts AS (
  INSERT INTO attempt SELECT a.* FROM jsonb_populate_recordset(NULL::attempt, $2::jsonb) a JOIN messages m ON m.id = a.message_id
  ON CONFLICT DO NOTHING
), late AS (
  INSERT INTO rollup_late (minute)
  SELECT DISTINCT date_trunc('minute', a.created_at) FROM jsonb_populate_recordset(NULL::attempt, $2::jsonb) a JOIN messages m ON m.id = a.message_id
), old AS (
  SELECT d.* FROM jsonb_populate_recordset(NULL::delivery, $3::jsonb) d JOIN messages m ON m.id = d.message_id
), deliveries AS (
  INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, trigger, next_at, group_id, updated_at, retried, seq, ordering_key)
  SELECT message_id, endpoint_id, app_id, CASE WHEN state = 'retrying' AND message_id <> ALL ($6::text[]) THEN 'parked' ELSE state END,
    attempts, trigger, next_at, group_id, now(), retried, CASE WHEN seq IS NOT NULL AND state = 'parked' THEN nextval('delivery_seq') END, ordering_key
  FROM (SELECT * FROM old ORDER BY seq, message_id, endpoint_id) one
  ON CONFLICT DO NOTHING RETURNING endpoint_id, state, next_at
), boxes AS (
  INSERT INTO mailbox (endpoint_id, idle, wake_at)
  SELECT endpoint_id, false, min(next_at) FROM deliveries WHERE state = 'parked' GROUP BY endpoint_id ORDER BY endpoint_id
  ON CONFLICT (endpoint_id) DO UPDATE SET idle = false, wake_at = least(mailbox.wake_at, excluded.wake_at)
), scheduled AS (
  INSERT INTO scheduled_message SELECT s.* FROM jsonb_populate_recordset(NULL::scheduled_message, $4::jsonb) s JOIN messages m ON m.id = s.message_id
  ON CONFLICT DO NOTHING RETURNING deliver_at
), over AS (
  INSERT INTO handed_over SELECT h.* FROM jsonb_populate_recordset(NULL::handed_over, $7::jsonb) h JOIN messages m ON m.id = h.message_id
  ON CONFLICT DO NOTHING
), taken AS (
  INSERT INTO handed_in SELECT h.* FROM jsonb_populate_recordset(NULL::handed_in, $8::jsonb) h JOIN messages m ON m.id = h.message_id
  ON CONFLICT DO NOTHING
), timer AS (
  UPDATE schedule_timer SET wake_at = least(wake_at, (SELECT min(deliver_at) FROM scheduled)) WHERE EXISTS (SELECT FROM scheduled)
)
SELECT id FROM messages`

export interface Returned {
  readonly accepted: number
  /** Deliveries put into the outbox. */
  readonly put: number
}

/**
 * Accepts messages of a lost primary under their own ids, in one transaction: with all that it has recorded of them, so that
 * nothing that it has delivered is sent again, and with the rest of their deliveries in the outbox. Repeating it has no effect.
 * @param messageIds in the order of their acceptance
 * @param carried those that an open fan-out of this region carries, which waits for their rows and goes on by itself
 * @param request names it in the outbox
 */
export async function acceptReturned(
  old: Queryable,
  current: Pool,
  messageIds: readonly string[],
  { carried, request }: { readonly carried: ReadonlySet<string>; readonly request: string },
): Promise<Returned> {
  const rows = await readRows(old, messageIds)
  return inTransaction(current, async (client) => {
    const { rows: stored } = await client.query<{ id: string }>({
      name: 'unreplicated-copy',
      text: COPY,
      values: [
        rows.messages,
        rows.attempts,
        rows.deliveries,
        rows.scheduled,
        rows.eventIds,
        [...carried],
        rows.handedOver,
        rows.handedIn,
        rows.payloads,
      ],
    })
    const ids = stored.map(({ id }) => id).filter((id) => !carried.has(id))
    return { accepted: stored.length, put: await putRest(client, ids, request) }
  })
}

/** What of them has neither been delivered nor waits. Endpoints are today's, however they were changed. */
async function putRest(db: Queryable, ids: readonly string[], request: string): Promise<number> {
  const wanted = new Set(ids)
  const sorted = [...ids].sort()
  let from: UnsettledPage['next'] = sorted.length === 0 ? undefined : { after: sorted[0]!, afterEndpointId: '' }
  let put = 0
  while (from !== undefined) {
    const page = await readUnsettled(db, from, `${sorted.at(-1)!}~`)
    const missing = page.deliveries.filter((one) => one.kind !== 'retrying' && wanted.has(one.messageId))
    if (missing.length > 0) put += await putBack(db, missing, request)
    from = page.next
  }
  return put
}
