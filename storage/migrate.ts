import { readdir, readFile } from 'node:fs/promises'
import { inTransaction, type Pool } from './pool.ts'

const DIRECTORY = new URL('./migrations/', import.meta.url)
// Any constant will do as long as nothing else in the database takes it: "tidings" in ASCII, cut to 31 bits.
const LOCK_KEY = 0x74696469

/** The database's schema was written by a newer Tidings than this one. */
export class SchemaTooNewError extends Error {
  readonly code = 'schema_too_new'
  override readonly name = 'SchemaTooNewError'
}

interface Migration {
  readonly version: number
  readonly name: string
}

async function listMigrations(): Promise<Migration[]> {
  const names = (await readdir(DIRECTORY)).filter((name) => /^\d{4}-.*\.sql$/.test(name)).sort()
  return names.map((name) => ({ version: Number(name.slice(0, 4)), name }))
}

/**
 * Brings the schema up to date. Safe under concurrent starts (an advisory lock), each migration in its own transaction.
 * @returns names of the migrations applied now
 * @throws {SchemaTooNewError} and changes nothing where the database is ahead of this build
 */
export async function migrate(pool: Pool): Promise<string[]> {
  const migrations = await listMigrations()
  const newest = migrations.at(-1)?.version ?? 0
  const applied: string[] = []
  for (const migration of migrations) {
    const done = await inTransaction(pool, async (client) => {
      await client.query('SELECT pg_advisory_xact_lock($1)', [LOCK_KEY])
      await client.query(
        'CREATE TABLE IF NOT EXISTS schema_migration (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())',
      )
      const { rows } = await client.query<{ version: number | null }>('SELECT max(version) AS version FROM schema_migration')
      const current = rows[0]?.version ?? 0
      if (current > newest) {
        throw new SchemaTooNewError(
          `the database has schema version ${current}, this build knows ${newest}: start a newer Tidings, or restore the backup made before the upgrade`,
        )
      }
      if (current >= migration.version) return false
      await client.query(await readFile(new URL(migration.name, DIRECTORY), 'utf8'))
      await client.query('INSERT INTO schema_migration (version, name) VALUES ($1, $2)', [migration.version, migration.name])
      return true
    })
    if (done) applied.push(migration.name)
  }
  return applied
}
