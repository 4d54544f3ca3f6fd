import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import { findTask, insertTask } from '../../storage/background-tasks.ts'
import { eraseSome, readErased } from '../../storage/erasure.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { claimRows } from '../../storage/outbox.ts'
import { createRecorder } from '../../storage/recorder.ts'
import { rollUp } from '../../storage/rollups.ts'
import { createStorage, newMessage, newMessages, newRecord, type Storage } from './rows.ts'

let storage: Storage

before(async () => {
  storage = await createStorage()
})
afterEach(() =>
  storage.pool.query('TRUNCATE application, attempt, delivery, message, message_event_id, outbox, endpoint, background_task CASCADE'),
)
after(() => storage.drop())

const ERASED = 'app_erased'
const KEPT = 'app_kept'
const orgId = newId('org')

async function fill(appId: string, messages: number): Promise<string[]> {
  const { pool } = storage
  await pool.query('INSERT INTO application (id, org_id, name) VALUES ($1, $2, $1)', [appId, orgId])
  const endpointId = `ep_${appId}`
  await pool.query(`INSERT INTO endpoint (id, app_id, url) VALUES ($1, $2, 'https://example.com')`, [endpointId, appId])
  await pool.query('INSERT INTO endpoint_secret (endpoint_id, secret_cipher) VALUES ($1, $2)', [endpointId, Buffer.from('x')])
  const stored = [...newMessages(messages - 1, { appId }), newMessage({ appId, eventId: `order-${appId}` })]
  await acceptMessages(pool, stored, false, 0)
  const recorder = createRecorder({ pool, onWake: () => undefined })
  const parked = { state: 'parked', attempts: 1, nextAtMs: Date.now() + 60_000 } as const
  await Promise.all(stored.map(({ id }) => recorder.record(newRecord(parked, { appId, endpointId, messageId: id }))))
  return stored.map((message) => message.id)
}

async function begin(): Promise<string> {
  const id = newId('qtask')
  await insertTask(storage.pool, { id, orgId, appId: ERASED, task: 'application.erase', input: { applicationId: ERASED } })
  return id
}

/** Runs the first pass to its end. @returns how many steps */
async function erase(taskId: string): Promise<number> {
  for (let steps = 1; ; steps++) {
    const step = await eraseSome(storage.pool, taskId, { applicationId: ERASED })
    assert.equal(step.done, false)
    if (step.waitMs !== undefined) return steps
  }
}

const TABLES = ['application', 'endpoint', 'endpoint_secret', 'message', 'message_event_id', 'attempt', 'delivery', 'mailbox', 'outbox']

/** Rows of each table that name the application in any way. */
async function left(appId: string): Promise<Record<string, number>> {
  const found: Record<string, number> = {}
  for (const table of TABLES) {
    const { rows } = await storage.pool.query<{ count: number }>(`SELECT count(*) AS count FROM ${table} t WHERE t::text LIKE $1`, [
      `%${appId}%`,
    ])
    if (rows[0]!.count > 0) found[table] = rows[0]!.count
  }
  return found
}

test('an erasure leaves nothing of an application, in bounded batches, and nothing of another is touched', async () => {
  const messages = LIMITS.erasureBatch + 1
  const ids = await fill(ERASED, messages)
  await fill(KEPT, 2)
  const before = await left(KEPT)
  const taskId = await begin()
  assert.ok((await erase(taskId)) >= 3)
  assert.deepEqual(await left(ERASED), {})
  assert.deepEqual(await left(KEPT), before)
  assert.deepEqual(await readErased(storage.pool, [...ids, 'msg_other']), new Set(ids))
  const task = await findTask(storage.pool, taskId, { orgId })
  assert.deepEqual([task?.status, task?.data], ['finished', { messages, attempts: messages, deliveries: messages, endpoints: 1 }])
})

test('what was recorded or accepted during the erasure goes with its last pass', async () => {
  const [messageId = ''] = await fill(ERASED, 1)
  const taskId = await begin()
  await erase(taskId)
  const recorder = createRecorder({ pool: storage.pool, onWake: () => undefined })
  await acceptMessages(storage.pool, [newMessage({ appId: ERASED })], false, 0)
  await recorder.record(newRecord({ state: 'dead', attempts: 1 }, { appId: ERASED, endpointId: `ep_${ERASED}`, messageId }))
  await storage.pool.query("UPDATE background_task SET updated_at = updated_at - interval '2 minutes' WHERE id = $1", [taskId])
  let done = false
  while (!done) ({ done } = await eraseSome(storage.pool, taskId, { applicationId: ERASED }))
  assert.deepEqual(await left(ERASED), {})
})

const rolledUp = async (appId: string) => {
  const tables = ['rollup_minute', 'rollup_hour', 'rollup_day']
  const { rows } = await storage.pool.query<{ count: number }>(
    tables.map((table) => `SELECT count(*) AS count FROM ${table} WHERE of_id IN ($1, 'ep_' || $1)`).join(' UNION ALL '),
    [appId],
  )
  return rows.map(({ count }) => count)
}

test('rollups of an application and of its endpoints go with it, also what a turn writes meanwhile', async () => {
  const { pool } = storage
  await fill(ERASED, 2)
  await fill(KEPT, 2)
  const later = Date.now() + 2 * 86_400_000
  while ((await rollUp(pool, later)) !== undefined);
  const before = await rolledUp(KEPT)
  assert.deepEqual(await rolledUp(ERASED), before)
  assert.ok(before.every((count) => count >= 2))
  // A turn that has counted attempts before they went, and is not committed.
  const turn = await pool.connect()
  await turn.query('BEGIN')
  await turn.query('SELECT FROM rollup_progress FOR UPDATE')
  await turn.query(
    `INSERT INTO rollup_minute (of_id, at, attempts, delivered, failed, duration_ms, durations) SELECT $1, at + interval '1 minute', 1, 1, 0, 1, durations
     FROM rollup_minute WHERE of_id = $1 ORDER BY at DESC LIMIT 1`,
    [ERASED],
  )
  const erasing = erase(await begin())
  assert.equal(await Promise.race([erasing, new Promise((resolve) => setTimeout(resolve, 300, 'waits'))]), 'waits')
  await turn.query('COMMIT')
  turn.release()
  await erasing
  assert.deepEqual(await rolledUp(ERASED), [0, 0, 0])
  assert.deepEqual(await rolledUp(KEPT), before)
})

test('a group that shares a message with another application keeps its rows', async () => {
  await fill(KEPT, 1)
  await fill(ERASED, 1)
  const { rows } = await storage.pool.query<{ id: string }>('SELECT id FROM outbox')
  await claimRows(
    storage.pool,
    rows.map((row) => row.id),
    60_000,
  )
  await erase(await begin())
  const { rowCount } = await storage.pool.query('SELECT FROM outbox')
  assert.equal(rowCount, 2)
})
