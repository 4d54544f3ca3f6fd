import { STATUS_SENDING } from '../../domain/outcome.ts'
import { lowestIdAt } from '../../domain/ids.ts'
import { ENDPOINT_COLUMNS, type Endpoint } from '../endpoints.ts'
import { createParameters, cutPage, pageClause, rises, type Page, type PageOf } from '../page.ts'
import type { Queryable } from '../pool.ts'
import { historyConditions, messageColumns, type HistoryFilter, type StoredMessage } from './messages.ts'
import { aheadOf, readInWindows } from './windows.ts'

/** How a delivery stands: its last attempt, and when the next one is due. */
export interface DeliveryState {
  readonly status: number
  readonly nextAttemptAt: Date | null
}

// The delivery row knows of parking and of an operator's skip; the attempt alone knows while no row was written yet.
const NEXT_ATTEMPT = `CASE WHEN d.state IN ('dead', 'skipped', 'cancelled') THEN NULL ELSE coalesce(d.next_at, last.next_attempt_at) END`
// $1: the endpoint. $2, $3: attempts are not older than this message and have lower ids, so that other days are left out of the plan.
const LAST_ATTEMPT = `CROSS JOIN LATERAL (SELECT a.status, a.next_attempt_at FROM attempt a
  WHERE a.message_id = m.id AND a.id >= earliest_attempt(m.id) AND a.id >= earliest_attempt($2) AND a.id < $3 AND a.endpoint_id = $1
  ORDER BY a.id DESC LIMIT 1) last
  LEFT JOIN delivery d ON d.message_id = m.id AND d.endpoint_id = $1`

/** Statuses to keep: of the last attempt, or `waiting`: failed with another attempt due. */
export type DestinationStatus = { readonly status: number } | { readonly waiting: true }

export interface AttemptedFilter extends HistoryFilter {
  readonly endpointId: string
  readonly keep?: DestinationStatus | undefined
}

// Up to here an endpoint's attempts are collected first; beyond, its messages are dense enough to be met on a walk by id.
const FEW_ATTEMPTS = 5000

async function hasFewAttempts(db: Queryable, endpointId: string, sinceMessageId: string, beforeId: string): Promise<boolean> {
  const { rows } = await db.query<{ count: number }>(
    'SELECT count(*) AS count FROM (SELECT FROM attempt WHERE endpoint_id = $1 AND id >= earliest_attempt($3) AND id < $4 LIMIT $2) AS first_ones',
    [endpointId, FEW_ATTEMPTS, sinceMessageId, beforeId],
  )
  return rows[0]!.count < FEW_ATTEMPTS
}

/** Messages that the endpoint was sent, each with its last attempt there. */
export async function listAttemptedMessages(
  db: Queryable,
  appId: string,
  filter: AttemptedFilter,
  page: Page,
  options: { withPayload: boolean },
): Promise<PageOf<StoredMessage & DeliveryState>> {
  const rows = await readInWindows('msg', page, filter, Date.now(), (bounds, part) =>
    selectAttempted(db, appId, { ...filter, ...bounds }, part, options),
  )
  return cutPage(rows, page)
}

/** The first message that there can be. */
const FIRST_MESSAGE = lowestIdAt('msg', 0)

async function selectAttempted(
  db: Queryable,
  appId: string,
  filter: AttemptedFilter,
  page: Page,
  options: { withPayload: boolean },
): Promise<(StoredMessage & DeliveryState)[]> {
  const parameters = createParameters()
  const add = parameters.add
  const since = filter.afterId ?? FIRST_MESSAGE
  const before = aheadOf('atmpt', Date.now())
  // $1, $2 and $3 in LAST_ATTEMPT.
  add(filter.endpointId)
  add(since)
  add(before)
  const where = [`m.app_id = ${add(appId)}`, ...historyConditions(filter, 'm.id', add)]
  const isFew = await hasFewAttempts(db, filter.endpointId, since, before)
  if (isFew) where.push('m.id IN (SELECT message_id FROM attempt WHERE endpoint_id = $1 AND id >= earliest_attempt($2) AND id < $3)')
  if (filter.keep !== undefined) {
    where.push('status' in filter.keep ? `last.status = ${add(filter.keep.status)}` : `last.status <> 0 AND ${NEXT_ATTEMPT} IS NOT NULL`)
  }
  const columns = `${messageColumns(options.withPayload)}, last.status, CASE WHEN last.status <> 0 THEN ${NEXT_ATTEMPT} END AS "nextAttemptAt"`
  const chosen = `WHERE ${where.join(' AND ')} AND ${pageClause(page, 'm.id', parameters)}`
  // Where each has an attempt the page is known before the last ones are looked for.
  const text =
    isFew && filter.keep === undefined
      ? `SELECT ${columns} FROM (SELECT * FROM message m ${chosen}) m ${LAST_ATTEMPT} ORDER BY m.id ${rises(page) ? 'ASC' : 'DESC'}`
      : `SELECT ${columns} FROM message m ${LAST_ATTEMPT} ${chosen}`
  const { rows } = await db.query<StoredMessage & DeliveryState>(text, parameters.values)
  return rows
}

/** Endpoints that the message was sent to, deleted ones included, each with its last attempt; and those where it waits to be sent. */
export async function listDestinations(db: Queryable, messageId: string, page: Page): Promise<PageOf<Endpoint & DeliveryState>> {
  const parameters = createParameters()
  const message = parameters.add(messageId)
  const { rows } = await db.query<Endpoint & DeliveryState>(
    `SELECT ${ENDPOINT_COLUMNS}, last.status, CASE WHEN last.status <> 0 THEN ${NEXT_ATTEMPT} END AS "nextAttemptAt"
     FROM ((SELECT DISTINCT ON (endpoint_id) endpoint_id, status, next_attempt_at FROM attempt WHERE message_id = ${message} AND id >= earliest_attempt(${message})
            ORDER BY endpoint_id, id DESC)
           UNION ALL
           SELECT endpoint_id, ${STATUS_SENDING}, next_at FROM delivery d WHERE message_id = ${message} AND state = 'parked' AND attempts = 0
             AND NOT EXISTS (SELECT FROM attempt a WHERE a.message_id = d.message_id AND a.id >= earliest_attempt(d.message_id) AND a.endpoint_id = d.endpoint_id)) last
     JOIN endpoint e ON e.id = last.endpoint_id
     LEFT JOIN delivery d ON d.message_id = ${message} AND d.endpoint_id = e.id
     WHERE ${pageClause(page, 'e.id', parameters)}`,
    parameters.values,
  )
  return cutPage(rows, page)
}
