import type { ReplayPage, ReplayPageInput } from '../domain/fan-out.ts'
import { lowestIdAt } from '../domain/ids.ts'
import { TRIGGER_MANUAL } from '../domain/outcome.ts'
import { advanceTask } from './background-tasks.ts'
import { inTransaction, type Pool } from './pool.ts'
import { enqueueRedeliveries, notifyOutbox } from './outbox.ts'
import { compileFilter } from './payload-filter.ts'

// As `subscribes` in domain/routing.ts, without regard to when the endpoint was disabled: an operator asks for these. What
// waits for its time, or was cancelled, is nobody's. What another region has handed over is for the endpoints that it named.
export const SUBSCRIBED = `(page.deliver_at IS NULL OR page.deliver_at <= now()) AND page.cancelled_at IS NULL AND (e.event_types IS NULL OR EXISTS (SELECT FROM unnest(e.event_types) AS t (name)
    WHERE name = '*' OR page.event_type = name OR (name LIKE '%.*' AND starts_with(page.event_type, left(name, -1)))))
  AND (e.channels IS NULL OR e.channels = '{}' OR e.channels && page.channels)
  AND (page.accepted_in IS NULL OR EXISTS (SELECT FROM handed_in i WHERE i.message_id = page.id AND e.id = ANY (i.endpoint_ids)))`

// Which deliveries of the chosen messages: $3 is the status asked for. What was never attempted goes where the message is
// subscribed to, unless another region attempts it; what was attempted goes where it went, whatever the endpoint's filters are now.
const CANDIDATES = `
WITH page AS (
  SELECT id, app_id, event_type, channels, live.payload, deliver_at, cancelled_at, accepted_in, live.payload IS NOT NULL AS sendable FROM message m
  CROSS JOIN LATERAL (SELECT payload_at(now(), m.id, m.expires_at, m.payload) AS payload) live
  WHERE app_id = $1 AND id > $2 AND id < $4 AND ($5::text[] IS NULL OR event_type = ANY($5))
    AND ($8::text IS NULL OR channels @> ARRAY[$8::text])
  ORDER BY id LIMIT $6
)
SELECT page.id AS message_id, page.event_type, page.channels, target.id AS endpoint_id, target.filter,
  CASE WHEN target.filter IS NOT NULL THEN page.payload END AS payload
FROM page
LEFT JOIN LATERAL (
  SELECT e.id, CASE WHEN $3 IN ('all', 'missing') THEN e.filter END AS filter FROM endpoint e
  CROSS JOIN LATERAL (SELECT ${SUBSCRIBED} AS subscribed) s
  LEFT JOIN LATERAL (
    SELECT a.status, a.response_code FROM attempt a WHERE a.message_id = page.id AND a.id >= earliest_attempt(page.id) AND a.endpoint_id = e.id ORDER BY a.id DESC LIMIT 1
  ) last ON true
  LEFT JOIN delivery waiting ON waiting.message_id = page.id AND waiting.endpoint_id = e.id AND waiting.state IN ('retrying', 'parked')
  WHERE page.sendable AND e.app_id = page.app_id AND e.deleted_at IS NULL AND NOT e.disabled AND ($7::text IS NULL OR e.id = $7)
    AND ($9::int IS NULL OR last.response_code BETWEEN $9 AND $9 + 99)
    AND CASE $3
      WHEN 'all' THEN subscribed
      WHEN 'missing' THEN subscribed AND last.status IS NULL AND waiting.state IS NULL
        AND NOT EXISTS (SELECT FROM outbox o WHERE o.id = page.id)
        AND NOT EXISTS (SELECT FROM handed_over h WHERE h.message_id = page.id AND e.id = ANY (h.endpoint_ids) AND h.state <> 'here')
      WHEN 'attempted' THEN last.status IS NOT NULL
      WHEN 'delivered' THEN last.status = 0
      WHEN 'waiting' THEN waiting.state IS NOT NULL
      ELSE last.status IS NOT NULL AND waiting.state IS NULL
        AND NOT EXISTS (SELECT FROM attempt a WHERE a.message_id = page.id AND a.id >= earliest_attempt(page.id) AND a.endpoint_id = e.id AND a.status = 0)
    END
) target ON true
ORDER BY page.id, target.id`

/**
 * Puts the deliveries of the next messages of a replay into the outbox, in one transaction with the task's progress;
 * repeating a page puts nothing in twice. The empty page at the end finishes the task.
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
    const { rows } = await client.query<CandidateRow>({
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
        request.channel ?? null,
        request.statusCodeClass ?? null,
      ],
    })
    const redeliveries = rows.flatMap((row) =>
      row.endpoint_id === null || !isWanted(row)
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
    await advanceTask(client, request.taskId, { deliveries: redeliveries.length }, last === null ? 'finished' : 'running')
    return toPage(last, redeliveries.length)
  })
}

/** A delivery that is to be sent again; `filter` of the endpoint where it decides, and then what it decides about. */
interface CandidateRow {
  readonly message_id: string
  readonly event_type: string
  readonly channels: readonly string[] | null
  readonly endpoint_id: string | null
  readonly filter: string | null
  readonly payload: string | null
}

function isWanted(row: CandidateRow): boolean {
  if (row.filter === null) return true
  return compileFilter(row.filter)({ eventType: row.event_type, channels: row.channels, payload: row.payload })
}

function toPage(last: string | null, deliveries: number): ReplayPage {
  return last === null ? { deliveries } : { deliveries, afterMessageId: last }
}
