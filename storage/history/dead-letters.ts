import { newId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import { TRIGGER_MANUAL } from '../../domain/outcome.ts'
import type { TaskStep } from '../../domain/task.ts'
import { advanceTask } from '../background-tasks.ts'
import { notifyOutbox } from '../outbox.ts'
import { createParameters, cutPage, type Page, type PageOf } from '../page.ts'
import { inTransaction, type Pool, type Queryable } from '../pool.ts'

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
  if (page.from !== undefined) {
    const [messageId = '', endpointId = ''] = page.from.split('.')
    where.push(`(d.message_id, d.endpoint_id) ${rising ? '>' : '<'} (${add(messageId)}, ${add(endpointId)})`)
  }
  const direction = rising ? 'ASC' : 'DESC'
  const { rows } = await db.query<DeadLetter>(
    `SELECT d.message_id AS "messageId", d.endpoint_id AS "endpointId", m.event_type AS "eventType", m.event_id AS "eventId", d.group_id AS "groupId", d.attempts,
       d.updated_at AS "diedAt", payload_at(now(), m.id, m.expires_at, m.payload) IS NOT NULL AS redrivable,
       (SELECT a.response_code FROM attempt a WHERE a.message_id = d.message_id AND a.id >= earliest_attempt(d.message_id) AND a.endpoint_id = d.endpoint_id ORDER BY a.id DESC LIMIT 1)
         AS "responseCode"
     FROM delivery d JOIN message m ON m.id = d.message_id
     WHERE ${where.join(' AND ')} ORDER BY d.message_id ${direction}, d.endpoint_id ${direction} LIMIT ${add(page.limit + 1)}`,
    parameters.values,
  )
  return cutPage(rows, page)
}

/** Which dead letters are put back. */
export interface Redrive {
  readonly applicationId: string
  readonly endpointId?: string | undefined
  readonly messageIds?: readonly string[] | undefined
  /** Those that died before, by Postgres's clock. What dies again stays, or putting back would not end. */
  readonly diedBefore: string
}

/** @returns the time by Postgres's clock, which dead letters are dated by */
export async function readClock(db: Queryable): Promise<string> {
  const { rows } = await db.query<{ now: string }>('SELECT clock_timestamp()::text AS now')
  return rows[0]!.now
}

/**
 * Puts some dead letters back with their whole retry schedule, oldest message first: in one statement the row leaves and the
 * delivery enters the outbox. Two callers at a time never take the same letter. Letters whose message is gone or whose
 * endpoint is disabled or deleted stay.
 * @returns how many
 */
export async function redriveDeadLetters(db: Queryable, redrive: Redrive, limit: number): Promise<number> {
  const { rowCount } = await db.query({
    name: 'dead-letters-redrive',
    text: `WITH letter AS MATERIALIZED (
        SELECT d.message_id, d.endpoint_id, d.app_id, m.event_type
        FROM delivery d JOIN message m ON m.id = d.message_id
        WHERE d.app_id = $1 AND d.state = 'dead' AND d.updated_at < $2::timestamptz
          AND ($3::text IS NULL OR d.endpoint_id = $3) AND ($4::text[] IS NULL OR d.message_id = ANY($4))
          AND payload_at(now(), m.id, m.expires_at, m.payload) IS NOT NULL
          AND EXISTS (SELECT FROM endpoint e WHERE e.id = d.endpoint_id AND e.deleted_at IS NULL AND NOT e.disabled)
        ORDER BY d.message_id, d.endpoint_id LIMIT $5 FOR UPDATE OF d SKIP LOCKED
      ), gone AS (
        DELETE FROM delivery d USING letter WHERE d.message_id = letter.message_id AND d.endpoint_id = letter.endpoint_id
      )
      INSERT INTO outbox (id, message_id, app_id, event_type, endpoint_id, trigger, retried)
      SELECT message_id || '/' || endpoint_id || '/' || $6, message_id, app_id, event_type, endpoint_id, $7, true FROM letter`,
    values: [
      redrive.applicationId,
      redrive.diedBefore,
      redrive.endpointId ?? null,
      redrive.messageIds ?? null,
      limit,
      newId('out'),
      TRIGGER_MANUAL,
    ],
  })
  if (rowCount !== 0) await notifyOutbox(db)
  return rowCount ?? 0
}

/** One batch of a redrive that is more than one request's. */
export async function redriveSome(pool: Pool, taskId: string, redrive: Redrive): Promise<TaskStep> {
  return inTransaction(pool, async (client) => {
    const redriven = await redriveDeadLetters(client, redrive, LIMITS.redriveBatch)
    const done = redriven < LIMITS.redriveBatch
    await advanceTask(client, taskId, { redriven }, done ? 'finished' : 'running')
    return { done }
  })
}
