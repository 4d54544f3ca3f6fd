import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import type { FailoverReport } from '../../cli/regions/failover.ts'
import { findPostgresTool } from '../../cli/regions/postgres-tools.ts'
import { lagOf } from '../../cli/regions/standby.ts'
import type { RegionsStatus } from '../../cli/regions/status.ts'
import type { UnreplicatedReport } from '../../cli/regions/unreplicated.ts'
import { readConfig } from '../../config/index.ts'
import { migrate } from '../../storage/migrate.ts'
import { eventually } from '../chaos/eventually.ts'
import { createCalls, numberOf, numbers, numbersAt, type Calls } from '../support/calls.ts'
import type { RunningProcess } from '../support/processes.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { NO_TEMPORAL_SERVER, temporalServerPrograms } from '../support/temporal-server.ts'
import { setTakeoverStage, type Place, type TakeoverStage } from './takeover-stage.ts'

const WITHIN_MS = 120_000
const SUBSCRIPTION = 'tidings_configuration'

const programs = await temporalServerPrograms()
const tool = await findPostgresTool('pg_basebackup', { cacheDir: readConfig().cacheDir, major: 18 })
const skip =
  programs === undefined ? NO_TEMPORAL_SERVER : tool === undefined ? 'no pg_basebackup of Postgres 18: .ci/run installs it' : false

let stage: TakeoverStage
let receiver: Receiver
/** Until then what is sent to `/failing` from the number 10 on fails. */
let isMended = false
const delivered: { readonly path: string; readonly n: number }[] = []
const deliveredTo = (path: string) => delivered.filter((one) => one.path === path).map(({ n }) => n)
let app: string

before(async () => {
  if (programs === undefined || skip !== false) return
  stage = await setTakeoverStage(programs)
  receiver = await startReceiver((one) => {
    if (one.path === '/failing' && !isMended && numberOf(one) >= 10) return { status: 500 }
    delivered.push({ path: one.path, n: numberOf(one) })
    return { status: 200 }
  })
})
after(async () => {
  if (skip !== false) return
  await receiver.close()
  await stage.close()
})

async function succeed(...args: string[]): Promise<string> {
  const command = stage.region(...args)
  assert.equal(await command.ended, 0, command.stderr())
  return command.stdout()
}

async function refused(...args: string[]): Promise<string> {
  const command = stage.region(...args)
  assert.equal(await command.ended, 1)
  assert.equal(command.stdout(), '')
  return command.stderr()
}

const callsAt = (place: Place): Calls => createCalls({ url: stage.apiUrl(place), token: stage.token })

interface Processes {
  readonly api: RunningProcess
  readonly worker: RunningProcess
}

const startProcesses = (place: Place): Processes => ({ api: stage.startApi(place), worker: stage.startWorker(place) })

const ready = ({ api, worker }: Processes) => Promise.all([api.line(/^tidings ready/), worker.line(/^tidings worker ready/)])

async function arrived(path: string, expected: readonly number[]): Promise<void> {
  const told = () => JSON.stringify(deliveredTo(path))
  await eventually({ what: `what is for ${path}`, withinMs: WITHIN_MS, told }, () => {
    const there = new Set(deliveredTo(path))
    return expected.every((n) => there.has(n))
  })
}

test('a region is added to its peers, and to nobody where it has none; again nothing changes', { skip }, async () => {
  const first = await succeed('add', 'us-east')
  assert.match(first, /^tidings-us-east: active at us-east, at us-east, us-west\nleft to do:\n {2}at us-west, the standby: /)
  assert.equal(await succeed('add', 'us-east'), first)
  const alone = await succeed('add', 'us-west')
  assert.match(alone, /^tidings-us-west: active at us-west, at us-west\nnothing is replicated: us-west has no peers\n$/)
})

let east: Processes
let west: Processes

