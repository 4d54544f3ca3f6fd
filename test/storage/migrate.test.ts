import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { migrate, SchemaTooNewError } from '../../storage/migrate.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createStorage, type Storage } from './rows.ts'

let storage: Storage
const pools: Pool[] = []

before(async () => {
  storage = await createStorage()
})

afterEach(async () => {
  for (const pool of pools.splice(0)) await pool.end()
  await storage.pool.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public')
})

after(() => storage.drop())

function process(): Pool {
  const pool = createPool(storage.url, 2)
  pools.push(pool)
  return pool
}

async function empty(): Promise<void> {
  await storage.pool.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public')
}

async function tables(): Promise<string[]> {
  const { rows } = await storage.pool.query<{ name: string }>(
    `SELECT table_name || '.' || column_name AS name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1`,
  )
  return rows.map((row) => row.name)
}

test('eight processes that start at once apply each migration once', async () => {
  await empty()
  const applied = await Promise.all(Array.from({ length: 8 }, () => migrate(process())))
  const names = applied.flat()
  assert.ok(names.length > 0)
  assert.equal(new Set(names).size, names.length)
  const { rows } = await storage.pool.query<{ name: string }>('SELECT name FROM schema_migration ORDER BY version')
  assert.deepEqual(
    rows.map((row) => row.name),
    names.toSorted(),
  )
})

test('a second start finds nothing to do', async () => {
  await empty()
  await migrate(process())
  const schema = await tables()
  assert.deepEqual(await migrate(process()), [])
  assert.deepEqual(await tables(), schema)
})

test('a database that a newer Tidings has migrated is refused, with the way out, and stays as it is', async () => {
  await empty()
  await migrate(process())
  await storage.pool.query(`INSERT INTO schema_migration (version, name) VALUES (9999, '9999-later.sql'); DROP TABLE event_type`)
  const schema = await tables()
  await assert.rejects(migrate(process()), (error) => {
    assert.ok(error instanceof SchemaTooNewError)
    assert.match(error.message, /9999/)
    return true
  })
  assert.deepEqual(await tables(), schema)
})

test('a newer database without any table of ours is refused and gets none', async () => {
  await empty()
  await storage.pool.query(
    `CREATE TABLE schema_migration (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
     INSERT INTO schema_migration (version, name) VALUES (9999, '9999-later.sql')`,
  )
  const schema = await tables()
  await assert.rejects(migrate(process()), SchemaTooNewError)
  assert.deepEqual(await tables(), schema)
})

test('a migration that fails leaves nothing of itself behind, and the next start repeats it', async () => {
  await empty()
  // The last table of the first migration is in the way.
  await storage.pool.query('CREATE TABLE mailbox (in_the_way text)')
  await assert.rejects(migrate(process()), /mailbox/)
  assert.deepEqual(await tables(), ['mailbox.in_the_way'])
  await storage.pool.query('DROP TABLE mailbox')
  assert.ok((await migrate(process())).length > 0)
})
