import { rmSync } from 'node:fs'
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { startPostgres } from '../../cli/embedded/postgres.ts'
import { migrate } from '../../storage/migrate.ts'
import { createPool } from '../../storage/pool.ts'
import { createScratch } from './scratch.ts'

const TEMPLATE = 'tidings_template'
// Any number that no migration locks.
const TEMPLATE_LOCK = 7_405_001
const LEAK_WAIT_MS = 2000

export interface TestDatabase {
  readonly url: string
  /** Drops the database. Throws when connections are still open: a pool was not ended. */
  drop(): Promise<void>
}

let server: Promise<string> | undefined

/** The server's address: the one that `npm test` started, else one of this process, which ends with it. */
function serverUrl(): Promise<string> {
  server ??= process.env['TIDINGS_TEST_POSTGRES'] === undefined ? startOwn() : Promise.resolve(process.env['TIDINGS_TEST_POSTGRES'])
  return server
}

async function startOwn(): Promise<string> {
  const scratch = createScratch('postgres')
  const postgres = await startPostgres({ dataDir: scratch.path, port: 0, settings: { fsync: 'off', shared_buffers: '64MB' } })
  process.once('exit', () => {
    process.kill(postgres.pid, 'SIGKILL')
    rmSync(scratch.path, { recursive: true, force: true, maxRetries: 3 })
  })
  return postgres.url
}

const addressOf = (url: string, database: string) => Object.assign(new URL(url), { pathname: `/${database}` }).href

/** A database of the test's own with every migration applied: cloned from a template that is migrated once a run. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const url = await serverUrl()
  const name = `test_${randomBytes(6).toString('hex')}`
  const admin = new pg.Client({ connectionString: addressOf(url, 'postgres') })
  await admin.connect()
  try {
    await ensureTemplate(admin, url)
    await admin.query(`CREATE DATABASE ${name} TEMPLATE ${TEMPLATE} STRATEGY FILE_COPY`)
  } finally {
    await admin.end()
  }
  return { url: addressOf(url, name), drop: () => dropDatabase(url, name) }
}

async function ensureTemplate(admin: pg.Client, url: string): Promise<void> {
  await admin.query('SELECT pg_advisory_lock($1)', [TEMPLATE_LOCK])
  try {
    const { rowCount } = await admin.query('SELECT 1 FROM pg_database WHERE datname = $1', [TEMPLATE])
    if (rowCount !== 0) return
    await admin.query(`DROP DATABASE IF EXISTS ${TEMPLATE}_new WITH (FORCE)`)
    await admin.query(`CREATE DATABASE ${TEMPLATE}_new`)
    const pool = createPool(addressOf(url, `${TEMPLATE}_new`), 1)
    await migrate(pool)
    await pool.end()
    await waitForNoConnections(admin, `${TEMPLATE}_new`)
    await admin.query(`ALTER DATABASE ${TEMPLATE}_new RENAME TO ${TEMPLATE}`)
  } finally {
    await admin.query('SELECT pg_advisory_unlock($1)', [TEMPLATE_LOCK])
  }
}

/** Ended connections stay visible for a moment. */
async function waitForNoConnections(admin: pg.Client, database: string): Promise<number> {
  const deadline = performance.now() + LEAK_WAIT_MS
  for (;;) {
    const { rows } = await admin.query<{ open: number }>('SELECT count(*)::int AS open FROM pg_stat_activity WHERE datname = $1', [
      database,
    ])
    const open = rows[0]?.open ?? 0
    if (open === 0 || performance.now() > deadline) return open
    await delay(10)
  }
}

async function dropDatabase(url: string, name: string): Promise<void> {
  const admin = new pg.Client({ connectionString: addressOf(url, 'postgres') })
  await admin.connect()
  try {
    const open = await waitForNoConnections(admin, name)
    await admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
    if (open > 0) throw new Error(`${open} connections to the test database were left open: end the pool before drop()`)
  } finally {
    await admin.end()
  }
}