test('a process for a standby waits, and ends when it is told to', { skip }, async () => {
  await stage.startPostgres('us-east')
  await stage.withPool('us-east', async (pool) => {
    await migrate(pool)
    // As where configuration is shared, of a cluster that does not answer.
    const { pathname, username } = new URL(stage.databaseUrl('us-east'))
    await pool.query(
      `CREATE SUBSCRIPTION ${SUBSCRIPTION} CONNECTION 'host=127.0.0.1 port=1 dbname=${pathname.slice(1)} user=${username}'
       PUBLICATION ${SUBSCRIPTION} WITH (connect = false, slot_name = 'tidings_us_east')`,
    )
    await pool.query(`ALTER SUBSCRIPTION ${SUBSCRIPTION} ENABLE`)
  })
  await succeed('standby', 'create', '--primary', stage.databaseUrl('us-east'), '--data-dir', stage.dataDir('us-west'), '--name', 'us-west')
  await stage.startPostgres('us-west')
  east = startProcesses('us-east')
  const early = stage.startApi('us-west')
  await early.line(/^waiting: DATABASE_URL is a standby/)
  early.signal('SIGTERM')
  assert.equal(await early.ended, 0)
  assert.equal(early.stdout(), '')
  west = startProcesses('us-west')
  await ready(east)
  await west.worker.line(/^waiting/)
  const calls = callsAt('us-east')
  const { json } = await calls.call('POST', '/app', { name: 'taken over' })
  app = String(json['id'])
  for (const path of ['/healthy', '/failing']) {
    assert.equal((await calls.call('POST', `/app/${app}/endpoint`, { url: `${receiver.url}${path}` })).status, 201)
  }
})

test('the state of regions tells who answers and where namespaces are active', { skip }, async () => {
  const databases = [`us-east=${stage.databaseUrl('us-east')}`, `us-west=${stage.databaseUrl('us-west')}`]
  const command = stage.region('status', '--json', ...databases.flatMap((one) => ['--database', one]))
  assert.equal(await command.ended, 1, 'the API of us-west does not answer')
  const { regions, problems } = JSON.parse(command.stdout()) as RegionsStatus
  assert.equal(problems.length, 1)
  assert.match(problems[0]!, /^us-west: http:\/\/127\.0\.0\.1:1 does not answer/)
  const [home, peer] = regions
  assert.deepEqual(home!.api, { answers: true, status: 200, name: 'us-east', role: 'active' })
  assert.deepEqual(
    home!.at.map(({ cluster, activeCluster, failoverVersion }) => [cluster, activeCluster, failoverVersion]),
    [
      ['us-east', 'us-east', 1],
      ['us-west', 'us-east', 1],
    ],
  )
  assert.ok(home!.temporal.answers && home!.temporal.peers.includes('us-west'))
  assert.ok(home!.database?.answers === true && home!.database.standbys[0]?.name === 'us-west')
  assert.ok(peer!.database?.answers === true && peer!.database.isStandby)
  const table = stage.region('status')
  assert.equal(await table.ended, 1)
  assert.match(table.stdout(), /^us-east +active +200 us-east \(active\) +1\.\d+\.\d+ +us-west$/m)
  assert.match(table.stdout(), /^tidings-us-east +us-west +us-east +1 +\d+$/m)
})

interface Load {
  /** Numbers that were accepted. */
  readonly accepted: readonly number[]
  /** Everything that was answered; 0: nothing was. */
  readonly statuses: ReadonlySet<number>
  stop(): Promise<readonly number[]>
}

/** Publishes one after the other, each until one of the places accepts it. */
function publishSteadily(from: number, places: readonly Place[]): Load {
  const accepted: number[] = []
  const statuses = new Set<number>()
  let isStopped = false
  // Repeated under its eventId, so that an answer that was lost is no second message.
  const publish = async (place: Place, n: number): Promise<boolean> => {
    const body = { eventType: 'step.taken', eventId: `steady-${n}`, payload: { n } }
    const status = await callsAt(place)
      .call('POST', `/app/${app}/msg`, body)
      .then((answer) => answer.status)
      .catch(() => 0)
    statuses.add(status)
    return status === 202 || status === 409
  }
  const running = (async () => {
    for (let n = from, tries = 0; !isStopped; tries++) {
      if (await publish(places[tries % places.length]!, n)) accepted.push(n++)
      await pause(20)
    }
  })()
  return {
    accepted,
    statuses,
    async stop() {
      isStopped = true
      await running
      return accepted
    },
  }
}

/** What was accepted has arrived, once at each endpoint. */
async function arrivedOnce(accepted: readonly number[]): Promise<void> {
  const [first, last] = [accepted[0]!, accepted.at(-1)!]
  for (const path of ['/healthy', '/failing']) {
    await arrived(path, accepted)
    const arrivals = deliveredTo(path).filter((n) => n >= first && n <= last)
    assert.deepEqual(
      arrivals.sort((a, b) => a - b),
      accepted,
    )
  }
}

