import { EXPUNGED_CHANNEL } from './config-changes.ts'
import type { Queryable } from './pool.ts'

/** Which messages of an application: the named ones, or those of what waits that the filters take. */
export type CancelRequest =
  | { readonly messageIds: readonly string[] }
  | {
      readonly eventTypes?: readonly string[] | undefined
      readonly channel?: string | undefined
      /** Ids below and above these, exclusive. */
      readonly beforeId?: string | undefined
      readonly afterId?: string | undefined
    }

/** What a cancellation did to one message. */
export interface Cancelled {
  readonly messageId: string
  /** It waited for its time: nothing of it was sent. */
  readonly unscheduled: boolean
  /** Failed deliveries that waited for a retry, which will not come. */
  readonly deliveries: number
}

// Rows of deliveries are locked in the order of their keys, as whoever writes them does. Processes drop what they have in
// memory of the message, and read that it is cancelled.
const CANCEL = `
, unscheduled AS (
  DELETE FROM scheduled_message USING chosen WHERE message_id = chosen.id RETURNING message_id
), waiting AS MATERIALIZED (
  SELECT message_id, endpoint_id FROM delivery WHERE message_id IN (SELECT id FROM chosen) AND state IN ('retrying', 'parked')
  ORDER BY message_id, endpoint_id FOR UPDATE
), ended AS (
  UPDATE delivery SET state = 'cancelled', next_at = NULL, updated_at = now() FROM waiting
  WHERE delivery.message_id = waiting.message_id AND delivery.endpoint_id = waiting.endpoint_id
  RETURNING delivery.message_id
), marked AS (
  UPDATE message SET cancelled_at = now() FROM chosen WHERE message.id = chosen.id AND cancelled_at IS NULL RETURNING message.id
), told AS (
  SELECT pg_notify($2, id) FROM marked
)
SELECT id AS "messageId", EXISTS (SELECT FROM unscheduled u WHERE u.message_id = chosen.id) AS unscheduled,
  (SELECT count(*)::int FROM ended e WHERE e.message_id = chosen.id) AS deliveries
FROM chosen, (SELECT count(*) FROM told) AS heard ORDER BY id`

const NAMED = `WITH chosen AS MATERIALIZED (SELECT id FROM message WHERE app_id = $1 AND id = ANY($3::text[]))`

const FILTERED = `
WITH chosen AS MATERIALIZED (
  SELECT m.id FROM message m
  WHERE m.app_id = $1 AND m.id IN (
      SELECT message_id FROM scheduled_message WHERE app_id = $1
      UNION SELECT message_id FROM delivery WHERE app_id = $1 AND state IN ('retrying', 'parked'))
    AND ($3::text[] IS NULL OR m.event_type = ANY($3)) AND ($4::text IS NULL OR m.channels @> ARRAY[$4::text])
    AND ($5::text IS NULL OR m.id < $5) AND ($6::text IS NULL OR m.id > $6)
  ORDER BY m.id LIMIT $7
)`

/**
 * Cancels messages: what waits for its time is not sent, what waits for a retry is not retried, and what is being sent is not
 * sent again if it fails. One statement.
 * @param limit of messages that filters choose, the oldest first
 * @returns one entry for each message that was found
 */
export async function cancelMessages(db: Queryable, appId: string, request: CancelRequest, limit: number): Promise<Cancelled[]> {
  const shared = [appId, EXPUNGED_CHANNEL]
  const { rows } = await db.query<Cancelled>(
    'messageIds' in request
      ? { name: 'cancel-named', text: NAMED + CANCEL, values: [...shared, request.messageIds] }
      : {
          name: 'cancel-filtered',
          text: FILTERED + CANCEL,
          values: [...shared, request.eventTypes, request.channel, request.beforeId, request.afterId, limit],
        },
  )
  return rows
}
