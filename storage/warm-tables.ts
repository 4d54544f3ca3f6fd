import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import { LIMITS } from '../domain/limits.ts'
import { PARTITIONED } from '../domain/retention.ts'
import { pagesPerStep, type PlacedTable } from '../domain/warm-tables.ts'
import { listDayTables } from './partitions.ts'
import type { Pool, Queryable } from './pool.ts'

// Who comes after somebody who waits for a lock waits too. It is given up after the one; after the other, waiting included, all
// locks of an exchange are let go.
const LOCK_MS = 50
const EXCHANGE_MS = 80
/** Tries to exchange a table, one soon after the other, while rows of it change or somebody has an older snapshot. */
const EXCHANGES_MAX = 30
const AGAIN_AFTER_MS = 100
const AGAIN_AFTER_MAX_MS = 2000
const SNAPSHOTS_POLL_MS = 10
const SNAPSHOTS_END_MS = 1000
const CHANGES_PER_STEP = 1000
const VACUUM_DELAY_MS = 2
const QUERY_CANCELED = '57014'
const LOCK_NOT_AVAILABLE = '55P03'

/** Why a table is not moved. */
export class WarmTableError extends Error {
  override readonly name = 'WarmTableError'
  readonly code: 'no_tablespace' | 'rows_differ' | 'default_crowded'

  constructor(code: WarmTableError['code'], message: string) {
    super(message)
    this.code = code
  }
}

/** @throws {WarmTableError} `no_tablespace` where tables cannot be made in it */
export async function checkTablespace(db: Queryable, tablespace: string): Promise<void> {
  const { rows } = await db.query<{ may: boolean }>(
    `SELECT has_tablespace_privilege(oid, 'CREATE') AS may FROM pg_tablespace WHERE spcname = $1`,
    [tablespace],
  )
  if (rows[0]?.may === true) return
  const what = rows.length === 0 ? 'is not there: CREATE TABLESPACE' : 'may not be used by this role: GRANT CREATE ON TABLESPACE'
  throw new WarmTableError('no_tablespace', `the tablespace "${tablespace}" of TIDINGS_WARM_TABLESPACE ${what}`)
}

/** All tables of days with where they are. */
export async function placeDayTables(db: Queryable): Promise<PlacedTable[]> {
  const tables = await listDayTables(db)
  const { rows } = await db.query<{ name: string; tablespace: string; begun: boolean }>(
    `SELECT c.relname AS name, t.spcname AS tablespace, m.day_table IS NOT NULL AS begun
     FROM pg_class c JOIN pg_database d ON d.datname = current_database()
     JOIN pg_tablespace t ON t.oid = coalesce(nullif(c.reltablespace, 0), d.dattablespace) LEFT JOIN day_move m ON m.day_table = c.relname
     WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname ~ '^(${PARTITIONED.join('|')})_'`,
  )
  const places = new Map(rows.map((row) => [row.name, row]))
  return tables.map((table) => ({
    ...table,
    tablespace: places.get(table.name)?.tablespace,
    begun: places.get(table.name)?.begun ?? false,
  }))
}

/**
 * Removes what moves have left that do not go on: of those that had come to their end the table that was there before, of others the
 * copy. Those of the tables named go on.
 * @throws what `isLocked` knows
 */
export async function removeLeftMoves(pool: Pool, tablespace: string | undefined): Promise<void> {
  const { rows } = await pool.query<{ name: string }>(
    `SELECT m.day_table AS name FROM day_move m LEFT JOIN pg_inherits i ON i.inhrelid = to_regclass(m.day_table)
     WHERE m.swapped OR m.tablespace IS DISTINCT FROM $1 OR i.inhrelid IS NULL`,
    [tablespace],
  )
  for (const { name } of rows) await removeLeft(pool, name)
}

export interface MoveOptions {
  readonly tablespace: string
  readonly bytesPerSecond: number
  /** Asked between two steps; true: it is left as it is, and goes on from there another time. */
  readonly isOver?: () => boolean
}