const failover = (...args: string[]) => ['failover', 'us-east', '--to', 'us-west', '--standby', stage.databaseUrl('us-west'), ...args]

test('a failover is refused where two halves would diverge, or nothing can take over', { skip }, async () => {
  assert.match(await refused(...failover()), /the API of us-east answers at \S+\/health: two active halves would diverge/)
  const old = ['--primary', stage.databaseUrl('us-east')]
  assert.match(await refused(...failover(...old, '--force', '--to', 'us-east', '--standby', stage.databaseUrl('us-east'))), /is no standby/)
  assert.match(
    await refused('failover', 'us-west', '--to', 'us-east', '--standby', stage.databaseUrl('us-west')),
    /us-east is no peer of us-west/,
  )
  assert.match(await refused('failover', 'eu', '--to', 'us-east'), /eu: the regions are us-east, us-west/)
  assert.match(
    await refused(...failover(...old, '--planned', '--drain', '1s')),
    /connections of Tidings to the primary are left after 1 s \(tidings[^)]*\): stop the region's processes/,
  )
  const dry = JSON.parse(await succeed(...failover(...old, '--planned', '--dry-run', '--json'))) as FailoverReport
  assert.deepEqual([dry.dryRun, dry.failoverVersion, dry.lag.connected], [true, undefined, true])
})

test('a planned one that cannot be finished leaves the region where it was; nothing is lost meanwhile', { skip }, async (t) => {
  isMended = true
  const load = publishSteadily(5000, ['us-east'])
  await eventually({ what: 'load', withinMs: WITHIN_MS }, () => load.accepted.length > 10)
  await stage.withPool('us-west', (pool) => pool.query('SELECT pg_wal_replay_pause()'))
  const error = await refused(...failover('--primary', stage.databaseUrl('us-east'), '--planned', '--force', '--drain', '2s'))
  assert.match(error, /bytes behind after 2 s. tidings-us-east is where it was, the primary takes writes again/)
  await stage.withPool('us-west', (pool) => pool.query('SELECT pg_wal_replay_resume()'))
  const before = load.accepted.length
  await eventually({ what: 'load after it', withinMs: WITHIN_MS }, () => load.accepted.length > before + 10)
  const accepted = await load.stop()
  t.diagnostic(`${accepted.length} accepted; answers: ${[...load.statuses].join(', ')}`)
  assert.equal(await isSubscribed('us-east'), true)
  assert.ok(load.statuses.has(503))
  assert.ok([...load.statuses].every((status) => [0, 202, 409, 503].includes(status)))
  await arrivedOnce(accepted)
  isMended = false
})

const isSubscribed = (place: Place) =>
  stage.withPool(place, async (pool) => {
    const { rows } = await pool.query<{ on: boolean }>('SELECT subenabled AS on FROM pg_subscription WHERE subname = $1', [SUBSCRIPTION])
    return rows[0]!.on
  })

function promotedAt({ steps }: FailoverReport): number {
  const { at, ms } = steps.find(({ step }) => step === 'promote')!
  return Date.parse(at) + ms
}

/** Has the standby hear nothing more of its primary. */
async function stopReceiving(place: Place): Promise<void> {
  await stage.withPool(place, async (pool) => {
    await pool.query(`ALTER SYSTEM SET primary_conninfo = ''`)
    await pool.query('SELECT pg_reload_conf()')
  })
  await eventually({ what: 'the end of receiving', withinMs: 10_000 }, async () => !(await lagOf(stage.databaseUrl(place))).connected)
}

