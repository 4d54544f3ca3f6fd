import { timeOfId } from '../domain/archive.ts'
import { PARTITIONED, type DayTable, type Partitioned } from '../domain/retention.ts'
import type { ConfigurationPlace } from './configuration.ts'
import { asking, inTransaction, queryableOf, type Pool, type Queryable } from './pool.ts'

const DAY_MS = 86_400_000

/** A database that has tables of days. */
export interface DayDatabase extends Queryable {
  transaction<T>(work: (client: Queryable) => Promise<T>): Promise<T>
}

const databaseOf = (db: Pool | DayDatabase): DayDatabase =>
  'transaction' in db ? db : { ...queryableOf(asking(db)), transaction: (work) => inTransaction(db, work) }

/** That of the configuration that regions share: each statement is a transaction that a quorum confirms. */
export function sharedDays({ change }: Pick<ConfigurationPlace, 'change'>): DayDatabase {
  const transaction = async <T>(work: (client: Queryable) => Promise<T>): Promise<T> => (await change(({ client }) => work(client))).result
  return { ...queryableOf((...args) => transaction((client) => asking(client)(...args))), transaction }
}

/** What is waited for is waited for by everybody who comes after: a lock on a table that all use is given up after this, and tried again. */
const LOCK_TIMEOUT_MS = 100
/** More than this is not moved while a table is taken out: the table stays until less of it is kept. */
export const KEPT_MOVED_MAX = 1000

const lockTimeout = (db: Queryable) => db.query(`SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`)

/** Whether a lock was not to be had in time. */
export function isLocked(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '55P03'
}

/**
 * Makes the tables of days that have none, each in a transaction of its own.
 * @param toMs the first instant of the last day
 * @returns how many were made
 * @throws what `isLocked` knows, where others hold the table of what belongs to no day for longer than 100 ms
 */
export async function createDays(
  db: Pool | DayDatabase,
  parent: Partitioned,
  { fromMs, toMs }: { fromMs: number; toMs: number },
): Promise<number> {
  const { query, transaction } = databaseOf(db)
  let made = 0
  for (let dayMs = fromMs; dayMs <= toMs; dayMs += DAY_MS) {
    const day = new Date(dayMs).toISOString().slice(0, 10)
    const { rows: there } = await query<{ there: boolean }>(`SELECT to_regclass($1) IS NOT NULL AS there`, [nameOf(parent, dayMs)])
    if (there[0]!.there) continue
    const isNew = await transaction(async (client) => {
      await lockTimeout(client)
      // Two processes may make the same one.
      await client.query('SELECT pg_advisory_xact_lock(hashtext($1))', [`partitions of ${parent}`])
      const { rows } = await client.query<{ made: boolean }>('SELECT create_day($1, $2) AS made', [parent, day])
      return rows[0]!.made
    })
    if (isNew) made++
  }
  return made
}

const nameOf = (parent: Partitioned, dayMs: number) => `${parent}_${new Date(dayMs).toISOString().slice(0, 10).replaceAll('-', '')}`

const NAME = /^(message|attempt|message_payload|idempotency_key|audit_log)_(before_)?(\d{4})(\d\d)(\d\d)(?:_(delivered|failed))?$/

/** All tables of days, attached or not. */
export async function listDayTables(db: Queryable): Promise<DayTable[]> {
  const { rows } = await db.query<{ name: string; attached: boolean }>(
    `SELECT c.relname AS name, i.inhrelid IS NOT NULL AS attached FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
     WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND c.relname ~ '^(${PARTITIONED.join('|')})_' ORDER BY c.relname`,
  )
  return rows.flatMap(({ name, attached }) => {
    const table = readName(name)
    return table === undefined ? [] : [{ ...table, attached }]
  })
}

function readName(name: string): Omit<DayTable, 'attached'> | undefined {
  const [, parent, before, year, month, day, part] = NAME.exec(name) ?? []
  if (parent === undefined) return undefined
  const dayMs = Date.UTC(Number(year), Number(month) - 1, Number(day)) - (before === undefined ? 0 : DAY_MS)
  return { name, parent: parent as Partitioned, dayMs, part: (part as DayTable['part'] | undefined) ?? 'whole' }
}

