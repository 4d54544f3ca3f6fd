import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { deleteGroup } from '../../storage/outbox.ts'
import type { Pool } from '../../storage/pool.ts'
import { createRecorder } from '../../storage/recorder.ts'
import { storeTogether } from '../../storage/scheduled.ts'
import { acceptReturned, readUnreplicated } from '../../storage/unreplicated.ts'
import { count, createStorage, newMessage, newRecord, type Storage } from './rows.ts'

const APP = 'app_1'
const NOBODY: ReadonlySet<string> = new Set()

let old: Storage
let current: Storage
before(async () => {
  old = await createStorage(2)
  current = await createStorage(2)
  for (const { pool } of [old, current]) {
    await pool.query(`INSERT INTO application (id, org_id, name) VALUES ('app_1', 'org_1', 'shop')`)
    for (const id of ['ep_1', 'ep_2'])
      await pool.query(
        `INSERT INTO endpoint (id, app_id, url, created_at, updated_at) VALUES ($1, 'app_1', 'https://example.com', now() - interval '1 hour', now())`,
        [id],
      )
  }
})
after(async () => {
  await old.drop()
  await current.drop()
})

let lastMs = Date.now()

/** At the lost primary, whose fan-out was begun. */
async function accepted(pool: Pool, changes: Parameters<typeof newMessage>[0] = {}): Promise<string> {
  lastMs += 10
  const message = newMessage({ appId: APP, id: newId('msg', lastMs), ...changes })
  const { groupId } = await acceptMessages(pool, [message], true, 1000)
  await deleteGroup(pool, groupId!)
  return message.id
}

async function recorded(messageId: string, endpointId: string, change: Parameters<typeof newRecord>[0]): Promise<void> {
  const recorder = createRecorder({ pool: old.pool, onWake: () => undefined })
  await recorder.record(newRecord(change, { appId: APP, messageId, endpointId }))
}

test('what is missing is told apart from what was published again, erased, or is of no application any more', async () => {
  const missing = await accepted(old.pool)
  const known = await accepted(old.pool, { eventId: 'order-1' })
  await accepted(current.pool, { eventId: 'order-1' })
  const gone = await accepted(old.pool, { appId: 'app_erased' })
  const erased = await accepted(old.pool)
  await current.pool.query('INSERT INTO erased_message (id) VALUES ($1)', [erased])
  const both = await accepted(old.pool)
  await accepted(current.pool, { id: both })
  const page = await readUnreplicated(old.pool, current.pool, 'msg_0')
  assert.deepEqual(
    page.found.map((one) => [one.messageId, one.state]),
    [
      [missing, 'missing'],
      [known, 'known'],
      [gone, 'gone'],
    ],
  )
  assert.equal(page.compared, 5)
  assert.deepEqual(await readUnreplicated(old.pool, current.pool, page.lastId!), { compared: 0, found: [], lastId: undefined })
})

test('a message that returns has its past, and the rest of its deliveries in the outbox, once', async () => {
  const delivered = await accepted(old.pool, { eventId: 'order-2' })
  await recorded(delivered, 'ep_1', { state: 'delivered', hadRow: false })
  const waiting = await accepted(old.pool)
  await recorded(waiting, 'ep_1', { state: 'retrying', attempts: 2, nextAtMs: Date.now() + 60_000 })
  await recorded(waiting, 'ep_2', { state: 'dead', attempts: 3 })
  const unknown = await accepted(old.pool)
  const carried = await accepted(old.pool)
  await recorded(carried, 'ep_1', { state: 'retrying', attempts: 1, nextAtMs: Date.now() + 60_000 })
  const scheduled = newMessage({ appId: APP, deliverAtMs: Date.now() + 60_000 })
  await storeTogether(old.pool, [scheduled])

  const ids = [delivered, waiting, unknown, carried, scheduled.id]
  const how = { carried: new Set([carried]), request: 'returned' }
  assert.deepEqual(await acceptReturned(old.pool, current.pool, ids, how), { accepted: 5, put: 3 })
  // Of its attempts the minutes are rolled up again.
  const late = await current.pool.query(
    `SELECT FROM rollup_late l WHERE EXISTS (SELECT FROM attempt a WHERE date_trunc('minute', a.created_at) = l.minute)`,
  )
  assert.ok(late.rowCount! >= 1)
  const { rows } = await current.pool.query<{ id: string }>(`SELECT id FROM outbox WHERE id LIKE '%returned' ORDER BY id`)
  assert.deepEqual(
    rows.map((row) => row.id),
    [`${delivered}/ep_2/returned`, `${unknown}/ep_1/returned`, `${unknown}/ep_2/returned`],
  )
  const states = await current.pool.query<{ message_id: string; state: string; attempts: number }>(
    'SELECT message_id, state, attempts FROM delivery WHERE message_id = ANY($1::text[]) ORDER BY message_id, endpoint_id',
    [ids],
  )
  assert.deepEqual(
    states.rows.map((row) => [row.message_id, row.state, row.attempts]),
    [
      [waiting, 'parked', 2],
      [waiting, 'dead', 3],
      [carried, 'retrying', 1],
    ],
  )
  assert.equal(await count(current.pool, 'attempt', `message_id = '${delivered}' AND status = 0`), 1)
  assert.equal(await count(current.pool, 'message_event_id', `message_id = '${delivered}'`), 1)
  const timed = await current.pool.query('SELECT message_id FROM scheduled_message')
  assert.deepEqual(timed.rows, [{ message_id: scheduled.id }])
  const original = await old.pool.query('SELECT * FROM message WHERE id = ANY($1::text[]) ORDER BY id', [ids])
  const copy = await current.pool.query('SELECT * FROM message WHERE id = ANY($1::text[]) ORDER BY id', [ids])
  assert.deepEqual(copy.rows, original.rows)

  assert.deepEqual(await acceptReturned(old.pool, current.pool, ids, how), { accepted: 0, put: 0 })
  assert.deepEqual(await acceptReturned(old.pool, current.pool, ids, { carried: NOBODY, request: 'again' }), { accepted: 0, put: 0 })
})
