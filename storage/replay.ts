import type { ReplayPage, ReplayPageInput } from '../domain/fan-out.ts'
import { lowestIdAt } from '../domain/ids.ts'
import { TRIGGER_MANUAL } from '../domain/outcome.ts'
import { inTransaction, type Pool } from './pool.ts'
import { enqueueRedeliveries, notifyOutbox } from './outbox.ts'

// Which deliveries of the chosen messages: $3 is the status asked for. An endpoint is a candidate where it is enabled and
// takes the message's type, or where it has been sent the message before.
const CANDIDATES = `
WITH page AS (
  SELECT id, app_id, event_type, channels FROM message
  WHERE app_id = $1 AND id > $2 AND id < $4 AND ($5::text[] IS NULL OR event_type = ANY($5))
  ORDER BY id LIMIT $6
)
SELECT page.id AS message_id, page.event_type, e.id AS endpoint_id
FROM page
LEFT JOIN endpoint e ON e.app_id = page.app_id AND e.deleted_at IS NULL AND NOT e.disabled
  AND ($7::text IS NULL OR e.id = $7)
  AND (e.event_types IS NULL OR page.event_type = ANY(e.event_types))
  AND (e.channels IS NULL OR e.channels = '{}' OR e.channels && page.channels)
  AND CASE $3
    WHEN 'all' THEN true
    WHEN 'missing' THEN NOT EXISTS (SELECT FROM attempt a WHERE a.message_id = page.id AND a.endpoint_id = e.id)
    ELSE EXISTS (SELECT FROM attempt a WHERE a.message_id = page.id AND a.endpoint_id = e.id)
      AND NOT EXISTS (SELECT FROM attempt a WHERE a.message_id = page.id AND a.endpoint_id = e.id AND a.status = 0)
      AND NOT EXISTS (SELECT FROM delivery d WHERE d.message_id = page.id AND d.endpoint_id = e.id AND d.state IN ('retrying', 'parked'))
  END
ORDER BY page.id, e.id`

/**
 * Puts the deliveries of the next messages of a replay into the outbox, in one transaction; repeating a page puts nothing in
 * twice.
 */
export async function enqueueReplayPage(pool: Pool, input: ReplayPageInput): Promise<ReplayPage> {
  const { request } = input
  const after = input.afterMessageId ?? lowestIdAt('msg', Date.parse(request.since))
  return inTransaction(pool, async (client) => {
    const done = await client.query<{ last_message_id: string | null; deliveries: number }>(
      'SELECT last_message_id, deliveries FROM replay_page WHERE task_id = $1 AND after_message_id = $2',
      [request.taskId, after],
    )
    const before = done.rows[0]
    if (before !== undefined) return toPage(before.last_message_id, before.deliveries)
    const { rows } = await client.query<{ message_id: string; event_type: string; endpoint_id: string | null }>({
      name: 'replay-page',
      text: CANDIDATES,
      values: [
        request.applicationId,
        after,
        request.status ?? 'failed',
        lowestIdAt('msg', Date.parse(request.until)),
        request.eventTypes ?? null,
        input.limit,
        request.endpointId ?? null,
      ],
    })
    const redeliveries = rows.flatMap((row) =>
      row.endpoint_id === null
        ? []
        : [
            {
              messageId: row.message_id,
              appId: request.applicationId,
              eventType: row.event_type,
              endpointId: row.endpoint_id,
              trigger: TRIGGER_MANUAL,
              retried: request.retried ?? true,
            } as const,
          ],
    )
    if (redeliveries.length > 0) {
      await enqueueRedeliveries(client, redeliveries, request.taskId)
      await notifyOutbox(client)
    }
    const last = rows.at(-1)?.message_id ?? null
    await client.query('INSERT INTO replay_page (task_id, after_message_id, last_message_id, deliveries) VALUES ($1, $2, $3, $4)', [
      request.taskId,
      after,
      last,
      redeliveries.length,
    ])
    return toPage(last, redeliveries.length)
  })
}

function toPage(last: string | null, deliveries: number): ReplayPage {
  return last === null ? { deliveries } : { deliveries, afterMessageId: last }
}