test('after kill -9 of everything at home, what waits at the peer takes over and delivers', { skip }, async (t) => {
  const calls = callsAt('us-east')
  await calls.publishTogether(app, numbers(20))
  await arrived('/healthy', numbers(20))
  await eventually({ what: 'failures', withinMs: WITHIN_MS }, () => numbersAt(receiver, '/failing').some((n) => n >= 10 && n < 20))
  const attempts = (place: Place) =>
    stage.withPool(place, async (pool) => (await pool.query('SELECT FROM attempt WHERE status = 0')).rowCount)
  await eventually(
    { what: 'rows at the standby', withinMs: WITHIN_MS },
    async () => (await attempts('us-east')) === (await attempts('us-west')),
  )
  await stopReceiving('us-west')
  await calls.publishTogether(app, numbers(5, 20))
  await arrived('/healthy', numbers(25))

  for (const one of [east.api, east.worker]) one.signal('SIGKILL')
  await Promise.all([stage.killPostgres('us-east'), stage.clusters.kill('us-east')])
  isMended = true
  const since = performance.now()
  let readyAt = 0
  const [report] = await Promise.all([
    succeed(...failover('--primary', stage.databaseUrl('us-east'), '--json')).then((text) => JSON.parse(text) as FailoverReport),
    ready(west).then(() => (readyAt = Date.now())),
  ])
  t.diagnostic(JSON.stringify(report))
  t.diagnostic(`what waited is ready ${readyAt - promotedAt(report)} ms after the promotion`)
  assert.deepEqual(
    report.steps.map(({ step }) => step),
    ['check', 'temporal', 'promote', 'reconcile'],
  )
  assert.deepEqual([report.failoverVersion, report.lag.connected, report.reconcileFailure], [2, false, undefined])
  await callsAt('us-west').publishTogether(app, numbers(5, 100))
  await arrived('/failing', [...numbers(20), ...numbers(5, 100)])
  await arrived('/healthy', [...numbers(25), ...numbers(5, 100)])
  t.diagnostic(`all is delivered after ${Math.round(performance.now() - since)} ms`)
  assert.match(await refused(...failover()), /it is a primary; tidings-us-east is active at us-west already/)
})

test('a lost primary that has returned becomes read-only, and what it alone had is delivered', { skip }, async (t) => {
  await Promise.all([stage.startPostgres('us-east'), stage.clusters.start('us-east')])
  const where = ['failback', 'us-east', '--from', 'us-west', '--json']
  const [old, current] = [stage.databaseUrl('us-east'), stage.databaseUrl('us-west')]
  assert.match(await refused(...where, '--old', current, '--new', old), /not promoted after --old/)
  const report = JSON.parse(await succeed(...where, '--old', old, '--new', current)) as UnreplicatedReport
  t.diagnostic(JSON.stringify(report))
  assert.equal(report.missing.length, 5)
  await arrived('/failing', [...numbers(25), ...numbers(5, 100)])
  const again = JSON.parse(await succeed(...where, '--old', old, '--new', current)) as UnreplicatedReport
  assert.deepEqual([again.missing.length, again.put], [0, 0])
  await assert.rejects(
    stage.withPool('us-east', (pool) => pool.query('CREATE TABLE diverging (id int)')),
    { code: '25006' },
  )
  await stage.removePostgres('us-east')
  await succeed('standby', 'create', '--primary', current, '--data-dir', stage.dataDir('us-east'), '--name', 'us-east')
  await stage.startPostgres('us-east')
})

test('planned, under load, the region moves home: nothing is lost, and nothing arrives twice', { skip }, async (t) => {
  east = startProcesses('us-east')
  await Promise.all([east.api.line(/^waiting/), east.worker.line(/^waiting/)])
  const load = publishSteadily(10_000, ['us-west', 'us-east'])
  await eventually({ what: 'load', withinMs: WITHIN_MS }, () => load.accepted.length > 30)
  const urls = ['--primary', stage.databaseUrl('us-west'), '--standby', stage.databaseUrl('us-east')]
  const move = stage.region('failover', 'us-east', '--to', 'us-east', '--planned', ...urls, '--json')
  await move.line(/stop the region's processes/)
  const times = [east.api.line(/^tidings ready/), east.worker.line(/^tidings worker ready/)].map((line) => line.then(() => Date.now()))
  for (const one of [west.api, west.worker]) one.signal('SIGTERM')
  assert.deepEqual(await Promise.all([west.api.ended, west.worker.ended]), [0, 0])
  assert.equal(await move.ended, 0, move.stderr())
  t.diagnostic(move.stdout())
  t.diagnostic(
    `ready ${(await Promise.all(times)).map((at) => at - promotedAt(JSON.parse(move.stdout()) as FailoverReport)).join(' and ')} ms after the promotion`,
  )
  const before = load.accepted.length
  await eventually({ what: 'load at home', withinMs: WITHIN_MS }, () => load.accepted.length > before + 30)
  const accepted = await load.stop()
  await arrivedOnce(accepted)
  assert.deepEqual([await isSubscribed('us-east'), await isSubscribed('us-west')], [true, false])
  await assert.rejects(
    stage.withPool('us-west', (pool) => pool.query('CREATE TABLE diverging (id int)')),
    { code: '25006' },
  )
})