/** @returns the first instant of the first day of which a table has rows; of its own day where it has none */
export async function oldestDay(db: Queryable, table: DayTable): Promise<number> {
  const { rows } = await db.query<{ id: string | null }>(`SELECT min(id) AS id FROM ${table.name}`)
  const id = rows[0]!.id
  const atMs = id === null ? undefined : timeOfId(id)
  return atMs === undefined ? table.dayMs : Math.floor(atMs / DAY_MS) * DAY_MS
}

/** What came of dropping a table. */
export type Dropped = { readonly dropped: true; readonly kept: number } | { readonly dropped: false; readonly keeps: number }

/**
 * Drops the table of a day. Nobody waits longer than 100 ms for it: it is taken out of its parent, which takes a moment without
 * anybody in it, and dropped then. Messages whose payload is to be kept beyond (they were published to be delivered later) are
 * moved to the table of what belongs to no day; where they are many the table stays.
 * @param nowMs what is to be kept is told by this time
 * @throws what `isLocked` knows, where others use the parent for longer than 100 ms: nothing has changed then
 */
export async function dropDay(db: Pool | DayDatabase, table: DayTable, nowMs: number): Promise<Dropped> {
  const database = databaseOf(db)
  const taken = table.attached ? await takeOut(database, table, nowMs) : NOTHING_KEPT
  if (taken.dropped) await database.query(`DROP TABLE IF EXISTS ${table.name}`)
  return taken
}

const NOTHING_KEPT: Dropped = { dropped: true, kept: 0 }

const OLD_DAYS_LOCK = `hashtext('message days that are over')`

/**
 * Called first in a transaction that puts messages into days that may be over. Until its end none of these is taken out: nothing comes
 * between the look at what is kept of a table and its drop. Nor is a table made: who looks for a message meanwhile may miss it on its way
 * from the table of what belongs to no day, and would wait for the one that waits for it.
 */
export async function beginPuttingIn(client: Queryable): Promise<void> {
  await client.query(`SELECT pg_advisory_xact_lock_shared(${OLD_DAYS_LOCK})`)
  await client.query('LOCK TABLE message_default IN ROW EXCLUSIVE MODE')
}

async function keptIds(db: Queryable, name: string, nowMs: number): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(`SELECT id FROM ${name} WHERE expires_at > to_timestamp($1::float8 / 1000) LIMIT $2`, [
    nowMs,
    KEPT_MOVED_MAX + 1,
  ])
  return rows.map(({ id }) => id)
}

async function takeOut({ transaction }: DayDatabase, table: DayTable, nowMs: number): Promise<Dropped> {
  const parent = table.part === 'whole' ? table.parent : nameOf(table.parent, table.dayMs)
  return transaction(async (client) => {
    const kept: string[] = []
    if (table.parent === 'message') {
      await client.query(`SELECT pg_advisory_xact_lock(${OLD_DAYS_LOCK})`)
      kept.push(...(await keptIds(client, table.name, nowMs)))
    }
    if (kept.length > KEPT_MOVED_MAX) return { dropped: false, keeps: kept.length }
    await lockTimeout(client)
    await client.query(`ALTER TABLE ${parent} DETACH PARTITION ${table.name}`)
    if (kept.length > 0) await client.query(`INSERT INTO message SELECT * FROM ${table.name} WHERE id = ANY($1::text[])`, [kept])
    return { dropped: true, kept: kept.length }
  })
}

/** Rows of a statement that removes a few of the oldest. */
interface Removal {
  readonly table: string
  readonly text: string
}

