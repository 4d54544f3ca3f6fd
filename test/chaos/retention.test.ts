import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { FAN_OUT_TASK_QUEUE } from '../../domain/names.ts'
import type { RetentionResult } from '../../domain/retention.ts'
import { listDayTables } from '../../storage/partitions.ts'
import { eventually } from './eventually.ts'
import { DAY_MS, fillOldDays } from './old-days.ts'
import { publishDuring } from './scenario.ts'
import { setStage, type Stage } from './stage.ts'

/** Days of which nothing is kept, and days of which everything is but what succeeded. */
const OLD_DAYS = 24
const KEPT_DAYS = 8
const ROWS_PER_DAY = 500
const KILLS = 2

let stage: Stage
let connection: Connection

before(async () => {
  stage = await setStage()
  connection = await Connection.connect({ address: stage.temporal.address })
})

afterEach(() => stage.endAll())

after(async () => {
  await connection.close()
  await stage.close()
})

const rows = async (text: string) =>
  (await stage.pool.query<{ count: number }>(`SELECT count(*) AS count FROM ${text} AND app_id = 'app_old'`)).rows[0]!.count

test('workers that are killed while tables are dropped, under load: what is to go goes, all else stays', async (t) => {
  await Promise.all([stage.startApi(), stage.startWorker('delivery')])
  let dispatcher = await stage.startWorker('dispatcher')
  const todayMs = Math.floor(Date.now() / DAY_MS) * DAY_MS
  await fillOldDays(stage.pool, { todayMs, fromDay: 92, days: OLD_DAYS, rowsPerDay: ROWS_PER_DAY })
  await fillOldDays(stage.pool, { todayMs, fromDay: 40, days: KEPT_DAYS, rowsPerDay: ROWS_PER_DAY })
  const before = { messages: await rows('message WHERE true'), attempts: await rows('attempt WHERE true') }
  const days = OLD_DAYS + KEPT_DAYS
  assert.deepEqual(before, { messages: days * ROWS_PER_DAY, attempts: 2 * days * ROWS_PER_DAY })
  const client = new Client({ connection, namespace: stage.temporal.namespace })
  await publishDuring(t, stage, 40, async () => {
    const handle = await client.workflow.start('retention', { workflowId: 'retention/killed', taskQueue: FAN_OUT_TASK_QUEUE, args: [{}] })
    const left = async () => (await listDayTables(stage.pool)).length
    for (let kill = 1; kill <= KILLS; kill++) {
      const wanted = (await left()) - 8
      await eventually({ what: 'tables to go', withinMs: 120_000 }, async () => (await left()) <= wanted)
      await stage.end(dispatcher, 'SIGKILL')
      dispatcher = await stage.startWorker('dispatcher')
    }
    const { dropped, kept } = (await handle.result()) as RetentionResult
    assert.equal(new Set(dropped).size, 2 * OLD_DAYS + KEPT_DAYS)
    assert.deepEqual(kept, {})
  })
  assert.equal(await rows('message WHERE true'), KEPT_DAYS * ROWS_PER_DAY)
  assert.equal(await rows('attempt WHERE status = 0'), 0)
  assert.equal(await rows('attempt WHERE status <> 0'), KEPT_DAYS * ROWS_PER_DAY)
})
