import type { ArchiveTable } from '../../domain/archive.ts'
import type { Pool, Queryable } from '../pool.ts'
import { quoteName } from './rows.ts'
import { searchArchive, type Archive, type RowQuery, type SearchProgress } from './search.ts'
import { ARCHIVED, type ArchiveColumn, type ArchiveRow } from './tables.ts'

export interface RestoreInput extends Archive {
  readonly pool: Pool
  /** The schema that rows are put into: it is made where it is not there. */
  readonly schema: string
  readonly tables: readonly ArchiveTable[]
  /** Which rows, of each table. */
  readonly query: (table: ArchiveTable) => Omit<RowQuery, 'table'>
  readonly progress?: ((table: ArchiveTable, progress: SearchProgress) => void) | undefined
}

export interface Restored {
  /** Rows that were put into the schema; those that were there already are not counted. */
  readonly rows: Readonly<Record<ArchiveTable, number>>
  /** Rows that were found. */
  readonly found: Readonly<Record<ArchiveTable, number>>
}

const TOGETHER = 1000

const ARRAY_OF = { text: 'text', uuid: 'uuid', integer: 'integer', micros: 'bigint' } as const satisfies Record<
  ArchiveColumn['kind'],
  string
>

/** Puts rows of the archive into tables of a schema beside the service's, which it does not look at. Repeating it adds what is missing. */
export async function restoreArchive({ pool, schema, tables, query, progress, ...archive }: RestoreInput): Promise<Restored> {
  await pool.query(`CREATE SCHEMA IF NOT EXISTS ${quoteName(schema)}`)
  const rows = { message: 0, attempt: 0 }
  const found = { message: 0, attempt: 0 }
  for (const table of tables) {
    await createTable(pool, schema, table)
    let some: ArchiveRow[] = []
    const flush = async () => {
      rows[table] += await insert(pool, schema, table, some)
      some = []
    }
    for await (const { row } of searchArchive(archive, { ...query(table), table }, (told) => progress?.(table, told))) {
      found[table]++
      some.push(row)
      if (some.length >= TOGETHER) await flush()
    }
    await flush()
  }
  return { rows, found }
}

async function createTable(db: Queryable, schema: string, table: ArchiveTable): Promise<void> {
  const name = `${quoteName(schema)}.${table}`
  await db.query(
    `CREATE TABLE IF NOT EXISTS ${name} (LIKE public.${table} INCLUDING DEFAULTS, PRIMARY KEY (${ARCHIVED[table].key.join(', ')}))`,
  )
}

async function insert(db: Queryable, schema: string, table: ArchiveTable, rows: readonly ArchiveRow[]): Promise<number> {
  if (rows.length === 0) return 0
  const { columns } = ARCHIVED[table]
  const names = columns.map(({ name }) => name).join(', ')
  const arrays = columns.map(({ kind }, i) => `$${i + 1}::${ARRAY_OF[kind]}[]`).join(', ')
  const { rowCount } = await db.query(
    `INSERT INTO ${quoteName(schema)}.${table} (${names})
     SELECT ${columns.map(({ name, restore }) => restore(`v.${name}`)).join(', ')} FROM unnest(${arrays}) AS v (${names})
     ON CONFLICT DO NOTHING`,
    columns.map(({ name }) => rows.map((row) => row[name] ?? null)),
  )
  return rowCount ?? 0
}
