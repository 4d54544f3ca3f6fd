import { LIMITS } from '../domain/limits.ts'
import { GRAIN_MS, type Grain, type Span } from '../domain/rollups.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'

/** A table of rollups. Its partitions are named after it and their first day or month (UTC): `rollup_hour_202611`. */
export interface RollupTable {
  readonly table: string
  readonly grain: Grain
  /** Rows may be dropped when they are older than so many days. */
  readonly keepDays: number
  /** What one partition holds. */
  readonly partition: 'day' | 'month'
}

export const ROLLUP_TABLES = {
  minute: { table: 'rollup_minute', grain: 'minute', keepDays: LIMITS.rollupMinutesKeptDays, partition: 'day' },
  hour: { table: 'rollup_hour', grain: 'hour', keepDays: LIMITS.rollupHoursKeptDays, partition: 'month' },
  day: { table: 'rollup_day', grain: 'day', keepDays: LIMITS.rollupDaysKeptDays, partition: 'month' },
} as const satisfies Record<Grain, RollupTable>

/** What is there before it is needed. */
const AHEAD_MS = 2 * GRAIN_MS.day
const DROP_LOCK_MS = 100
const LOCK_NOT_AVAILABLE = '55P03'

interface Partition extends Span {
  readonly name: string
}

/** The partition that has this time. */
function partitionAt({ table, partition }: RollupTable, ms: number): Partition {
  const at = new Date(ms)
  const [year, month, day] = [at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate()]
  const digits = at.toISOString().replaceAll('-', '')
  return partition === 'day'
    ? { name: `${table}_${digits.slice(0, 8)}`, fromMs: Date.UTC(year, month, day), untilMs: Date.UTC(year, month, day + 1) }
    : { name: `${table}_${digits.slice(0, 6)}`, fromMs: Date.UTC(year, month), untilMs: Date.UTC(year, month + 1) }
}

async function partitionNames(db: Queryable, { table }: RollupTable): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>({
    name: 'rollup-partitions',
    text: `SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
      WHERE i.inhparent = to_regclass($1) ORDER BY c.relname`,
    values: [table],
  })
  return rows.map((row) => row.name)
}

/**
 * Makes the partitions that are missing for a span and two days beyond. Neither readers nor writers wait. Two at the same time are
 * the caller's to exclude.
 * @returns names of those made
 */
export async function createRollupPartitions(db: Queryable, { fromMs, untilMs }: Span): Promise<string[]> {
  const made: string[] = []
  for (const of of Object.values(ROLLUP_TABLES)) {
    const there = new Set(await partitionNames(db, of))
    for (let next = partitionAt(of, fromMs); next.fromMs < untilMs + AHEAD_MS; next = partitionAt(of, next.untilMs)) {
      if (there.has(next.name)) continue
      const [from, until] = [next.fromMs, next.untilMs].map((ms) => new Date(ms).toISOString())
      // Attached rather than made as a partition, which would lock the whole table against readers.
      await db.query(`CREATE TABLE ${next.name} (LIKE ${of.table} INCLUDING ALL)`)
      await db.query(`ALTER TABLE ${of.table} ATTACH PARTITION ${next.name} FOR VALUES FROM ('${from}') TO ('${until}')`)
      made.push(next.name)
    }
  }
  return made
}

/**
 * Drops the partitions of which every row is older than its table keeps. One whose lock is not to be had within 100 ms stays for
 * the next time.
 * @returns names of those dropped
 */
export async function dropRollupPartitions(pool: Pool, nowMs: number): Promise<string[]> {
  const dropped: string[] = []
  for (const of of Object.values(ROLLUP_TABLES)) {
    for (const name of await partitionNames(pool, of)) {
      if (endOf(of, name) > nowMs - of.keepDays * GRAIN_MS.day) continue
      if (await drop(pool, name)) dropped.push(name)
    }
  }
  return dropped
}

function endOf(of: RollupTable, name: string): number {
  const digits = name.slice(of.table.length + 1)
  const [year, month, day] = [Number(digits.slice(0, 4)), Number(digits.slice(4, 6)) - 1, Number(digits.slice(6) || 1)]
  return partitionAt(of, Date.UTC(year, month, day)).untilMs
}

async function drop(pool: Pool, name: string): Promise<boolean> {
  try {
    await inTransaction(pool, async (client) => {
      await client.query(`SET LOCAL lock_timeout = ${DROP_LOCK_MS}`)
      await client.query(`DROP TABLE IF EXISTS ${name}`)
    })
    return true
  } catch (error) {
    if ((error as { code?: unknown }).code === LOCK_NOT_AVAILABLE) return false
    throw error
  }
}