// Each begins at the oldest, which an index knows, and ends at the limit. $1: the first message that is kept; $2: rows; $3: failures
// are kept since then; $4: attempts that succeeded, $5 that failed, are kept from this id on; $6: now; $7: entries of the audit log are
// kept from this id on.
const REMOVALS: readonly Removal[] = [
  {
    table: 'delivery',
    text: `DELETE FROM delivery WHERE (message_id, endpoint_id) IN (
      SELECT message_id, endpoint_id FROM delivery WHERE message_id < $1 AND state NOT IN ('retrying', 'parked') AND updated_at < $3
      ORDER BY message_id LIMIT $2)`,
  },
  {
    table: 'message_event_id',
    text: `DELETE FROM message_event_id WHERE ctid = ANY (ARRAY(SELECT e.ctid FROM message_event_id e
      WHERE e.message_id < $1 AND NOT EXISTS (SELECT FROM message m WHERE m.id = e.message_id) LIMIT $2))`,
  },
  {
    table: 'handed_over',
    text: `DELETE FROM handed_over WHERE ctid = ANY (ARRAY(SELECT ctid FROM handed_over WHERE message_id < $1 ORDER BY message_id LIMIT $2))`,
  },
  {
    table: 'handed_in',
    text: `DELETE FROM handed_in WHERE ctid = ANY (ARRAY(SELECT ctid FROM handed_in WHERE message_id < $1 ORDER BY message_id LIMIT $2))`,
  },
  {
    table: 'erased_message',
    text: `DELETE FROM erased_message WHERE ctid = ANY (ARRAY(SELECT ctid FROM erased_message WHERE id < $1 ORDER BY id LIMIT $2))`,
  },
  {
    table: 'message_default',
    text: `DELETE FROM message_default WHERE ctid = ANY (ARRAY(SELECT ctid FROM message_default WHERE id < $1 AND expires_at <= $6 ORDER BY id LIMIT $2))`,
  },
  {
    table: 'message_payload_default',
    text: `DELETE FROM message_payload_default WHERE ctid = ANY (ARRAY(SELECT ctid FROM message_payload_default WHERE expires_at <= $6 LIMIT $2))`,
  },
  {
    table: 'attempt_default',
    text: `DELETE FROM attempt_default WHERE ctid = ANY (ARRAY(SELECT ctid FROM attempt_default WHERE id < CASE WHEN status = 0 THEN $4 ELSE $5 END LIMIT $2))`,
  },
  {
    table: 'idempotency_key_default',
    text: `DELETE FROM idempotency_key_default WHERE ctid = ANY (ARRAY(SELECT ctid FROM idempotency_key_default WHERE expires_at <= $6 LIMIT $2))`,
  },
  { table: 'audit_log_default', text: 'SELECT FROM remove_old_audit($7, $2)' },
]

export interface RemovalBounds {
  readonly nowMs: number
  /** Messages from this id on are kept. */
  readonly messageId: string
  readonly failedSinceMs: number
  readonly deliveredAttemptId: string
  readonly failedAttemptId: string
  /** Entries of the audit log from this id on are kept; an empty one is below all. */
  readonly auditId: string
}

/**
 * Removes some of what has no table of its own day: what waits or is dead, what is to be unique, and what belongs to no day.
 * @param limit rows of each table
 * @returns rows by table; a table that may have more has as many as the limit
 */
export async function removeOld(pool: Pool, bounds: RemovalBounds, limit: number): Promise<Record<string, number>> {
  const { nowMs, messageId, failedSinceMs, deliveredAttemptId, failedAttemptId, auditId } = bounds
  const all = [messageId, limit, new Date(failedSinceMs), deliveredAttemptId, failedAttemptId, new Date(nowMs), auditId]
  const removed: Record<string, number> = {}
  for (const { table, text } of REMOVALS) {
    const { rowCount } = await pool.query(withUsedParameters(text, all))
    removed[table] = rowCount ?? 0
  }
  return removed
}

/** The same of the audit log of shared configuration. @returns rows */
export async function removeOldAudit(db: DayDatabase, auditId: string, limit: number): Promise<number> {
  return (await db.query('SELECT FROM remove_old_audit($1, $2)', [auditId, limit])).rowCount ?? 0
}

/** Postgres cannot tell the type of a parameter that is not used. */
function withUsedParameters(text: string, all: readonly unknown[]): { text: string; values: unknown[] } {
  const used = [...new Set(Array.from(text.matchAll(/\$(\d)/g), ([, n]) => Number(n)))].sort((a, b) => a - b)
  return { text: text.replaceAll(/\$(\d)/g, (_, n: string) => `$${used.indexOf(Number(n)) + 1}`), values: used.map((n) => all[n - 1]) }
}
