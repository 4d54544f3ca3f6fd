/** Channel on which drains hear of what was added to a queue that they look after: the endpoint's id, and how many. */
export const QUEUE_CHANNEL = 'tidings_queue'

/**
 * Marks the mailboxes of `places` (endpoint_id, eager) as not idle, and tells drains that look after one. An eager queue sends
 * what is new though what is before it waits, so its mailbox is woken from a longer sleep too. A mailbox that has to be woken
 * is recognised by the time of this transaction, which then is the time it is to wake.
 */
export const WAKE_BOXES = `
counted AS MATERIALIZED (
  SELECT endpoint_id, count(*) AS added, bool_or(eager) AS eager FROM places GROUP BY endpoint_id
), boxes AS (
  INSERT INTO mailbox (endpoint_id, idle, wake_at)
  SELECT endpoint_id, false, now() FROM counted ORDER BY endpoint_id
  ON CONFLICT (endpoint_id) DO UPDATE SET idle = false, wake_at = CASE
    WHEN mailbox.idle OR (mailbox.wake_at > excluded.wake_at AND EXISTS (SELECT FROM counted c WHERE c.eager AND c.endpoint_id = mailbox.endpoint_id))
    THEN excluded.wake_at ELSE mailbox.wake_at END
  RETURNING endpoint_id, wake_at
), told AS (
  SELECT endpoint_id,
    CASE WHEN wake_at = now() THEN true ELSE pg_notify('${QUEUE_CHANNEL}', endpoint_id || ' ' || added) IS NULL END AS wakes
  FROM boxes JOIN counted USING (endpoint_id)
)`

/** What a notification on `QUEUE_CHANNEL` says. */
export function readQueueHint(payload: string): { readonly endpointId: string; readonly added: number } {
  const [endpointId = '', added] = payload.split(' ')
  return { endpointId, added: Number(added ?? Infinity) }
}
