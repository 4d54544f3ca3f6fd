import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { freePort } from '../../cli/embedded/ports.ts'
import { dayOf } from '../../domain/archive.ts'
import { FAN_OUT_TASK_QUEUE } from '../../domain/names.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createFileArchive } from '../storage/archive/fill.ts'
import { createCalls } from '../support/calls.ts'
import { eventually } from '../support/eventually.ts'
import { spawnScript } from '../support/processes.ts'
import { startReceiver, type Received, type Receiver } from '../support/receiver.ts'
import { startTestService, TEST_SECRET, type TestService } from '../support/service.ts'
import { startMeasuredTemporal } from '../support/temporal.ts'

const DAY_MS = 86_400_000
const startedAtMs = Date.now()
/** The day that is restored; two where midnight comes between. */
const RANGE = ['--from', dayOf(startedAtMs), '--to', dayOf(startedAtMs + 2 * DAY_MS)]
const INVOICES = 24
const ALL = INVOICES + 5

const started: { stop(): Promise<void> }[] = []
let archive: Awaited<ReturnType<typeof createFileArchive>>
let first: { service: TestService; receiver: Receiver; app: string; rows: Record<string, string[]> }
let fresh: { service: TestService; receiver: Receiver; app: string; pool: Pool; endpoints: Record<string, string> }

before(async () => {
  archive = await createFileArchive()
  first = await liveADay()
  fresh = await startAnew()
})

after(async () => {
  await fresh?.pool.end()
  for (const one of started.reverse()) await one.stop()
  archive.remove()
})

const service = async (options: Parameters<typeof startTestService>[0] = {}) => {
  const one = await startTestService({ ...options, env: { TIDINGS_ARCHIVE_URL: archive.url, TIDINGS_RETRY_SCHEDULE: '0.3,0.3' } })
  started.push(one)
  return one
}

/** Paths are endpoints: all of it, invoices with a failure before each success, what always fails, and CloudEvents. */
async function createEndpoints({ svix, url, token }: TestService, receiver: Receiver, uid: string) {
  const calls = createCalls({ url, token })
  for (const name of ['invoice.paid', 'order.failed', 'event.made']) await svix.eventType.create({ name, description: '' })
  const { id: app } = await svix.application.create({ name: 'restored', uid })
  const endpoints: Record<string, string> = {}
  for (const [path, fields] of Object.entries({
    '/all': {},
    '/flaky': { eventTypes: ['invoice.paid'], channels: ['books'], circuitBreaker: false },
    '/fails': { eventTypes: ['order.failed'], circuitBreaker: false },
    '/events': { eventTypes: ['event.made'], format: 'cloudevents-structured' },
    '/large': { eventTypes: ['invoice.paid'], filter: 'payload.n >= 20.0' },
  })) {
    const { status, json } = await calls.call('POST', `/app/${app}/endpoint`, {
      url: `${receiver.url}${path}`,
      uid: path.slice(1),
      ...fields,
    })
    assert.equal(status, 201, JSON.stringify(json))
    endpoints[path] = String(json['id'])
  }
  return { app, endpoints, calls }
}

async function publishAll({ url, token }: TestService, app: string, publish: (body: object) => Promise<unknown>): Promise<void> {
  for (let n = 0; n < INVOICES; n++) {
    const payload = { n, text: 'ä "quoted" \\ \u2028', list: [null, 1.5, {}], 7: 'first' }
    await publish({
      ...{ eventType: 'invoice.paid', payload, channels: n % 2 === 0 ? ['books', 'b.q'] : ['other'] },
      ...(n % 3 === 0 ? { eventId: `invoice-${n}` } : {}),
      ...(n % 4 === 0 ? { orderingKey: 'customer', priority: 'high' } : {}),
    })
  }
  for (const n of [1, 2]) await publish({ eventType: 'order.failed', payload: { n } })
  const raw = (rawPayload: string, type?: string) => ({ rawPayload, ...(type === undefined ? {} : { headers: { 'content-type': type } }) })
  await publish({ eventType: 'text.made', payload: {}, transformationsParams: raw('<a>\n\t ü</a>', 'application/xml') })
  await publish({ eventType: 'text.made', payload: {}, transformationsParams: raw('{ "id" : 12345678901234567890, "f": 1.0 }\n') })
  const response = await fetch(`${url}/api/v1/app/${app}/msg`, {
    method: 'POST',
    headers: {
      ...{ authorization: `Bearer ${token}`, 'content-type': 'image/png', 'ce-specversion': '1.0', 'ce-type': 'event.made' },
      ...{ 'ce-source': '/cameras/7', 'ce-id': 'picture-1', 'ce-subject': 'caf%C3%A9' },
    },
    body: Buffer.from([0x89, 0x50, 0, 0xff]),
  })
  assert.equal(response.status, 202)
}

async function receiving(answer?: Parameters<typeof startReceiver>[0]): Promise<Receiver> {
  const receiver = await startReceiver(answer)
  started.push({ stop: () => receiver.close() })
  return receiver
}

