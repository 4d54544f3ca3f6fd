import assert from 'node:assert/strict'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../../cli/embedded/ports.ts'
import { createRestClient, type RestClient } from '../../cli/rest.ts'
import { assertNoProcessNames, processesNaming, spawnScript, type RunningProcess } from '../support/processes.ts'
import { startReceiver } from '../support/receiver.ts'
import { createScratch } from '../support/scratch.ts'

const STOP_LIMIT_MS = 10_000
const WAIT_MS = 30_000
/** For receivers that are not the service's own inbox. */
const LOOPBACK = { TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8' }

interface House {
  readonly dataDir: string
  readonly port: number
  readonly env: Readonly<Record<string, string | undefined>>
  start(env?: Readonly<Record<string, string>>): RunningProcess
}

/** A data directory and a port of the test's own; afterwards nothing may run there. */
async function createHouse(context: TestContext): Promise<House> {
  const scratch = createScratch('start')
  const dataDir = join(scratch.path, 'data')
  const port = await freePort()
  const env = {
    TIDINGS_DATA_DIR: dataDir,
    TIDINGS_PORT: String(port),
    TIDINGS_POSTGRES_PORT: '0',
    TIDINGS_TEMPORAL_PORT: '0',
    TIDINGS_TEMPORAL_UI_PORT: '0',
    DATABASE_URL: undefined,
    TEMPORAL_ADDRESS: undefined,
  }
  const started: RunningProcess[] = []
  context.after(async () => {
    for (const one of started) one.signal('SIGKILL')
    await assertNoProcessNames(scratch.path, STOP_LIMIT_MS)
    scratch.remove()
  })
  return {
    dataDir,
    port,
    env,
    start(extra = {}) {
      const one = spawnScript('cli/start.ts', [], { env: { ...env, ...extra } })
      started.push(one)
      return one
    },
  }
}

async function whenReady(start: RunningProcess): Promise<RestClient> {
  const [, url = ''] = await start.line(/^tidings ready (http:\/\/127\.0\.0\.1:\d+)$/)
  await start.line(/Ctrl-C stops everything/)
  const [, token = ''] = await start.line(/^ {2}Token +(\S+)$/)
  return createRestClient(url, token)
}

async function stopsInTime(start: RunningProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  const since = performance.now()
  start.signal(signal)
  assert.equal(await start.ended, 0, start.stderr())
  assert.ok(performance.now() - since < STOP_LIMIT_MS, `stopped after ${performance.now() - since} ms`)
}

/** The failure's one line: all of stderr but the progress lines. */
async function failureOf(start: RunningProcess): Promise<string> {
  assert.equal(await start.ended, 1, start.stderr())
  const lines = start.stderr().split('\n')
  const said = lines.filter((line) => line !== '' && !/^ *\d+\.\d s {2}/.test(line))
  assert.equal(said.length, 1, start.stderr())
  return said[0] ?? ''
}

interface Attempt {
  readonly status: number
}

async function waitForAttempts(
  rest: RestClient,
  appId: string,
  messageId: string,
  done: (attempts: Attempt[]) => boolean,
): Promise<Attempt[]> {
  const deadline = performance.now() + WAIT_MS
  for (;;) {
    const { data } = await rest.get<{ data: Attempt[] }>(`/app/${appId}/attempt/msg/${messageId}`)
    if (done(data)) return data
    assert.ok(performance.now() < deadline, `still ${JSON.stringify(data.map(({ status }) => status))}`)
    await delay(50)
  }
}

test('the first start delivers a first event, a stop keeps what is pending, and the second start delivers it', async (context) => {
  const house = await createHouse(context)
  const first = house.start(LOOPBACK)
  const rest = await whenReady(first)
  await first.line(/^ {2}First delivery +\S+Z, status 200 after \d+ ms, message msg_\w{27}$/)
  await first.line(/\/namespaces\/tidings-local\/workflows\/fan-out%2Fmsg_\w{27}$/)
  const app = await rest.post<{ id: string }>('/app', { name: 'resumed' })
  // The inbox of the service goes with it: a retry that is due meanwhile would fail.
  const receiver = await startReceiver((_, earlier) => ({ status: earlier === 0 ? 500 : 200 }))
  context.after(() => receiver.close())
  await rest.post(`/app/${app.id}/endpoint`, { url: receiver.url, retrySchedule: [4, 4] })
  const message = await rest.post<{ id: string }>(`/app/${app.id}/msg`, { eventType: 'thing.done', payload: { n: 1 } })
  await waitForAttempts(rest, app.id, message.id, (attempts) => attempts.some(({ status }) => status === 2))
  await stopsInTime(first)
  await assertNoProcessNames(house.dataDir, 0)
  assert.equal(existsSync(join(house.dataDir, 'lock')), false)

  const second = house.start(LOOPBACK)
  const again = await whenReady(second)
  assert.doesNotMatch(second.stdout(), /First delivery/)
  const attempts = await waitForAttempts(again, app.id, message.id, (all) => all.some(({ status }) => status === 0))
  assert.deepEqual(
    attempts.map(({ status }) => status),
    [0, 2],
  )
  assert.equal(receiver.received.length, 2)
  await stopsInTime(second, 'SIGINT')
})

test('the printed curl publishes an event that arrives at the inbox', async (context) => {
  const house = await createHouse(context)
  const start = house.start()
  const rest = await whenReady(start)
  const [, appId = ''] = await start.line(/^curl -X POST \S+\/app\/(app_\w{27})\/msg/)
  const message = await rest.post<{ id: string }>(`/app/${appId}/msg`, { eventType: 'invoice.paid', payload: { amount: 42 } })
  await waitForAttempts(rest, appId, message.id, (attempts) => attempts.some(({ status }) => status === 0))
  const demo = spawnScript('cli/demo.ts', [], { env: house.env })
  assert.equal(await demo.ended, 0, demo.stderr())
  assert.match(demo.stdout(), /^healthy +329 +329 +0 +0 /m)
  assert.match(demo.stdout(), /^flaky +329 +987 +658 +0 /m)
  assert.match(demo.stdout(), /^down +0 +1316 +987 +329 /m)
  const token = spawnScript('cli/token.ts', [], { env: house.env })
  assert.equal(await token.ended, 0)
  assert.match(token.stdout(), /^\S+\.\S+\.\S+\n$/)
  for (const name of ['jwt-secret', 'encryption-key', 'postgres.password']) {
    assert.equal(statSync(join(house.dataDir, name)).mode & 0o777, 0o600, name)
  }
  await stopsInTime(start)
})

test('a second start on the same data directory is refused in one line, the first goes on', async (context) => {
  const house = await createHouse(context)
  const first = house.start()
  const rest = await whenReady(first)
  assert.match(await failureOf(house.start()), /^tidings: another Tidings \(process \d+\) runs on the data directory .*TIDINGS_DATA_DIR/)
  await rest.get('/app')
  await stopsInTime(first)
})

test('a taken port is one clear line, and nothing is left running', async (context) => {
  const house = await createHouse(context)
  const server = createServer().listen(house.port, '127.0.0.1')
  context.after(() => server.close())
  assert.match(await failureOf(house.start()), /^tidings: port \d+ is taken by another program: .*TIDINGS_PORT/)
  const port = await freePort()
  const other = createServer().listen(port, '127.0.0.1')
  context.after(() => other.close())
  const env = { TIDINGS_PORT: '0', TIDINGS_TEMPORAL_PORT: String(port) }
  assert.match(await failureOf(house.start(env)), /^tidings: port \d+ for Temporal is taken .*TIDINGS_TEMPORAL_PORT/)
  await assertNoProcessNames(house.dataDir, 0)
})

test('a data directory that cannot be written is one clear line', async (context) => {
  const house = await createHouse(context)
  // A folder below a file: not even root can make it.
  writeFileSync(house.dataDir, '')
  const line = await failureOf(house.start({ TIDINGS_DATA_DIR: join(house.dataDir, 'below') }))
  assert.match(line, /^tidings: the data directory \S+ cannot be written \(.*\): make it writable, or set TIDINGS_DATA_DIR/)
})

test('wrong settings are named together', async (context) => {
  const house = await createHouse(context)
  const line = await failureOf(house.start({ TIDINGS_PORT: 'x', TIDINGS_PARTITIONS: '0' }))
  assert.match(line, /^tidings: wrong settings: TIDINGS_PORT: .*; TIDINGS_PARTITIONS: /)
})

for (const [name, pidFile] of [
  ['Postgres', 'postgres/postmaster.pid'],
  ['Temporal', 'temporal.pid'],
] as const) {
  test(`when ${name} dies everything stops with one clear line, and the next start is good`, async (context) => {
    const house = await createHouse(context)
    const start = house.start()
    await whenReady(start)
    process.kill(Number(/^\d+/.exec(readFileSync(join(house.dataDir, pidFile), 'utf8'))?.[0]), 'SIGKILL')
    const line = await failureOf(start)
    assert.match(line, new RegExp(`^tidings: ${name} ended by itself \\(signal SIGKILL\\), so everything was stopped: see \\S+\\.log`))
    await assertNoProcessNames(house.dataDir, 1000)
    const next = house.start()
    await whenReady(next)
    await stopsInTime(next)
  })
}

test('after kill -9 of the service its servers end, and the next start is good', async (context) => {
  const house = await createHouse(context)
  const start = house.start()
  await whenReady(start)
  assert.ok(processesNaming(house.dataDir).length >= 2)
  start.signal('SIGKILL')
  assert.equal(await start.ended, 'SIGKILL')
  // At once: what the guards have not stopped yet, the start stops.
  const next = house.start()
  await whenReady(next)
  await stopsInTime(next)
})

test('a stop while it starts leaves nothing running', async (context) => {
  const house = await createHouse(context)
  const start = house.start()
  await start.line(/starting Postgres/)
  await stopsInTime(start)
  await assertNoProcessNames(house.dataDir, 1000)
})
