import { readdirSync, readFileSync } from 'node:fs'
import type { Pool } from '../../storage/pool.ts'

const FOLDER = new URL('../../storage/migrations/', import.meta.url)

/** Gives an empty database the schema that it had before a migration, `0019` for instance. */
export async function migrateUpTo(pool: Pool, before: string): Promise<void> {
  await pool.query(
    'CREATE TABLE schema_migration (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())',
  )
  const names = readdirSync(FOLDER).filter((one) => one < before)
  for (const name of names.sort()) {
    await pool.query(readFileSync(new URL(name, FOLDER), 'utf8'))
    await pool.query('INSERT INTO schema_migration (version, name) VALUES ($1, $2)', [Number(name.slice(0, 4)), name])
  }
}
