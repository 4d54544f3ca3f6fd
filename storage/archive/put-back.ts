import { timeOfId } from '../../domain/archive.ts'
import { newId } from '../../domain/ids.ts'
import { TRIGGER_MANUAL } from '../../domain/outcome.ts'
import { enqueueRedeliveries, notifyOutbox } from '../outbox.ts'
import { beginPuttingIn, createDays, isLocked } from '../partitions.ts'
import { compileFilter } from '../payload-filter.ts'
import { inTransaction, type Pool, type Queryable } from '../pool.ts'
import { SUBSCRIBED } from '../replay.ts'
import { quoteName } from './rows.ts'
import { ARCHIVED } from './tables.ts'

/** Restored messages of one application, and who gets them. */
export interface PutBackInput {
  readonly pool: Pool
  /** That `restoreArchive` has put them into. */
  readonly schema: string
  readonly from: string
  /** The application that has them from now on; the same in a service that knows it under its id. */
  readonly to: string
  readonly endpointIds: readonly string[]
  /** The least id (inclusive), and the first that is not meant any more. */
  readonly fromId?: string | undefined
  readonly toId?: string | undefined
  /** How long the service keeps them, in milliseconds: the retention removes them then. */
  readonly keepMs: number
  /** Of a page. */
  readonly limit: number
  /** Tells what would become of them, and writes nothing. */
  readonly dryRun: boolean
}

/** What becomes of a restored message. */
export const PUT_BACK_STATES = ['new', 'there', 'withoutPayload', 'cancelled', 'handedIn', 'eventIdTaken', 'elsewhere'] as const
export type PutBackState = (typeof PUT_BACK_STATES)[number]

export interface PutBackPage {
  readonly messages: Readonly<Record<PutBackState, number>>
  /** Put into the outbox, by endpoint. */
  readonly deliveries: ReadonlyMap<string, number>
  /** Where to go on. */
  readonly lastId: string
}

const LOCKED_TRIES = 50
const DAY_MS = 86_400_000

/**
 * Puts restored messages back under their own ids, page by page, and their deliveries into the outbox in the same transaction. The
 * schema remembers whom it has sent what: whoever repeats it, or goes on after it was killed, sends nothing twice. Nor is a message
 * sent to an endpoint that has an attempt of it.
 */
export async function* putBack(input: PutBackInput): AsyncIterable<PutBackPage> {
  const { pool, schema, dryRun } = input
  const remembers = await prepare(pool, schema, dryRun)
  const days = new Set<number>()
  for (let after = ''; ;) {
    const ids = await readIds(input, after)
    const lastId = ids.at(-1)
    if (lastId === undefined) return
    const page = { after, lastId, remembers }
    if (dryRun) yield pageOf(await readPage(pool, input, page), lastId)
    else {
      await makeDays(pool, ids, days)
      yield await inTransaction(pool, async (client) => {
        await beginPuttingIn(client)
        await lockSchema(client, schema)
        const rows = await readPage(client, input, page)
        await store(client, input, rows)
        return pageOf(rows, lastId)
      })
    }
    after = lastId
  }
}

/** @returns whether the schema remembers what was sent */
async function prepare(pool: Pool, schema: string, dryRun: boolean): Promise<boolean> {
  const name = `${quoteName(schema)}.replayed`
  if (dryRun) {
    const { rows } = await pool.query<{ there: boolean }>('SELECT to_regclass($1) IS NOT NULL AS there', [name])
    return rows[0]!.there
  }
  await inTransaction(pool, async (client) => {
    await lockSchema(client, schema)
    await client.query(
      `CREATE TABLE IF NOT EXISTS ${name} (message_id text COLLATE "C", endpoint_id text COLLATE "C", at timestamptz NOT NULL DEFAULT now(),
         PRIMARY KEY (message_id, endpoint_id))`,
    )
  })
  return true
}

/** Two replays of one schema at a time would send what neither sees of the other. */
async function lockSchema(client: Queryable, schema: string): Promise<void> {
  await client.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`tidings replay ${schema}`])
}

interface PageRow {
  readonly id: string
  readonly state: PutBackState
  readonly event_type: string
  readonly channels: readonly string[] | null
  /** Of an endpoint that is to get it; null: none is. */
  readonly endpoint_id: string | null
  readonly filter: string | null
  /** Where a filter decides. */
  readonly payload: string | null
}

const pageText = (schema: string, remembers: boolean) => `
WITH page AS MATERIALIZED (
  SELECT * FROM ${quoteName(schema)}.message WHERE app_id = $1 AND id > $2 AND id <= $3 AND id >= $6
), judged AS (
  SELECT page.*, CASE
      WHEN there.app_id <> $4 THEN 'elsewhere'
      WHEN there.app_id IS NOT NULL THEN CASE WHEN there.sendable THEN 'there' ELSE 'withoutPayload' END
      WHEN page.payload IS NULL THEN 'withoutPayload'
      WHEN page.cancelled_at IS NOT NULL THEN 'cancelled'
      WHEN page.accepted_in IS NOT NULL THEN 'handedIn'
      WHEN EXISTS (SELECT FROM message_event_id t WHERE t.app_id = $4 AND t.event_id = page.event_id AND t.message_id <> page.id)
        THEN 'eventIdTaken'
      ELSE 'new' END AS state
  FROM page LEFT JOIN LATERAL (
    SELECT m.app_id, payload_at(now(), m.id, m.expires_at, m.payload) IS NOT NULL AS sendable FROM message m WHERE m.id = page.id
  ) there ON true
)
SELECT page.id, page.state, page.event_type, page.channels, target.id AS endpoint_id, target.filter,
  CASE WHEN target.filter IS NOT NULL THEN page.payload END AS payload
FROM judged page LEFT JOIN LATERAL (
  SELECT e.id, e.filter FROM endpoint e
  WHERE page.state IN ('new', 'there') AND e.id = ANY($5::text[]) AND e.app_id = $4 AND e.deleted_at IS NULL AND NOT e.disabled
    AND ${SUBSCRIBED}
    AND NOT EXISTS (SELECT FROM attempt a WHERE a.message_id = page.id AND a.id >= earliest_attempt(page.id) AND a.endpoint_id = e.id)
    AND NOT EXISTS (SELECT FROM delivery d WHERE d.message_id = page.id AND d.endpoint_id = e.id)
    AND NOT EXISTS (SELECT FROM outbox o WHERE o.id = page.id)
    ${remembers ? `AND NOT EXISTS (SELECT FROM ${quoteName(schema)}.replayed r WHERE r.message_id = page.id AND r.endpoint_id = e.id)` : ''}
) target ON true
ORDER BY page.id, target.id`