/**
 * Moves a table of a day, with its indexes and what is stored apart from its rows, to another tablespace. It is read and written
 * meanwhile, and nobody waits longer than 100 ms for it. Whoever dies in the middle leaves a copy; the next call goes on with it. Of
 * two calls at the same time one may fail, when the other has come to the end of what both have done.
 * @returns false where it was told to stop, or the table has left its parent
 * @throws what `isLocked` knows, where others use the table, or a snapshot from before it was copied, for long
 * @throws {WarmTableError} where rows differ (the copy is removed then), or the parent's default table is too large
 */
export async function moveDay(
  pool: Pool,
  name: string,
  { tablespace, bytesPerSecond, isOver = () => false }: MoveOptions,
): Promise<boolean> {
  await briefly(pool, `SELECT begin_day_move(${pg.escapeLiteral(name)}, ${pg.escapeLiteral(tablespace)})`)
  if (!(await copyPages(pool, name, bytesPerSecond, isOver))) return false
  if (!(await check(pool, name, isOver))) return false
  const came = await exchange(pool, name, isOver)
  if (came !== 'over') await removeLeft(pool, name)
  return came === 'swapped'
}

const removeLeft = (pool: Pool, name: string) => briefly(pool, `SELECT end_day_move(${pg.escapeLiteral(name)})`)

interface Progress {
  readonly pages: number
  readonly copied: number
  readonly checked: boolean
  readonly swapped: boolean
}

async function progressOf(db: Queryable, name: string): Promise<Progress> {
  const { rows } = await db.query<Progress>('SELECT pages, copied_pages AS copied, checked, swapped FROM day_move WHERE day_table = $1', [
    name,
  ])
  // None: somebody else has come to its end.
  return rows[0] ?? { pages: 0, copied: 0, checked: true, swapped: true }
}

/** False: it was told to stop. */
async function copyPages(pool: Pool, name: string, bytesPerSecond: number, isOver: () => boolean): Promise<boolean> {
  const { rows } = await pool.query<{ bytes: number | null }>('SELECT pg_table_size(to_regclass($1)) AS bytes', [name])
  const bytes = rows[0]!.bytes ?? 0
  for (;;) {
    const { pages, copied } = await progressOf(pool, name)
    if (copied >= pages) return true
    if (isOver()) return false
    const step = Math.min(pages - copied, pagesPerStep({ pages, bytes }, LIMITS.warmStepBytes))
    const startedAt = performance.now()
    await pool.query('SELECT copy_day_pages($1, $2)', [name, step])
    await catchUp(pool, name)
    const dueMs = (((step / pages) * bytes) / bytesPerSecond) * 1000
    await pause(Math.max(0, dueMs - (performance.now() - startedAt)))
  }
}

async function catchUp(pool: Pool, name: string): Promise<void> {
  const step = () => pool.query<{ changes: number }>('SELECT catch_up_day($1, $2) AS changes', [name, CHANGES_PER_STEP])
  while ((await step()).rows[0]!.changes === CHANGES_PER_STEP);
}

/** Makes the copy as ready to be read as the table is, and sees whether it has its rows. False: it was told to stop. */
async function check(pool: Pool, name: string, isOver: () => boolean): Promise<boolean> {
  if ((await progressOf(pool, name)).checked) return true
  await vacuum(pool, `${name}_copy`)
  while (!isOver()) {
    await catchUp(pool, name)
    // One statement, so that all three are of one moment.
    const { rows } = await pool.query<{ rows: number; copied: number }>(
      `SELECT (SELECT count(*) FROM ${name}) AS rows, (SELECT count(*) FROM ${name}_copy) AS copied
       WHERE NOT EXISTS (SELECT FROM day_change WHERE day_table = $1)`,
      [name],
    )
    if (rows[0] === undefined) {
      await pause(AGAIN_AFTER_MS)
      continue
    }
    if (rows[0].rows !== rows[0].copied) {
      await removeLeft(pool, name)
      throw new WarmTableError('rows_differ', `${name} has ${rows[0].rows} rows, its copy had ${rows[0].copied}: the copy is removed`)
    }
    await pool.query('UPDATE day_move SET checked = true WHERE day_table = $1', [name])
    return true
  }
  return false
}

