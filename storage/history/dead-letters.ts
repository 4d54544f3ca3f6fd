import { createParameters, cutPage, type Page, type PageOf } from '../page.ts'
import type { Queryable } from '../pool.ts'

/** A delivery that ran out of attempts. */
export interface DeadLetter {
  readonly messageId: string
  readonly endpointId: string
  readonly eventType: string
  readonly eventId: string | null
  /** The fan-out that gave up on it. */
  readonly groupId: string
  /** Requests made. */
  readonly attempts: number
  readonly diedAt: Date
  /** Status code of the last attempt, 0 without an answer; null where no attempt is recorded. */
  readonly responseCode: number | null
  /** False: the text of the message is gone, so it cannot be sent again. */
  readonly redrivable: boolean
}

export interface DeadLetterFilter {
  readonly endpointId?: string | undefined
  readonly messageIds?: readonly string[] | undefined
  /** Only those whose message can still be sent to an endpoint that exists and is enabled. */
  readonly redrivable?: boolean | undefined
}

/** Where a page of dead letters begins: message and endpoint, joined by a dot (neither id has one). */
export function deadLetterCursor(row: Pick<DeadLetter, 'messageId' | 'endpointId'>): string {
  return `${row.messageId}.${row.endpointId}`
}

/** Newest message first. `page.from` is a cursor as `deadLetterCursor` writes it. */
export async function listDeadLetters(db: Queryable, appId: string, filter: DeadLetterFilter, page: Page): Promise<PageOf<DeadLetter>> {
  const parameters = createParameters()
  const add = parameters.add
  const rising = (page.order === 'ascending') !== (page.backwards === true)
  const where = [`d.app_id = ${add(appId)}`, `d.state = 'dead'`]
  if (filter.endpointId !== undefined) where.push(`d.endpoint_id = ${add(filter.endpointId)}`)
  if (filter.messageIds !== undefined) where.push(`d.message_id = ANY(${add(filter.messageIds)}::text[])`)
  if (filter.redrivable === true) {
    where.push('m.payload IS NOT NULL AND m.expires_at > now()')
    where.push('EXISTS (SELECT FROM endpoint e WHERE e.id = d.endpoint_id AND e.deleted_at IS NULL AND NOT e.disabled)')
  }
  if (page.from !== undefined) {
    const [messageId = '', endpointId = ''] = page.from.split('.')
    where.push(`(d.message_id, d.endpoint_id) ${rising ? '>' : '<'} (${add(messageId)}, ${add(endpointId)})`)
  }
  const direction = rising ? 'ASC' : 'DESC'
  const { rows } = await db.query<DeadLetter>(
    `SELECT d.message_id AS "messageId", d.endpoint_id AS "endpointId", m.event_type AS "eventType", m.event_id AS "eventId", d.group_id AS "groupId", d.attempts,
       d.updated_at AS "diedAt", m.payload IS NOT NULL AND m.expires_at > now() AS redrivable,
       (SELECT a.response_code FROM attempt a WHERE a.message_id = d.message_id AND a.endpoint_id = d.endpoint_id ORDER BY a.id DESC LIMIT 1)
         AS "responseCode"
     FROM delivery d JOIN message m ON m.id = d.message_id
     WHERE ${where.join(' AND ')} ORDER BY d.message_id ${direction}, d.endpoint_id ${direction} LIMIT ${add(page.limit + 1)}`,
    parameters.values,
  )
  return cutPage(rows, page)
}

/**
 * Removes dead letters that have been put into the outbox again. A row that another fan-out has written since is left alone:
 * it says how the delivery stands now.
 */
export async function deleteDeadLetters(db: Queryable, letters: readonly DeadLetter[]): Promise<void> {
  await db.query(
    `DELETE FROM delivery d USING unnest($1::text[], $2::text[], $3::text[]) AS t (message_id, endpoint_id, group_id)
     WHERE d.message_id = t.message_id AND d.endpoint_id = t.endpoint_id AND d.group_id = t.group_id AND d.state = 'dead'`,
    [letters.map((one) => one.messageId), letters.map((one) => one.endpointId), letters.map((one) => one.groupId)],
  )
}
