import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { createRetention } from '../../activities/retention.ts'
import { newId } from '../../domain/ids.ts'
import { keepConfigClock } from '../../storage/config-clock.ts'
import { createConfigCopy } from '../../storage/config-copy.ts'
import { createConfigLeader } from '../../storage/config-leader.ts'
import { setUpSharedConfiguration } from '../../storage/config-set-up.ts'
import { isCopied, publishConfiguration, subscribeToConfiguration } from '../../storage/config-subscription.ts'
import { createSharedConfiguration } from '../../storage/configuration.ts'
import { migrate } from '../../storage/migrate.ts'
import { createDays, listDayTables } from '../../storage/partitions.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { eventually } from '../support/eventually.ts'
import { migrateUpTo } from '../support/migrations.ts'
import { startTestServer, type TestServer } from '../support/shared-configuration.ts'

const DAY_MS = 86_400_000
const OUTSIDE = () => ({ heartbeat: () => undefined, cancellationSignal: new AbortController().signal })
const todayMs = Math.floor(Date.now() / DAY_MS) * DAY_MS
const PATIENCE_MS = 30_000

let servers: TestServer[]
let cluster: Pool
/** Of the zone `eu`. */
let region: Pool
let late: Pool
const [REGION, LATE] = [
  { region: 'region', zone: 'eu' },
  { region: 'late', zone: null },
]
const pools: Pool[] = []

before(async () => {
  servers = await Promise.all(['leader', 'region', 'late'].map(startTestServer))
  ;[cluster, region, late] = servers.map(({ url }) => connect(url)) as [Pool, Pool, Pool]
})

after(async () => {
  for (const pool of pools) await pool.end()
  for (const server of servers) await server.remove()
})

function connect(url: string): Pool {
  const pool = createPool(url, 4)
  pools.push(pool)
  return pool
}

const urls = () => [servers[0]!.url]
const setUp = (pool: Pool, options: typeof REGION | typeof LATE) => setUpSharedConfiguration(pool, { urls: urls(), ...options })

async function write(pool: Pool, { atMs = Date.now(), appId = null as string | null } = {}): Promise<string> {
  const id = newId('audit', atMs)
  await pool.query(
    `INSERT INTO audit_log (id, org_id, app_id, actor, operation, object_id, fields) VALUES ($1, 'org', $2, 'org', 'o', 'x', '{a,b}')`,
    [id, appId],
  )
  return id
}

const has = async (pool: Pool, id: string) => (await pool.query('SELECT FROM audit_log WHERE id = $1', [id])).rowCount === 1
const arrived = (pool: Pool, id: string) =>
  eventually(
    () => has(pool, id),
    (there) => there,
    PATIENCE_MS,
  )
const isByDays = async (pool: Pool) =>
  (await pool.query<{ kind: string }>(`SELECT relkind AS kind FROM pg_class WHERE oid = 'audit_log'::regclass`)).rows[0]!.kind === 'p'
const slotOf = async (pool: Pool) => (await pool.query<{ slot: string }>('SELECT subslotname AS slot FROM pg_subscription')).rows[0]!.slot
/** All of the log but what is of residents. */
const logOf = async (pool: Pool) =>
  (await pool.query(`SELECT * FROM audit_log WHERE app_id IS DISTINCT FROM 'app_resident' ORDER BY id`)).rows

/** Somebody who writes entries while something else goes on. */
function startWriting(): { stop(): Promise<string> } {
  let stopped = false
  let last = ''
  const writing = (async () => {
    while (!stopped) {
      // With a change that comes before it in the transaction, as entries have one.
      const client = await cluster.connect()
      const name = newId('app')
      await client.query('BEGIN')
      await client.query(`INSERT INTO application (id, org_id, name) VALUES ($1, 'org', 'n')`, [name])
      const id = newId('audit')
      await client.query(
        `INSERT INTO audit_log (id, org_id, app_id, actor, operation, object_id, fields) VALUES ($1, 'org', $2, 'org', 'o', $2, '{}')`,
        [id, name],
      )
      await client.query('COMMIT')
      client.release()
      last = id
      await pause(2)
    }
  })()
  return {
    async stop() {
      stopped = true
      await writing
      return last
    },
  }
}

test('regions of an earlier version are subscribed', async () => {
  for (const pool of [cluster, region, late]) await migrateUpTo(pool, '0021')
  await publishConfiguration(cluster)
  await cluster.query('ALTER PUBLICATION tidings_configuration SET (publish_via_partition_root = false)')
  await region.query(`INSERT INTO application (id, org_id, name, residency) VALUES ('app_resident', 'org', 'n', 'eu')`)
  await write(region, { appId: 'app_resident' })
  await write(cluster, { atMs: todayMs - 100 * DAY_MS })
  await subscribeToConfiguration(region, { urls: urls(), ...REGION })
  await subscribeToConfiguration(late, { urls: urls(), ...LATE })
  for (const pool of [region, late])
    await eventually(
      () => isCopied(pool),
      (copied) => copied,
      PATIENCE_MS,
    )
  const id = await write(cluster)
  for (const pool of [region, late]) await arrived(pool, id)
})