async function vacuum(pool: Pool, table: string): Promise<void> {
  const client = await pool.connect()
  let broken: Error | undefined
  try {
    await client.query(`SET vacuum_cost_delay = ${VACUUM_DELAY_MS}`)
    await client.query(`VACUUM (FREEZE, ANALYZE) ${table}`)
    await client.query('RESET vacuum_cost_delay')
  } catch (error) {
    broken = error instanceof Error ? error : new Error(String(error))
    throw error
  } finally {
    client.release(broken)
  }
}

const inUse = (what: string) => Object.assign(new Error(what), { code: LOCK_NOT_AVAILABLE })

/** 'gone': the table is no partition any more. */
async function exchange(pool: Pool, name: string, isOver: () => boolean): Promise<'swapped' | 'gone' | 'over'> {
  let pauseMs = AGAIN_AFTER_MS
  for (let tries = 0; tries < EXCHANGES_MAX; tries++) {
    if (isOver()) return 'over'
    if ((await progressOf(pool, name)).swapped) return 'swapped'
    await catchUp(pool, name)
    if (await olderSnapshotsEnd(pool, name)) {
      const came = await swap(pool, name)
      if (came !== 'changed') return came
    }
    await pause(pauseMs)
    pauseMs = Math.min(pauseMs * 1.2, AGAIN_AFTER_MAX_MS)
  }
  throw inUse(`rows of ${name} change all the time, or somebody has a snapshot from before it was copied`)
}

async function swap(pool: Pool, name: string): Promise<'swapped' | 'gone' | 'changed'> {
  const call = `SELECT swap_day(${pg.escapeLiteral(name)}, ${LIMITS.warmDefaultMaxBytes}) AS came`
  const [row] = await briefly(pool, `SET LOCAL statement_timeout = ${EXCHANGE_MS}; ${call}`)
  const came = row!['came'] as 'swapped' | 'gone' | 'changed' | 'crowded'
  if (came !== 'crowded') return came
  throw new WarmTableError('default_crowded', `the default table beside ${name} is larger than ${LIMITS.warmDefaultMaxBytes} bytes`)
}

/**
 * Waits a second at most until nobody has a snapshot from before the copy was written: in it the copy would be empty, or be without
 * what changed last. Postgres shows snapshots of other roles to those alone who may see them (`pg_read_all_stats`).
 */
async function olderSnapshotsEnd(db: Queryable, name: string): Promise<boolean> {
  for (let waitedMs = 0; waitedMs < SNAPSHOTS_END_MS; waitedMs += SNAPSHOTS_POLL_MS) {
    const { rows } = await db.query<{ older: boolean }>(
      `SELECT EXISTS (SELECT FROM pg_stat_activity a, day_move m WHERE m.day_table = $1 AND a.datname = current_database()
         AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND age(a.backend_xmin) >= age(m.written_by::xid)) AS older`,
      [name],
    )
    if (!rows[0]!.older) return true
    await pause(SNAPSHOTS_POLL_MS)
  }
  return false
}

/**
 * Runs a statement for whose locks others may have to wait, in one message: no time of the network is added while they are held.
 * @returns the last statement's rows
 * @throws what `isLocked` knows, also where a `statement_timeout` that it has set is over
 */
async function briefly(pool: Pool, statement: string): Promise<Record<string, unknown>[]> {
  try {
    const results = (await pool.query(`SET LOCAL lock_timeout = ${LOCK_MS}; ${statement}`)) as unknown as {
      rows: Record<string, unknown>[]
    }[]
    return results.at(-1)!.rows
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === QUERY_CANCELED) throw inUse('an exchange took longer than 80 ms')
    throw error
  }
}
