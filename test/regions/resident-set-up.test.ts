import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { CONFIGURATION_TABLES, ConfigurationSetUpError } from '../../storage/config-subscription.ts'
import { setUpSharedConfiguration } from '../../storage/config-set-up.ts'
import { migrate } from '../../storage/migrate.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { eventually } from '../support/eventually.ts'
import { startTestServer, type TestServer } from '../support/shared-configuration.ts'

let leader: TestServer
let servers: TestServer[]
let cluster: Pool
let region: Pool
let other: Pool

before(async () => {
  servers = await Promise.all(['leader', 'region', 'other'].map(startTestServer))
  leader = servers[0]!
  ;[cluster, region, other] = servers.map(({ url }) => createPool(url, 3)) as [Pool, Pool, Pool]
  for (const pool of [cluster, region, other]) await migrate(pool)
})

after(async () => {
  for (const pool of [cluster, region, other]) await pool.end()
  for (const server of servers) await server.remove()
})

/** An application with an endpoint that has old secrets and a current one; ciphers tell their order. */
async function insert(pool: Pool, name: string, residency: string | null): Promise<void> {
  await pool.query(`INSERT INTO application (id, org_id, uid, name, residency) VALUES ('app_' || $1, 'org', $1, 'n', $2)`, [
    name,
    residency,
  ])
  await pool.query(`INSERT INTO endpoint (id, app_id, url) VALUES ('ep_' || $1, 'app_' || $1, 'http://x')`, [name])
  for (const n of [1, 2, 3]) {
    await pool.query(
      `INSERT INTO endpoint_secret (endpoint_id, secret_cipher, expires_at) VALUES ('ep_' || $1, $2, CASE WHEN $3 THEN now() END)`,
      [name, String(n), n < 3],
    )
  }
  await pool.query(
    `INSERT INTO audit_log (id, org_id, app_id, actor, operation, object_id, fields)
     VALUES ('audit_' || $1, 'org', 'app_' || $1, 'a', 'application.created', 'o', '{}')`,
    [name],
  )
}

async function secretsOf(pool: Pool, name: string): Promise<{ id: number; n: string }[]> {
  const { rows } = await pool.query<{ id: number; n: string }>(
    `SELECT id, convert_from(secret_cipher, 'UTF8') AS n FROM endpoint_secret WHERE endpoint_id = 'ep_' || $1 ORDER BY id`,
    [name],
  )
  return rows
}

const setUp = (pool: Pool, zone: string | null, name = 'region') =>
  setUpSharedConfiguration(pool, { urls: [leader.url], region: name, zone })

const isCopied = (pool: Pool, name: string) =>
  eventually(
    () => secretsOf(pool, name),
    (rows) => rows.length === 3,
  )

const triggers = async (pool: Pool) => {
  const { rows } = await pool.query<{ definition: string }>(
    `SELECT pg_get_triggerdef(oid) AS definition FROM pg_trigger
     WHERE tgname = 'refuse_change_of_copy' AND tgparentid = 0`,
  )
  return rows.map(({ definition }) => /FOR EACH (\w+) .*\((.*)\)$/.exec(definition)!.slice(1).join(' '))
}

test('a region that had residents before it shares configuration keeps them, and copies the rest beside them', async () => {
  await insert(cluster, 'one', null)
  await insert(region, 'resident', 'eu')
  assert.deepEqual(
    (await secretsOf(region, 'resident')).map(({ id }) => id),
    [1, 2, 3],
  )
  assert.equal(await setUp(region, 'eu'), true)
  assert.deepEqual(await isCopied(region, 'one'), await secretsOf(cluster, 'one'))
  const moved = await secretsOf(region, 'resident')
  assert.ok(moved.every(({ id, n }) => id < 0 && Number.isSafeInteger(id) && Number(n) > 0))
  assert.deepEqual(
    moved.map(({ n }) => n),
    ['1', '2', '3'],
  )
  await insert(region, 'second', 'eu')
  assert.ok((await secretsOf(region, 'second'))[0]!.id > moved[2]!.id)
  // Again, as the next process does: nothing moves.
  assert.equal(await setUp(region, 'eu'), true)
  assert.deepEqual(await secretsOf(region, 'resident'), moved)
})