/** A day of a real service, which the retention archives and drops when it is old. */
async function liveADay(): Promise<typeof first> {
  const receiver = await receiving(({ path }, earlier) => ({
    status: path === '/fails' || (path === '/flaky' && earlier === 0) ? 500 : 200,
    body: `answer to ${path}`,
  }))
  const one = await service()
  const { app, calls } = await createEndpoints(one, receiver, 'acme')
  await publishAll(one, app, async (body) => assert.equal((await calls.call('POST', `/app/${app}/msg`, body)).status, 202))
  const pool = createPool(one.database.url, 2)
  started.push({ stop: () => pool.end() })
  const open = `SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM delivery WHERE state <> 'dead') AS open,
    (SELECT count(*) FROM attempt) AS attempts, (SELECT count(*) FROM delivery) AS dead`
  await eventually(
    async () => (await pool.query<{ open: number; attempts: number; dead: number }>(open)).rows[0]!,
    ({ open: left, attempts, dead }) => left === 0 && dead === 2 && attempts === ALL + INVOICES + 6 + 1 + 4,
    60_000,
  )
  const rows = { message: await textOf(pool, 'message'), attempt: await textOf(pool, 'attempt') }
  const connection = await Connection.connect({ address: one.temporal.address })
  await new Client({ connection, namespace: one.temporal.namespace }).workflow.execute('retention', {
    ...{ workflowId: 'retention/old', taskQueue: FAN_OUT_TASK_QUEUE, args: [{ atMs: startedAtMs + 95 * DAY_MS }] },
  })
  await connection.close()
  assert.deepEqual([await textOf(pool, 'message'), await textOf(pool, 'attempt')], [[], []])
  return { service: one, receiver, app, rows }
}

async function startAnew(): Promise<typeof fresh> {
  const receiver = await receiving()
  const temporal = await startMeasuredTemporal(await freePort())
  started.push(temporal)
  const one = await service({ temporal })
  const { app, endpoints } = await createEndpoints(one, receiver, 'acme-again')
  return { service: one, receiver, app, endpoints, pool: createPool(one.database.url, 2) }
}

/** Every row of a table, as Postgres writes it. */
async function textOf(pool: Pool, table: string): Promise<string[]> {
  return (await pool.query<{ text: string }>(`SELECT t::text AS text FROM ${table} t ORDER BY id`)).rows.map(({ text }) => text)
}

function command(args: readonly string[]) {
  return spawnScript('cli/archive.ts', args, {
    env: { TIDINGS_ARCHIVE_URL: archive.url, TIDINGS_ENCRYPTION_KEY: TEST_SECRET, DATABASE_URL: fresh.service.database.url },
  })
}

async function run(...args: string[]): Promise<{ code: unknown; json: Record<string, unknown>; stderr: string }> {
  const one = command(args)
  const code = await one.ended
  return { code, json: code === 0 ? (JSON.parse(one.stdout()) as Record<string, unknown>) : {}, stderr: one.stderr() }
}

const replay = (...args: string[]) => run('replay', '--name', 'day', '--app', `${first.app}=acme-again`, '--json', ...args)

/** What a replay tells of its only application. */
function told(json: Record<string, unknown>) {
  const [application] = json['applications'] as { messages: Record<string, number>; deliveries: Record<string, number> }[]
  const { messages, deliveries } = application!
  return { messages, deliveries: Object.fromEntries(Object.entries(fresh.endpoints).map(([path, id]) => [path, deliveries[id]])) }
}

const keyOf = ({ path, headers }: Received) => `${path} ${headers['webhook-id']}`
const NOTHING = { '/all': 0, '/flaky': 0, '/fails': 0, '/events': 0, '/large': 0 }

test('a day that is restored into a fresh system is, row by row, what it was', async () => {
  const { code, json } = await run('restore', '--name', 'day', ...RANGE, '--json')
  assert.equal(code, 0)
  assert.deepEqual(json['rows'], { message: ALL, attempt: first.rows['attempt']!.length })
  assert.deepEqual(await textOf(fresh.pool, 'archive_day.message'), first.rows['message'])
  assert.deepEqual(await textOf(fresh.pool, 'archive_day.attempt'), first.rows['attempt'])
})

test('what is not there is refused before anything is written, each by its name', async () => {
  const refusals: [string[], RegExp][] = [
    [['--name', 'other'], /no messages in the schema archive_other: restore them first/],
    [['--name', 'day'], new RegExp(`no application ${first.app} here: make one and name it with --app ${first.app}=<id or uid>`)],
    [['--name', 'day', '--app', `${first.app}=nobody`], /no application nobody here/],
    [['--name', 'day', '--app', 'app_other=acme-again'], /archive_day has no message of app_other/],
    [['--name', 'day', '--app', `${first.app}=acme-again`, '--endpoint', 'nowhere'], /has no endpoint nowhere/],
    [['--name', 'day', '--endpoint', 'all'], /--endpoint is of one application/],
    [['--name', 'day', '--rate', '0'], /--rate 0: must be 1 to 1000/],
  ]
  for (const [args, problem] of refusals) {
    const { code, stderr } = await run('replay', ...args)
    assert.equal(code, 1)
    assert.match(stderr, problem)
  }
  assert.deepEqual(await textOf(fresh.pool, 'message'), [])
})

