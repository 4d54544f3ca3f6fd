import pg from 'pg'

/** What the service's Postgres has done so far. */
export interface DatabaseCounts {
  /** Statements of all connections; undefined where Postgres does not count them (`pg_stat_statements` is not loaded). */
  readonly statements: number | undefined
  /** Committed transactions. Servers tell of theirs up to a second late. */
  readonly transactions: number
  /** Bytes of write-ahead log: what has to reach the disk before an answer does. */
  readonly walBytes: number
}

export interface DatabaseCounter {
  read(): Promise<DatabaseCounts>
  close(): Promise<void>
}

/** The schema of what the benchmark needs in the service's database, apart from the service's own. */
const SCHEMA = 'tidings_bench'

/** @param url of a role that may create extensions, for the number of statements */
export async function openDatabaseCounter(url: string): Promise<DatabaseCounter> {
  const client = new pg.Client({ connectionString: url })
  // A server that ends makes the next query fail, which is soon enough.
  client.on('error', () => undefined)
  await client.connect()
  const counted = await countStatements(client)
  const statements = counted
    ? `(SELECT sum(calls)::float8 FROM ${SCHEMA}.pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()))`
    : 'NULL::float8'
  return {
    async read() {
      const { rows } = await client.query<{ statements: number | null; transactions: number; wal: number }>(
        `SELECT ${statements} AS statements, (pg_current_wal_insert_lsn() - '0/0')::float8 AS wal, xact_commit::float8 AS transactions
         FROM pg_stat_database WHERE datname = current_database()`,
      )
      const { statements: calls, transactions, wal } = rows[0]!
      return { statements: calls ?? undefined, transactions, walBytes: wal }
    },
    close: () => client.end(),
  }
}

async function countStatements(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ loaded: string }>("SELECT current_setting('shared_preload_libraries') AS loaded")
  if (rows[0]?.loaded.includes('pg_stat_statements') !== true) return false
  await client.query(`CREATE SCHEMA IF NOT EXISTS ${SCHEMA}`)
  await client.query(`CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA ${SCHEMA}`)
  return true
}
