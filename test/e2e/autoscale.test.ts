import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import pino from 'pino'
import { readConfig } from '../../config/index.ts'
import type { AutoscaleView } from '../../domain/autoscale.ts'
import { newId } from '../../domain/ids.ts'
import { AUTOSCALE_TASK_QUEUE, FAN_OUT_TASK_QUEUE } from '../../domain/names.ts'
import { usePartitions } from '../../storage/partition-numbers.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { readDecisions } from '../../storage/scaling.ts'
import { startAutoscaler, type Autoscaler } from '../../workers/autoscaler.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { startTestTemporal, type TestTemporal } from '../support/temporal.ts'
import { temporalCli } from '../support/temporal-cli.ts'
import { eventually } from '../support/eventually.ts'
import { spawnScript } from '../support/processes.ts'

// An interval of 150 ms; depth or utilisation 3 s, idle 9 s, cooldowns 600 ms and 3 s.
const ENVIRONMENT = { TIDINGS_AUTOSCALE_TIME_SCALE: '0.01', TIDINGS_AUTOSCALE_UP_DEPTH: '100', TIDINGS_AUTOSCALE_DOWN_DEPTH: '10' }
const POOL = 'workers'

/** Workers that are a number: what is asked of a target is what this test is about. */
function createTarget(wanted: number) {
  const asked: number[] = []
  let broken = false
  return {
    name: 'test',
    asked,
    breaks: (breaks: boolean) => void (broken = breaks),
    read: () => (broken ? Promise.reject(new Error('it is away')) : Promise.resolve({ wanted, ready: wanted })),
    scaleTo(workers: number) {
      if (broken) return Promise.reject(new Error('it is away'))
      asked.push(workers)
      wanted = workers
      return Promise.resolve()
    },
  }
}

let database: TestDatabase
let temporal: TestTemporal
let pool: Pool
let connection: Connection
let autoscaler: Autoscaler
let client: Client
const target = createTarget(2)

const start = async () =>
  startAutoscaler(
    readConfig({
      DATABASE_URL: database.url,
      TEMPORAL_ADDRESS: temporal.address,
      TEMPORAL_NAMESPACE: temporal.namespace,
      ...ENVIRONMENT,
    }),
    { target, pool: POOL, min: 1, max: 5, log: pino({ level: 'silent' }) },
  )

before(async () => {
  ;[database, temporal] = await Promise.all([createTestDatabase(), startTestTemporal()])
  pool = createPool(database.url, 2)
  connection = await Connection.connect({ address: temporal.address })
  client = new Client({ connection, namespace: temporal.namespace })
  autoscaler = await start()
})

after(async () => {
  await autoscaler.stop()
  await connection.close()
  await pool.end()
  await database.drop()
})

const handle = () => client.workflow.getHandle(autoscaler.workflowId)
const view = () => handle().query<AutoscaleView>('state')
const decisions = () => readDecisions(pool, POOL, 100)
const seen = (is: (one: AutoscaleView) => boolean) => eventually(view, is, 30_000)

async function waiting(messages: number): Promise<void> {
  await pool.query('TRUNCATE outbox')
  await pool.query(
    `INSERT INTO outbox (id, message_id, app_id, event_type) SELECT $2 || n, $2 || n, 'app_1', 'invoice.paid' FROM generate_series(1, $1::int) n`,
    [messages, newId('msg')],
  )
}

test('it looks, holds, and says why', async () => {
  const { sample, decisions: made } = await seen((one) => one.sample !== null && one.decisions.length > 0)
  assert.ok(sample !== null && 'depth' in sample)
  assert.deepEqual([sample.workers, sample.depth, sample.utilisation], [2, 0, null])
  assert.deepEqual([made[0]?.action, made[0]?.rule], ['hold', 'steady'])
})

test('under a backlog that lasts it goes up to the most allowed, and keeps each step with its reason', async () => {
  await waiting(500)
  await seen((one) => one.state.workers === 5)
  assert.deepEqual(target.asked, [3, 4, 5])
  const ups = (await eventually(decisions, (all) => all.filter(({ action }) => action === 'up').length === 3)).filter(
    ({ action }) => action === 'up',
  )
  assert.deepEqual(ups.map(({ from, to, rule }) => [from, to, rule]).reverse(), [
    [2, 3, 'depth'],
    [3, 4, 'depth'],
    [4, 5, 'depth'],
  ])
  assert.match(ups[0]!.reason, /^500 wait, over 100, for /)
  const [first, second] = [ups[2]!, ups[1]!]
  assert.ok(second.atMs - first.atMs >= 600, 'not within the cooldown')
  const held = await eventually(decisions, (all) => all[0]?.rule === 'limits')
  assert.match(held[0]!.reason, /5 workers are the most allowed$/)
})

test('each sample is a row', async () => {
  const { rows } = await pool.query<{ workers: number; depth: number }>(
    'SELECT workers, depth FROM scaling_sample WHERE pool = $1 ORDER BY at',
    [POOL],
  )
  for (const size of [2, 3, 4, 5])
    assert.ok(
      rows.some(({ workers, depth }) => workers === size && depth === 500),
      `${size} workers`,
    )
})

