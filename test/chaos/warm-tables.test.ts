import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { lowestIdAt } from '../../domain/ids.ts'
import { FAN_OUT_TASK_QUEUE } from '../../domain/names.ts'
import type { RetentionResult } from '../../domain/retention.ts'
import { watchLockWaits } from '../support/lock-waits.ts'
import { createTablespace } from '../support/tablespace.ts'
import { eventually } from './eventually.ts'
import { publishDuring } from './scenario.ts'
import { setStage, type Stage } from './stage.ts'

const DAY_MS = 86_400_000
const DAYS = 3
const ROWS_PER_DAY = 12_000
// A table takes some seconds, so that a worker dies while one is copied.
const ENV = { TIDINGS_WARM_TABLESPACE: 'warm', TIDINGS_WARM_MB_PER_SECOND: '4' }

let stage: Stage
let connection: Connection

before(async () => {
  stage = await setStage({ env: ENV })
  await createTablespace(stage.databaseUrl(), ENV.TIDINGS_WARM_TABLESPACE)
  connection = await Connection.connect({ address: stage.temporal.address })
})

afterEach(() => stage.endAll())

after(async () => {
  await connection.close()
  await stage.close()
})

async function fill(todayMs: number): Promise<void> {
  for (let day = 10; day < 10 + DAYS; day++) {
    const dayMs = todayMs - day * DAY_MS
    for (const parent of ['message', 'attempt'])
      await stage.pool.query('SELECT create_day($1, $2)', [parent, new Date(dayMs).toISOString().slice(0, 10)])
    await stage.pool.query(
      `INSERT INTO message (id, app_id, event_type, payload, created_at, expires_at)
       SELECT $1 || n, 'app_old', 'e', (SELECT string_agg(md5(n::text || i), '') FROM generate_series(1, 50) i), now(),
         now() + interval '60 days' FROM generate_series(1, $2) n`,
      [lowestIdAt('msg', dayMs), ROWS_PER_DAY],
    )
    await stage.pool.query(
      `INSERT INTO attempt (message_id, id, endpoint_id, app_id, event_type, url, status, response_code, response_body, duration_ms, trigger, group_id, run_id, created_at)
       SELECT $1 || n, $2 || n, 'ep_old', 'app_old', 'e', 'http://x', s, 0, repeat('answer ', 40), 0, 0, $1, gen_random_uuid(), now()
       FROM generate_series(1, $3) n, generate_series(0, 2, 2) s`,
      [lowestIdAt('msg', dayMs), lowestIdAt('atmpt', dayMs), ROWS_PER_DAY],
    )
  }
}

const ask = async <T extends object>(text: string) => (await stage.pool.query<T>(text)).rows

const contents = () =>
  ask(
    `SELECT (SELECT md5(string_agg(md5(m::text), '' ORDER BY id)) FROM message m WHERE app_id = 'app_old') AS messages,
      (SELECT count(*) FROM message WHERE app_id = 'app_old') AS rows,
      (SELECT md5(string_agg(md5(a::text), '' ORDER BY id, status)) FROM attempt a WHERE app_id = 'app_old') AS attempts`,
  )

const MOVES = 'SELECT day_table AS name, copied_pages AS copied, pages FROM day_move WHERE NOT swapped'

test('workers that are killed while tables are moved, under load: every row is there once, and nobody waits', async (t) => {
  await Promise.all([stage.startApi(), stage.startWorker('delivery')])
  let dispatcher = await stage.startWorker('dispatcher')
  await fill(Math.floor(Date.now() / DAY_MS) * DAY_MS)
  const before = await contents()
  const client = new Client({ connection, namespace: stage.temporal.namespace })
  await publishDuring(t, stage, 40, async () => {
    const watched = await watchLockWaits(stage.databaseUrl())
    const handle = await client.workflow.start('retention', { workflowId: 'retention/warm', taskQueue: FAN_OUT_TASK_QUEUE, args: [{}] })
    const hit: string[] = []
    for (let kill = 1; kill <= 2; kill++) {
      await eventually({ what: 'a table that is half copied', withinMs: 120_000 }, async () => {
        const found = (await ask<{ name: string; copied: number; pages: number }>(MOVES)).find(
          ({ name, copied, pages }) => copied > 0 && copied < pages && !hit.includes(name),
        )
        return found !== undefined && hit.push(found.name)
      })
      await stage.end(dispatcher, 'SIGKILL')
      assert.deepEqual(await contents(), before)
      dispatcher = await stage.startWorker('dispatcher')
    }
    const { warm } = (await handle.result()) as RetentionResult
    const waits = await watched()
    t.diagnostic(`killed while ${hit.join(', ')} were copied; waits for locks: ${JSON.stringify(waits)}`)
    assert.deepEqual(warm!.left, {})
    assert.equal(new Set(warm!.moved).size, 3 * DAYS)
    assert.ok(waits.longestMs < 100, `${waits.longestMs} ms`)
  })
  assert.deepEqual(await contents(), before)
  const places = await ask(
    `SELECT c.relname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace AND t.spcname = 'warm'
     WHERE c.relkind = 'r' AND c.relname ~ '^(message|attempt)_'`,
  )
  assert.equal(places.length, 3 * DAYS)
  assert.deepEqual(
    await ask(
      `SELECT relname FROM pg_class WHERE relname ~ '^(message|attempt)_.*_(copy|moved)$' UNION ALL SELECT day_table FROM day_move`,
    ),
    [],
  )
})