test('a copied row never meets one of a resident', async () => {
  await insert(cluster, 'resident-of-the-cluster', null)
  await cluster.query(`INSERT INTO application (id, org_id, uid, name) VALUES ('app_same', 'org', 'resident', 'n')`)
  await insert(cluster, 'last', null)
  await isCopied(region, 'last')
  assert.equal((await region.query(`SELECT FROM application WHERE uid = 'resident'`)).rowCount, 2)
  await assert.rejects(region.query(`UPDATE endpoint_secret SET expires_at = now() WHERE endpoint_id = 'ep_last'`), /is a copy/)
  await assert.rejects(region.query(`UPDATE endpoint SET app_id = 'app_last' WHERE id = 'ep_resident'`), /is a copy/)
  await assert.rejects(region.query(`UPDATE application SET residency = NULL WHERE id = 'app_resident'`), /is a copy/)
  await assert.rejects(region.query(`INSERT INTO application (id, org_id, name) VALUES ('app_x', 'org', 'x')`), /is a copy/)
  // With its secrets.
  await region.query(`DELETE FROM endpoint WHERE id = 'ep_resident'`)
  assert.deepEqual(await secretsOf(region, 'resident'), [])
})

test('a copy of an earlier version is brought up to this one, also while the cluster is away', async () => {
  await setUp(other, null, 'other')
  assert.deepEqual(new Set(await triggers(other)), new Set(['ROW ']))
  for (const table of CONFIGURATION_TABLES) {
    await other.query(`DROP TRIGGER refuse_change_of_copy ON ${table}; CREATE TRIGGER refuse_change_of_copy
      BEFORE INSERT OR UPDATE OR DELETE ON ${table} FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_copy()`)
  }
  await assert.rejects(insert(other, 'early', 'eu'), /is a copy/)
  await leader.kill()
  assert.equal(await setUp(other, 'eu', 'other'), false)
  assert.deepEqual(await triggers(other), Array(CONFIGURATION_TABLES.length).fill("ROW 'eu'"))
  await insert(other, 'early', 'eu')
  await leader.start()
  await insert(cluster, 'after', null)
  for (const pool of [region, other]) await isCopied(pool, 'after')
  // A region that has no zone any more changes nothing.
  assert.equal(await setUp(other, null, 'other'), true)
  await assert.rejects(insert(other, 'late', 'eu'), /is a copy/)
})

/** As docs/regions.md has them. */
function deleteAllButResidents(): string {
  const docs = readFileSync(join(import.meta.dirname, '../../docs/regions.md'), 'utf8')
  return /```sql\n(SET session_replication_role[^`]*)```/.exec(docs)![1]!
}

test('a region whose slot was lost copies everything anew, and keeps its residents', async () => {
  const residents = await secretsOf(region, 'second')
  await region.query('ALTER SUBSCRIPTION tidings_configuration DISABLE')
  await region.query('ALTER SUBSCRIPTION tidings_configuration SET (slot_name = NONE)')
  await region.query('DROP SUBSCRIPTION tidings_configuration')
  await eventually(
    async () => (await cluster.query(`SELECT FROM pg_replication_slots WHERE slot_name = 'tidings_region' AND NOT active`)).rowCount,
    (rows) => rows === 1,
  )
  await cluster.query(`SELECT pg_drop_replication_slot('tidings_region')`)
  await assert.rejects(setUp(region, 'eu'), /has rows of its own/)
  const client = await region.connect()
  await client.query(deleteAllButResidents())
  client.release(true)
  await insert(cluster, 'meanwhile', null)
  assert.equal(await setUp(region, 'eu'), true)
  assert.deepEqual(await secretsOf(region, 'meanwhile'), await secretsOf(cluster, 'meanwhile'))
  assert.deepEqual(await secretsOf(region, 'second'), residents)
  assert.equal((await region.query(`SELECT FROM audit_log WHERE app_id = 'app_second'`)).rowCount, 1)
  await insert(region, 'third', 'eu')
})

test('a region with other configuration of its own is refused, and so is a cluster with applications of a zone', async () => {
  const fresh = await startTestServer('fresh')
  servers.push(fresh)
  const pool = createPool(fresh.url, 2)
  await migrate(pool)
  await insert(pool, 'mine', null)
  await assert.rejects(setUp(pool, 'eu', 'fresh'), /^ConfigurationSetUpError: application has rows of its own/)
  await pool.query('TRUNCATE application, endpoint, endpoint_secret CASCADE')
  await cluster.query('ALTER TABLE application DISABLE TRIGGER refuse_resident')
  await insert(cluster, 'wrong', 'eu')
  await assert.rejects(setUp(pool, 'eu', 'fresh'), ConfigurationSetUpError)
  await pool.end()
})