test('a dry run tells what would be sent, and writes nothing', async () => {
  const { json } = await replay('--dry-run')
  const { messages, deliveries } = told(json)
  assert.deepEqual([messages['new'], deliveries], [ALL, { '/all': ALL, '/flaky': INVOICES / 2, '/fails': 2, '/events': 1, '/large': 4 }])
  assert.deepEqual(await textOf(fresh.pool, 'message'), [])
  assert.deepEqual(await textOf(fresh.pool, 'outbox'), [])
})

test('a replay that is killed goes on where it was: each endpoint gets each message once, byte by byte as at first', async () => {
  const slow = command(['replay', '--name', 'day', '--app', `${first.app}=acme-again`, '--rate', '4'])
  await fresh.receiver.waitFor(6)
  slow.signal('SIGKILL')
  await slow.ended
  assert.ok(fresh.receiver.received.length < ALL)
  const { code, json } = await replay()
  assert.equal(code, 0)
  const { messages } = told(json)
  assert.ok(messages['there']! > 0 && messages['there']! + messages['new']! === ALL)
  const expected = ALL + INVOICES / 2 + 2 + 1 + 4
  await fresh.receiver.waitFor(expected)
  const originals = new Map(first.receiver.received.map((one) => [keyOf(one), one]))
  assert.deepEqual(fresh.receiver.received.map(keyOf).sort(), [...originals.keys()].sort())
  for (const again of fresh.receiver.received) {
    const original = originals.get(keyOf(again))!
    assert.ok(again.bytes.equals(original.bytes), keyOf(again))
    const names = new Set([...Object.keys(again.headers), ...Object.keys(original.headers)])
    const others = [...names].filter((name) => again.headers[name] !== original.headers[name])
    // Another receiver, another time, and another secret.
    assert.deepEqual(
      others.filter((name) => !['host', 'webhook-timestamp', 'webhook-signature'].includes(name)),
      [],
      keyOf(again),
    )
  }
  const shown = `SELECT (id, event_type, event_id, channels, payload, created_at, envelope, ordering_key, priority)::text AS text FROM`
  const texts = async (table: string) => (await fresh.pool.query<{ text: string }>(`${shown} ${table} ORDER BY id`)).rows
  assert.deepEqual(await texts('message'), await texts('archive_day.message'))
  const { data } = await fresh.service.svix.message.list(fresh.app, { channel: 'books' })
  assert.equal(data.length, INVOICES / 2)
  const { json: found } = await createCalls(fresh.service).call('GET', `/app/${fresh.app}/msg/invoice-3?with_content=true`)
  assert.equal((found['payload'] as { n: number }).n, 3, JSON.stringify(found))
})

test('repeated, under its own and under another name, it sends nothing', async () => {
  const before = fresh.receiver.received.length
  const { messages, deliveries } = told((await replay()).json)
  assert.deepEqual([messages['there'], deliveries], [ALL, NOTHING])
  assert.equal((await run('restore', '--name', 'again', ...RANGE, '--json')).code, 0)
  const attempted = async () =>
    (await fresh.pool.query<{ n: number }>('SELECT count(DISTINCT (message_id, endpoint_id)) AS n FROM attempt WHERE status = 0')).rows[0]!
      .n
  await eventually(attempted, (n) => n === before)
  const again = await run('replay', '--name', 'again', '--app', `${first.app}=${fresh.app}`, '--json')
  assert.deepEqual(told(again.json).deliveries, NOTHING)
  assert.equal(fresh.receiver.received.length, before)
})

test('an endpoint that came later gets what it takes, alone', async () => {
  const { id } = await fresh.service.svix.endpoint.create(fresh.app, {
    url: `${fresh.receiver.url}/later`,
    uid: 'later',
    channels: ['other'],
  })
  const before = fresh.receiver.received.length
  const { json } = await replay('--endpoint', 'later', '--rate', '1000')
  const [application] = json['applications'] as { deliveries: Record<string, number> }[]
  assert.deepEqual(application!.deliveries, { [id]: INVOICES / 2 })
  const all = await fresh.receiver.waitFor(before + INVOICES / 2)
  assert.ok(all.slice(before).every(({ path }) => path === '/later'))
})

test('a disabled endpoint is named, not left out', async () => {
  const { id } = await fresh.service.svix.endpoint.create(fresh.app, { url: `${fresh.receiver.url}/off`, uid: 'off', disabled: true })
  const { code, stderr } = await replay('--endpoint', 'off')
  assert.equal(code, 1)
  assert.match(stderr, /the endpoint off of app_\w+ is disabled: enable it first/)
  assert.deepEqual((await fresh.pool.query('SELECT FROM attempt WHERE endpoint_id = $1', [id])).rowCount, 0)
})