test('a copy is partitioned when its process reaches the cluster, and misses no entry; a region that waits with it goes on', async () => {
  await migrate(region)
  assert.equal(await isByDays(region), false)
  const writing = startWriting()
  await write(region, { appId: 'app_resident' })
  assert.equal(await setUp(region, REGION), true)
  assert.deepEqual([await isByDays(cluster), await isByDays(region), await isByDays(late)], [true, true, false])
  await pause(200)
  const last = await writing.stop()
  for (const pool of [region, late]) {
    await arrived(pool, last)
    assert.deepEqual(await logOf(pool), await logOf(cluster))
  }
  assert.equal((await region.query(`SELECT FROM audit_log WHERE app_id = 'app_resident'`)).rowCount, 2)
  assert.equal(await setUp(region, REGION), true)
  assert.equal(await slotOf(region), 'tidings_region')
})

test('the copy of a region is refused changes but of its residents, in each of its days', async () => {
  await write(region, { appId: 'app_resident' })
  await assert.rejects(write(region), /audit_log is a copy/)
  await assert.rejects(region.query(`DELETE FROM audit_log WHERE app_id IS NULL`), /audit_log is a copy/)
})

test('a copy whose cluster is away stays as it is, and one that was cut off half-way goes on', async () => {
  await migrate(late)
  await servers[0]!.kill()
  assert.equal(await setUp(late, LATE), false)
  assert.equal(await isByDays(late), false)
  await servers[0]!.start()
  const first = await write(cluster)
  await arrived(late, first)
  // As a process that dies then leaves it; somebody else enables it.
  await late.query('ALTER SUBSCRIPTION tidings_configuration DISABLE')
  await eventually(
    async () => (await late.query('SELECT FROM pg_stat_subscription WHERE pid IS NOT NULL')).rowCount,
    (workers) => workers === 0,
    PATIENCE_MS,
  )
  await late.query('ALTER SUBSCRIPTION tidings_configuration SET (slot_name = tidings_waits_for_its_audit_log)')
  await late.query('SELECT partition_audit_log()')
  await late.query('ALTER SUBSCRIPTION tidings_configuration ENABLE')
  const second = await write(cluster)
  await pause(1000)
  assert.equal(await has(late, second), false)
  assert.equal(await setUp(late, LATE), true)
  await arrived(late, second)
  assert.deepEqual(await logOf(late), await logOf(cluster))
  assert.equal(await slotOf(late), 'tidings_late')
  await assert.rejects(write(late), /audit_log is a copy/)
})

test('a region that is new copies the log of all days', async () => {
  await late.query('CREATE DATABASE fresh')
  const fresh = connect(Object.assign(new URL(servers[2]!.url), { pathname: '/fresh' }).href)
  await migrate(fresh)
  assert.equal(await setUp(fresh, { region: 'fresh', zone: null }), true)
  assert.deepEqual(await logOf(fresh), await logOf(cluster))
})

test('each database makes days of its own, and no copy loses what is moved into one', async () => {
  const dayMs = todayMs + 40 * DAY_MS
  const id = await write(cluster, { atMs: dayMs })
  await arrived(region, id)
  for (const pool of [region, cluster]) assert.equal(await createDays(pool, 'audit_log', { fromMs: dayMs, toMs: dayMs }), 1)
  const next = await write(cluster)
  for (const pool of [region, late]) {
    await arrived(pool, next)
    assert.deepEqual(await logOf(pool), await logOf(cluster))
  }
})

test('the retention of a region drops days of its copy and, while it can be reached, of the cluster', async () => {
  const leader = createConfigLeader(urls())
  const clock = keepConfigClock({ leader, log: { warn: () => undefined } })
  try {
    const deps = { pool: region, leader, copy: createConfigCopy(region), ...REGION, onFailure: assert.fail }
    const configuration = createSharedConfiguration(deps)
    const retention = createRetention({
      ...{ pool: region, configuration, context: OUTSIDE },
      retention: { deliveredDays: 30, failedDays: 90, auditDays: 365 },
    })
    const run = async (atMs: number) => {
      await retention.createDayTables({ atMs })
      for (const table of await retention.dueDayTables({ atMs })) await retention.dropDayTable({ table, atMs })
      while ((await retention.removeOldRows({ atMs })).more);
    }
    const days = async (pool: Pool) => (await listDayTables(pool)).filter(({ parent }) => parent === 'audit_log').map(({ dayMs }) => dayMs)
    const id = await write(cluster, { atMs: todayMs + 20 * DAY_MS })
    await run(todayMs + 20 * DAY_MS)
    assert.ok((await days(cluster)).includes(todayMs + 27 * DAY_MS))
    await run(todayMs + 368 * DAY_MS)
    for (const pool of [cluster, region]) {
      assert.equal(Math.min(...(await days(pool))), todayMs + 3 * DAY_MS)
      await arrived(pool, id)
    }
    // Its own days end by its own retention.
    assert.ok(Math.min(...(await days(late))) <= todayMs)
    await servers[0]!.kill()
    await run(todayMs + 370 * DAY_MS)
    assert.equal(Math.min(...(await days(region))), todayMs + 5 * DAY_MS)
    await servers[0]!.start()
  } finally {
    await clock.stop()
    await leader.stop()
  }
})
