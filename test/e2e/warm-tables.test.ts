import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import { Client, Connection, WorkflowFailedError } from '@temporalio/client'
import { ActivityFailure } from '@temporalio/common'
import { FAN_OUT_TASK_QUEUE } from '../../domain/names.ts'
import type { RetentionResult } from '../../domain/retention.ts'
import { listDayTables } from '../../storage/partitions.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { placeDayTables } from '../../storage/warm-tables.ts'
import { startTestService, type TestService } from '../support/service.ts'
import { createTablespace, type TestTablespace } from '../support/tablespace.ts'

const DAY_MS = 86_400_000
const name = `warm_${randomBytes(4).toString('hex')}`
const dayOf = (days: number) => new Date(Date.now() - days * DAY_MS).toISOString().slice(0, 10)

let service: TestService
let connection: Connection
let client: Client
let pool: Pool
let tablespace: TestTablespace | undefined

before(async () => {
  service = await startTestService({ env: { TIDINGS_WARM_TABLESPACE: name, TIDINGS_HOT_DAYS: '3' } })
  connection = await Connection.connect({ address: service.temporal.address })
  client = new Client({ connection, namespace: service.temporal.namespace })
  pool = createPool(service.database.url, 2)
})

after(async () => {
  await pool?.end()
  await connection?.close()
  await service?.stop()
  await tablespace?.drop()
})

const run = (id: string) => {
  const options = { workflowId: `retention/${id}`, taskQueue: FAN_OUT_TASK_QUEUE, args: [{}] }
  return client.workflow.execute('retention', options) as Promise<RetentionResult>
}

test('a run whose tablespace is not there does all else, and fails with its name', async () => {
  for (const parent of ['message', 'attempt']) await pool.query('SELECT create_day($1, $2)', [parent, dayOf(4)])
  await pool.query(`SELECT create_day('message', '2025-01-01')`)
  const failed = (error: unknown) =>
    error instanceof WorkflowFailedError &&
    error.cause instanceof ActivityFailure &&
    error.cause.cause?.message === `the tablespace "${name}" of TIDINGS_WARM_TABLESPACE is not there: CREATE TABLESPACE`
  await assert.rejects(run('failing'), failed)
  assert.ok(!(await listDayTables(pool)).some((table) => table.name === 'message_20250101'))
})

test('a run moves the tables of days that are over for as long as it is told, and says which', async () => {
  tablespace = await createTablespace(service.database.url, name)
  await pool.query(`SELECT create_day('message', $1)`, [dayOf(3)])
  const { warm } = await run('moving')
  const day = dayOf(4).replaceAll('-', '')
  assert.deepEqual(warm, { moved: [`attempt_${day}_delivered`, `attempt_${day}_failed`, `message_${day}`], left: {} })
  const there = (await placeDayTables(pool)).filter((table) => table.tablespace === name).map((table) => table.name)
  assert.deepEqual(there.toSorted(), warm.moved)
  assert.deepEqual((await run('again')).warm, { moved: [], left: {} })
})
