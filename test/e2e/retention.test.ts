import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Client, Connection, type ScheduleHandle } from '@temporalio/client'
import { FAN_OUT_TASK_QUEUE, RETENTION_SCHEDULE_ID } from '../../domain/names.ts'
import type { RetentionResult } from '../../domain/retention.ts'
import { listDayTables } from '../../storage/partitions.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createCalls, numbers } from '../support/calls.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

const DAY_MS = 86_400_000
const todayMs = Math.floor(Date.now() / DAY_MS) * DAY_MS

let service: TestService
let receiver: Receiver
let connection: Connection
let client: Client
let schedule: ScheduleHandle
let pool: Pool

before(async () => {
  receiver = await startReceiver()
  service = await startTestService({})
  connection = await Connection.connect({ address: service.temporal.address })
  client = new Client({ connection, namespace: service.temporal.namespace })
  schedule = client.schedule.getHandle(RETENTION_SCHEDULE_ID)
  pool = createPool(service.database.url, 2)
})

after(async () => {
  await pool?.end()
  await connection?.close()
  await service?.stop()
  await receiver?.close()
})

test('a schedule that operators see and can pause runs it every hour', async () => {
  const described = await eventually(
    () => schedule.describe().catch(() => undefined),
    (found) => found !== undefined,
  )
  assert.equal(described!.spec.intervals?.[0]?.every, 3_600_000)
  assert.equal(described!.state.paused, false)
  assert.equal(described!.action.type === 'startWorkflow' && described!.action.workflowType, 'retention')
  await pool.query(`SELECT create_day('message', '2025-01-01')`)
  await schedule.trigger()
  await eventually(
    async () => (await listDayTables(pool)).map(({ name }) => name),
    (names) => !names.includes('message_20250101'),
  )
  const { info } = await schedule.describe()
  assert.equal(info.recentActions.length, 1)
})

test('while messages are accepted and delivered tables are made and dropped, and every message is where it belongs', async () => {
  const calls = createCalls(service)
  const { app } = await calls.endpointWith(`${receiver.url}/kept`, {})
  await pool.query(
    `SELECT create_day(p, d::date) FROM unnest(ARRAY['message', 'attempt']) p, generate_series('2025-01-01'::date, '2025-01-20', '1 day') d`,
  )
  const results: RetentionResult[] = []
  let stopped = false
  const running = (async () => {
    for (let day = 0; !stopped || day < 3; day++) {
      const input = { atMs: todayMs + day * DAY_MS }
      results.push(
        (await client.workflow.execute('retention', {
          workflowId: `retention/${day}`,
          taskQueue: FAN_OUT_TASK_QUEUE,
          args: [input],
        })) as RetentionResult,
      )
    }
  })()
  const published: string[] = []
  for (let round = 0; round < 20; round++) published.push(...(await calls.publishTogether(app, numbers(20, round * 20))))
  await receiver.waitFor(published.length, { matches: ({ path }) => path === '/kept' })
  stopped = true
  await running
  assert.equal(results[0]!.dropped.length, 40)
  assert.equal(results[1]!.created, 5)
  const rows = async (text: string) => (await pool.query<{ id: string }>(text)).rows.map(({ id }) => id)
  await eventually(
    async () =>
      new Set(await rows(`SELECT message_id AS id FROM attempt WHERE endpoint_id IN (SELECT id FROM endpoint WHERE app_id = '${app}')`))
        .size,
    (attempted) => attempted === published.length,
  )
  assert.deepEqual(new Set(await rows(`SELECT id FROM message WHERE app_id = '${app}'`)), new Set(published))
})