/** Above every id of a message. */
const LAST_ID = 'msg_~'

async function readIds({ pool, schema, from, fromId = '', toId = LAST_ID, limit }: PutBackInput, after: string): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>(
    `SELECT id FROM ${quoteName(schema)}.message WHERE app_id = $1 AND id > $2 AND id >= $3 AND id < $4 ORDER BY id LIMIT $5`,
    [from, after, fromId, toId, limit],
  )
  return rows.map(({ id }) => id)
}

interface PageKey {
  readonly after: string
  readonly lastId: string
  readonly remembers: boolean
}

async function readPage(db: Queryable, input: PutBackInput, { after, lastId, remembers }: PageKey): Promise<PageRow[]> {
  const { schema, from, to, endpointIds, fromId = '' } = input
  const { rows } = await db.query<PageRow>(pageText(schema, remembers), [from, after, lastId, to, endpointIds, fromId])
  return rows.map((row) => (isWanted(row) ? row : { ...row, endpoint_id: null }))
}

function isWanted({ filter, event_type: eventType, channels, payload }: PageRow): boolean {
  return filter === null || compileFilter(filter)({ eventType, channels, payload })
}

function pageOf(rows: readonly PageRow[], lastId: string): PutBackPage {
  const messages = { new: 0, there: 0, withoutPayload: 0, cancelled: 0, handedIn: 0, eventIdTaken: 0, elsewhere: 0 }
  const deliveries = new Map<string, number>()
  let before = ''
  for (const { id, state, endpoint_id: endpointId } of rows) {
    if (id !== before) messages[state]++
    before = id
    if (endpointId !== null) deliveries.set(endpointId, (deliveries.get(endpointId) ?? 0) + 1)
  }
  return { messages, deliveries, lastId }
}

/**
 * Makes the tables of the days that messages are put back into: many in the table of what belongs to no day would have whoever makes
 * the next table look at them all, under a lock.
 */
async function makeDays(pool: Pool, ids: readonly string[], made: Set<number>): Promise<void> {
  for (const id of ids) {
    const dayMs = Math.floor((timeOfId(id) ?? 0) / DAY_MS) * DAY_MS
    if (made.has(dayMs)) continue
    await makeDay(pool, dayMs)
    made.add(dayMs)
  }
}

async function makeDay(pool: Pool, dayMs: number): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await createDays(pool, 'message', { fromMs: dayMs, toMs: dayMs })
      return
    } catch (error) {
      // What there was before there were days has the day already.
      if (isOverlap(error)) return
      if (!isLocked(error) || tries === LOCKED_TRIES) throw error
    }
  }
}

function isOverlap(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '42P17'
}

async function store(client: Queryable, { schema, to, keepMs }: PutBackInput, rows: readonly PageRow[]): Promise<void> {
  const newIds = [...new Set(rows.filter(({ state }) => state === 'new').map(({ id }) => id))]
  if (newIds.length > 0) await insertMessages(client, { schema, to, keepMs }, newIds)
  const redeliveries = rows.flatMap(({ id, event_type: eventType, endpoint_id: endpointId }) =>
    endpointId === null ? [] : [{ messageId: id, appId: to, eventType, endpointId, trigger: TRIGGER_MANUAL, retried: true } as const],
  )
  if (redeliveries.length === 0) return
  await client.query(`INSERT INTO ${quoteName(schema)}.replayed (message_id, endpoint_id) SELECT * FROM unnest($1::text[], $2::text[])`, [
    redeliveries.map(({ messageId }) => messageId),
    redeliveries.map(({ endpointId }) => endpointId),
  ])
  await enqueueRedeliveries(client, redeliveries, newId('out'))
  await notifyOutbox(client)
}

async function insertMessages(client: Queryable, { schema, to, keepMs }: Pick<PutBackInput, 'schema' | 'to' | 'keepMs'>, ids: string[]) {
  const names = ARCHIVED.message.columns.map(({ name }) => name)
  const values = names.map((name) => {
    if (name === 'app_id') return '$2::text'
    return name === 'expires_at' ? `greatest(m.expires_at, now() + $3 * interval '1 ms')` : `m.${name}`
  })
  await client.query(
    `INSERT INTO message (${names.join(', ')}) SELECT ${values.join(', ')}
     FROM ${quoteName(schema)}.message m WHERE m.id = ANY($1::text[]) ORDER BY m.id`,
    [ids, to, keepMs],
  )
  await client.query(
    `INSERT INTO message_event_id (app_id, event_id, message_id)
     SELECT $2::text, event_id, id FROM ${quoteName(schema)}.message WHERE id = ANY($1::text[]) AND event_id IS NOT NULL ORDER BY event_id
     ON CONFLICT DO NOTHING`,
    [ids, to],
  )
}
