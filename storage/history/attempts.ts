import { createParameters, cutPage, pageClause, type Page, type PageOf } from '../page.ts'
import type { Queryable } from '../pool.ts'
import { historyConditions, type HistoryFilter } from './messages.ts'
import { readInWindows, type Bounds } from './windows.ts'

/** One request that was made to an endpoint. */
export interface Attempt {
  readonly id: string
  readonly messageId: string
  readonly endpointId: string
  readonly url: string
  readonly status: number
  /** 0 without an answer. */
  readonly responseCode: number
  readonly responseBody: string
  readonly durationMs: number
  readonly trigger: number
  readonly createdAt: Date
}

export interface AttemptFilter extends HistoryFilter {
  readonly messageId?: string | undefined
  readonly endpointId?: string | undefined
  readonly status?: number | undefined
  /** 0 for no answer, else 100 to 500: the hundred the response code lies in. */
  readonly statusCodeClass?: number | undefined
}

const COLUMNS = `a.id, a.message_id AS "messageId", a.endpoint_id AS "endpointId", a.url, a.status, a.response_code AS "responseCode",
  a.response_body AS "responseBody", a.duration_ms AS "durationMs", a.trigger, a.created_at AS "createdAt"`

/** What stands in place of a response body that its owner had removed. */
const EXPUNGED = 'EXPUNGED'

export async function listAttempts(db: Queryable, appId: string, filter: AttemptFilter, page: Page): Promise<PageOf<Attempt>> {
  const select = (bounds: Bounds, part: Page) => selectAttempts(db, appId, { ...filter, ...bounds }, part)
  // Those of one message are few, and may be of any day since.
  const rows = await (filter.messageId === undefined ? readInWindows('atmpt', page, filter, Date.now(), select) : select({}, page))
  return cutPage(rows, page)
}

/** Rows of a page in the direction in which it is walked, and one more. */
async function selectAttempts(db: Queryable, appId: string, filter: AttemptFilter, page: Page): Promise<Attempt[]> {
  const parameters = createParameters()
  const add = parameters.add
  // An endpoint is of one application: with both the planner expects a hundredth of the rows, and sorts instead of walking the index.
  const where = filter.endpointId === undefined ? [`a.app_id = ${add(appId)}`] : []
  if (filter.messageId !== undefined) {
    const messageId = add(filter.messageId)
    where.push(`a.message_id = ${messageId}`, `a.id >= earliest_attempt(${messageId})`)
  }
  if (filter.endpointId !== undefined) where.push(`a.endpoint_id = ${add(filter.endpointId)}`)
  if (filter.status !== undefined) where.push(`a.status = ${add(filter.status)}`)
  if (filter.statusCodeClass !== undefined) {
    where.push(`a.response_code BETWEEN ${add(filter.statusCodeClass)} AND ${add(filter.statusCodeClass + 99)}`)
  }
  if (filter.eventTypes !== undefined) where.push(`a.event_type = ANY(${add(filter.eventTypes)}::text[])`)
  where.push(...historyConditions({ ...filter, eventTypes: undefined }, 'a.id', add))
  const join = filter.channel === undefined ? '' : 'JOIN message m ON m.id = a.message_id'
  const { rows } = await db.query<Attempt>(
    `SELECT ${COLUMNS} FROM attempt a ${join} WHERE ${where.join(' AND ')} AND ${pageClause(page, 'a.id', parameters)}`,
    parameters.values,
  )
  return rows
}

export async function findAttempt(db: Queryable, messageId: string, attemptId: string): Promise<Attempt | undefined> {
  const { rows } = await db.query<Attempt>(`SELECT ${COLUMNS} FROM attempt a WHERE a.message_id = $1 AND a.id = $2`, [messageId, attemptId])
  return rows[0]
}

/** Removes what the endpoint answered. @returns false where there is no such attempt */
export async function expungeAttempt(db: Queryable, messageId: string, attemptId: string): Promise<boolean> {
  const result = await db.query('UPDATE attempt SET response_body = $3 WHERE message_id = $1 AND id = $2', [messageId, attemptId, EXPUNGED])
  return result.rowCount === 1
}