test('an operator sets the number of workers with the temporal command, and clears it', async () => {
  const signal = (name: string, input?: object) =>
    temporalCli(
      temporal,
      'workflow',
      'signal',
      '-w',
      autoscaler.workflowId,
      '--name',
      name,
      ...(input === undefined ? [] : ['--input', JSON.stringify(input)]),
    )
  await signal('override', { workers: 2 })
  await seen((one) => one.state.workers === 2)
  assert.equal(target.asked.at(-1), 2)
  await signal('override', { workers: 99 })
  assert.match((await seen((one) => one.refused !== undefined)).refused!, /"workers":99.*from 0 to 5/)
  await signal('pause')
  await signal('clear')
  await seen((one) => one.control.override === null && one.decisions[0]?.rule === 'paused')
  const asked = target.asked.length
  // 500 wait all the time: without the pause it would have gone up by now.
  await seen(
    (one) =>
      one.state.deepSinceMs !== null &&
      one.sample!.atMs - one.state.deepSinceMs > 4000 &&
      one.state.scaledDownAtMs !== null &&
      one.sample!.atMs - one.state.scaledDownAtMs > 4000,
  )
  assert.equal(target.asked.length, asked)
  await signal('resume')
  await seen((one) => one.state.workers === 3)
})

test('the command shows, sets and clears, and refuses what makes no sense', async () => {
  const command = async (...args: string[]) => {
    const env = { DATABASE_URL: database.url, TEMPORAL_ADDRESS: temporal.address, TEMPORAL_NAMESPACE: temporal.namespace }
    const running = spawnScript('cli/autoscale.ts', args, { env })
    const code = await running.ended
    return { code, out: running.stdout(), problem: running.stderr() }
  }
  const shown = JSON.parse((await command('status', '--json')).out) as AutoscaleView
  assert.deepEqual([shown.pool, shown.target, shown.rules.max], [POOL, 'test', 5])
  assert.match((await command('status')).out, /^pool workers at the target test: \d workers? \(1 to 5\)\nat .*\n.*\n\n20/)
  // Fewer than there are: under this backlog the rules themselves would go to any more.
  assert.equal((await command('set', '2', '--for', '1h')).code, 0)
  const { control } = await seen((one) => one.state.workers === 2)
  assert.ok(control.override!.untilMs! > Date.now() + 3_500_000)
  assert.match((await command('decisions')).out, /-> 2 +override +2 workers by an operator until 20/)
  await command('clear')
  await seen((one) => one.control.override === null)
  for (const [args, problem] of [
    [['set', '6'], /set 6: must be a whole number from 0 to 5/],
    [['set', '3', '--for', 'ever'], /--for ever: must be a time/],
    [['status', '--pool', 'none'], /no answer from autoscale\/none/],
    [['grow'], /"grow" is no command/],
    [['run', '--target', 'nowhere'], /--target "nowhere": must be one of/],
  ] as const) {
    const refused = await command(...args)
    assert.equal(refused.code, 1)
    assert.match(refused.problem, problem)
  }
})

test('an override for a time ends by itself', async () => {
  await handle().signal('override', { workers: 1, until: new Date(Date.now() + 1500).toISOString() })
  await seen((one) => one.state.workers === 1)
  await seen((one) => one.control.override === null)
})

test('what cannot be seen or told breaks no promise: it holds, says so, and goes on when it can', async () => {
  target.breaks(true)
  const broken = await seen((one) => one.decisions[0]?.rule === 'no-sample')
  assert.equal(broken.decisions[0]!.reason, 'no sample: the target test could not be asked')
  assert.equal(broken.state.deepSinceMs, null)
  target.breaks(false)
  await seen((one) => one.decisions[0]?.rule !== 'no-sample')
})

test('another process takes over where the one before was, with its settings', async () => {
  await handle().signal('pause')
  const earlier = await seen((one) => one.decisions[0]?.rule === 'paused')
  await autoscaler.stop()
  autoscaler = await start()
  const later = await seen((one) => one.sample!.atMs > earlier.sample!.atMs)
  assert.equal(later.control.paused, true)
  assert.equal(later.state.workers, earlier.state.workers)
  assert.ok(later.decisions.length >= earlier.decisions.length)
  await handle().signal('resume')
})

test('the Web UI shows decisions: in the details, and with each change', async () => {
  const { workflowExecution } = await handle()
    .describe()
    .then(({ raw }) => ({ workflowExecution: raw.workflowExecutionInfo }))
  assert.equal(workflowExecution?.type?.name, 'autoscale')
  const metadata = await handle().query<{ currentDetails?: string }>('__temporal_workflow_metadata')
  assert.match(metadata.currentDetails ?? '', /\| up \| 2 to 3 \| depth \| 500 wait, over 100/)
  const { events } = await handle().fetchHistory()
  const summaries = (events ?? []).map(({ userMetadata }) => Buffer.from(userMetadata?.summary?.data ?? []).toString())
  assert.ok(summaries.some((text) => /up 2 to 3, depth: 500 wait/.test(text)))
})

test('tasks that wait in the queues of fan-outs and of deliveries count', async () => {
  const start = (type: string, workflowId: string, taskQueue: string, input: object) =>
    client.workflow.start(type, { workflowId, taskQueue, args: [input] })
  await usePartitions(pool, 2)
  // Nobody serves the queue of fan-outs here; the mailbox's workflow is served, and its activity is not.
  for (let i = 0; i < 3; i++) await start('fanOut', `waits/${i}`, FAN_OUT_TASK_QUEUE, {})
  await start('mailbox', 'waits/mailbox', AUTOSCALE_TASK_QUEUE, { endpointId: 'ep_1', partition: 1, wakeAtMs: 0 })
  const { sample } = await seen((one) => one.sample !== null && 'depth' in one.sample && one.sample.depth === 504)
  assert.ok(sample !== null && 'depth' in sample && sample.oldestMs > 0)
  for (const id of ['0', '1', '2', 'mailbox']) await client.workflow.getHandle(`waits/${id}`).terminate()
})
