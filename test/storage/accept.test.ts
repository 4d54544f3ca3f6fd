import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import type { NewMessage } from '../../domain/message.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { createMessageCache, readMessages } from '../../storage/messages.ts'
import { deleteGroup } from '../../storage/outbox.ts'
import { count, createStorage, newMessage, newMessages, type Storage } from './rows.ts'

let storage: Storage

before(async () => {
  storage = await createStorage(12)
})

afterEach(() => storage.pool.query('TRUNCATE message, message_event_id, outbox, idempotency_key, delivery, mailbox'))
after(() => storage.drop())

const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1)

async function outbox() {
  const { rows } = await storage.pool.query<{ id: string; group_id: string | null; leased: boolean | null }>(
    'SELECT id, group_id, leased_until > now() AS leased FROM outbox ORDER BY id',
  )
  return rows
}

test('messages and their outbox rows are stored, as one group that is leased to who stored them', async () => {
  const messages = newMessages(5)
  const result = await acceptMessages(storage.pool, messages, true, 10_000)
  assert.deepEqual([...result.accepted].sort(), messages.map((one) => one.id).sort())
  assert.equal(result.groupId, messages[0]!.id)
  for (const row of await outbox()) assert.deepEqual([row.group_id, row.leased], [messages[0]!.id, true])
})

test('without a group the rows wait for whoever claims them', async () => {
  const result = await acceptMessages(storage.pool, newMessages(3), false, 10_000)
  assert.equal(result.groupId, undefined)
  for (const row of await outbox()) assert.deepEqual([row.group_id, row.leased], [null, null])
})

/** Accepts messages of which those at `routed` go to one queue and nowhere else. */
async function acceptRouted(messages: readonly NewMessage[], routed: readonly number[], grouped = true) {
  const places = routed.map((i) => ({ messageId: messages[i]!.id, endpointId: 'ep_queued', eager: true }))
  return acceptMessages(storage.pool, messages, grouped, 10_000, { places, routed: new Set(places.map((one) => one.messageId)) })
}

test('of a commit all, some or none need a fan-out: the group is of those that do, and the others are in their queue', async () => {
  for (const routed of [[], [0], [2], [0, 1], [0, 1, 2]]) {
    await storage.pool.query('TRUNCATE outbox, delivery')
    const messages = newMessages(3)
    const needing = messages.filter((_, i) => !routed.includes(i)).map((one) => one.id)
    const result = await acceptRouted(messages, routed)
    assert.equal(result.accepted.size, 3)
    assert.deepEqual(result.fannedOut, new Set(needing))
    assert.equal(result.groupId, needing[0])
    const rows = needing.map((id) => ({ id, group_id: needing[0], leased: true }))
    assert.deepEqual(await outbox(), rows.toSorted(byId))
    const { rows: waiting } = await storage.pool.query('SELECT message_id AS id, group_id FROM delivery')
    const placed = routed.map((i) => ({ id: messages[i]!.id, group_id: 'mailbox/ep_queued' }))
    assert.deepEqual(waiting.toSorted(byId), placed.toSorted(byId))
  }
})

test('a message with an idempotency key that goes to a queue alone needs no fan-out', async () => {
  const messages = [newMessage({ idempotencyKey: 'routed' }), newMessage()]
  const result = await acceptRouted(messages, [0], false)
  assert.deepEqual([result.accepted.size, result.fannedOut], [2, new Set([messages[1]!.id])])
})

test('while a change of its endpoints may not have been heard, every message of an application is fanned out', async () => {
  const insert = `INSERT INTO endpoint (id, app_id, url, updated_at) VALUES ($1, 'app_changed', 'https://example.com', now() - interval '1 min')`
  await storage.pool.query(insert, ['ep_changed'])
  const messages = [newMessage({ appId: 'app_changed' }), newMessage()]
  const routed = { places: [], routed: new Set(messages.map((one) => one.id)) }
  assert.equal((await acceptMessages(storage.pool, messages, false, 0, routed)).fannedOut.size, 0)
  await storage.pool.query(`UPDATE endpoint SET disabled = true, updated_at = now() WHERE id = 'ep_changed'`)
  const later = messages.map((one) => ({ ...one, id: newMessage().id }))
  const { fannedOut } = await acceptMessages(storage.pool, later, false, 0, { places: [], routed: new Set(later.map((one) => one.id)) })
  assert.deepEqual(fannedOut, new Set([later[0]!.id]))
})

test('what was published is what is stored', async () => {
  const payload = '{"name":"Zoë \\u0000 ☃","n":1.0}'
  const message = newMessage({ payload, channels: ['a', 'b'], eventId: 'e-1', createdAtMs: Date.UTC(2026, 0, 2, 3, 4, 5, 678) })
  await acceptMessages(storage.pool, [message, newMessage({ channels: [] }), newMessage()], false, 0)
  const { rows } = await storage.pool.query('SELECT payload, channels, event_id, created_at, app_id FROM message WHERE id = $1', [
    message.id,
  ])
  assert.deepEqual(rows[0], { payload, channels: ['a', 'b'], event_id: 'e-1', created_at: new Date(message.createdAtMs), app_id: 'app_1' })
  const others = await storage.pool.query('SELECT channels FROM message WHERE id <> $1 ORDER BY channels', [message.id])
  assert.deepEqual(others.rows, [{ channels: [] }, { channels: null }])
})

test('of messages with one event id in one batch the one that was published first is stored', async () => {
  for (let i = 0; i < 20; i++) {
    const messages = newMessages(12).map((message, position) => ({ ...message, eventId: `batch ${i} event ${position % 3}` }))
    const { accepted } = await acceptMessages(storage.pool, messages.toReversed(), true, 10_000)
    assert.deepEqual(accepted, new Set(messages.slice(-3).map((one) => one.id)))
  }
  assert.equal(await count(storage.pool, 'message'), 60)
  assert.equal(await count(storage.pool, 'outbox'), 60)
})

test('a conflict stores nothing, and the group is named after the first message that is stored', async () => {
  const taken = newMessage({ eventId: 'taken' })
  await acceptMessages(storage.pool, [taken], true, 10_000)
  const [conflict, stored] = [newMessage({ eventId: 'taken' }), newMessage()]
  const result = await acceptMessages(storage.pool, [conflict, stored], true, 10_000)
  const only = new Set([stored.id])
  assert.deepEqual(result, { accepted: only, fannedOut: only, wakes: [], repeated: new Set(), groupId: stored.id })
  assert.deepEqual((await outbox()).map((row) => row.id).sort(), [taken.id, stored.id].sort())
  const again = await acceptMessages(storage.pool, [newMessage({ eventId: 'taken' })], true, 10_000)
  assert.deepEqual(again, { accepted: new Set(), fannedOut: new Set(), wakes: [], repeated: new Set(), groupId: undefined })
  assert.equal(await count(storage.pool, 'message'), 2)
})

test('the same event id in another application is no conflict', async () => {
  const messages = [newMessage({ eventId: 'e', appId: 'app_1' }), newMessage({ eventId: 'e', appId: 'app_2' })]
  const { accepted } = await acceptMessages(storage.pool, messages, true, 10_000)
  assert.equal(accepted.size, 2)
})

test('concurrent batches with the same event ids in any order store each once, without waiting for each other in a ring', async () => {
  for (let round = 0; round < 10; round++) {
    const batches = Array.from({ length: 10 }, (_, batch) => {
      const messages = Array.from({ length: 30 }, (_, i) => newMessage({ eventId: `round ${round} event ${(i * 7 + batch * 11) % 30}` }))
      return batch % 2 === 0 ? messages : messages.toReversed()
    })
    const results = await Promise.all(batches.map((batch) => acceptMessages(storage.pool, batch, true, 10_000)))
    const accepted = results.flatMap((result) => [...result.accepted])
    assert.equal(accepted.length, 30)
    assert.equal(await count(storage.pool, 'message'), 30)
    assert.deepEqual((await outbox()).map((row) => row.id).sort(), accepted.sort())
    await storage.pool.query('TRUNCATE message, message_event_id, outbox, idempotency_key')
  }
})

test('a group that has reached Temporal leaves whole, and only it', async () => {
  const first = await acceptMessages(storage.pool, newMessages(3), true, 10_000)
  const second = await acceptMessages(storage.pool, newMessages(2), true, 10_000)
  await deleteGroup(storage.pool, first.groupId!)
  assert.deepEqual(new Set((await outbox()).map((row) => row.id)), second.accepted)
})

test('of messages with one idempotency key the first is stored, in one batch, in a later one and in batches at the same time', async () => {
  const keyed = () => newMessages(12).map((message, i) => ({ ...message, idempotencyKey: `key ${i % 3}` }))
  const first = keyed()
  const result = await acceptMessages(storage.pool, [...first, newMessage()], true, 10_000)
  assert.deepEqual([result.accepted.size, result.repeated.size], [4, 9])
  for (const message of first.slice(0, 3)) assert.ok(result.accepted.has(message.id))
  const batches = await Promise.all([keyed(), keyed().toReversed()].map((batch) => acceptMessages(storage.pool, batch, true, 10_000)))
  for (const batch of batches) assert.deepEqual([batch.accepted.size, batch.repeated.size, batch.groupId], [0, 12, undefined])
  for (let round = 0; round < 10; round++) {
    const rivals = Array.from({ length: 10 }, (_, rival) => {
      const messages = newMessages(20).map((message, i) => ({ ...message, idempotencyKey: `round ${round} ${(i * 7 + rival * 11) % 20}` }))
      return rival % 2 === 0 ? messages : messages.toReversed()
    })
    const results = await Promise.all(rivals.map((batch) => acceptMessages(storage.pool, batch, true, 10_000)))
    assert.equal(results.flatMap((one) => [...one.accepted]).length, 20)
  }
  assert.equal(await count(storage.pool, 'message'), 204)
  assert.equal(await count(storage.pool, 'outbox'), 204)
})

test('a conflict of event ids gives the idempotency key back', async () => {
  await acceptMessages(storage.pool, [newMessage({ eventId: 'taken' })], true, 10_000)
  const refused = await acceptMessages(storage.pool, [newMessage({ eventId: 'taken', idempotencyKey: 'mine' })], true, 10_000)
  assert.deepEqual([refused.accepted.size, refused.repeated.size], [0, 0])
  const next = await acceptMessages(storage.pool, [newMessage({ eventId: 'free', idempotencyKey: 'mine' })], true, 10_000)
  assert.equal(next.accepted.size, 1)
})

test('an idempotency key can be used again when it has expired', async () => {
  await acceptMessages(storage.pool, [newMessage({ idempotencyKey: 'old' })], true, 10_000)
  await storage.pool.query('UPDATE idempotency_key SET expires_at = now()')
  const next = await acceptMessages(storage.pool, [newMessage({ idempotencyKey: 'old' })], true, 10_000)
  assert.equal(next.accepted.size, 1)
})

test('messages of different priority are stored with theirs, and so are their outbox rows', async () => {
  const messages = [newMessage({ priority: 'high' }), newMessage(), newMessage({ priority: 'low', idempotencyKey: 'key' })]
  await acceptMessages(storage.pool, messages, false, 0)
  const { rows } = await storage.pool.query('SELECT m.priority, o.priority AS row FROM message m JOIN outbox o USING (id) ORDER BY 1')
  assert.deepEqual(
    rows,
    ['high', 'low', 'medium'].map((priority) => ({ priority, row: priority })),
  )
})

for (const { keyed, queued } of [
  { keyed: false, queued: false },
  { keyed: true, queued: false },
  { keyed: false, queued: true },
  { keyed: true, queued: true },
]) {
  test(`a trace is stored with its message${keyed ? ', beside keys' : ''}${queued ? ', beside places in queues' : ''}`, async () => {
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    const traced = newMessage({ traceparent, ...(keyed ? { idempotencyKey: 'traced' } : {}) })
    const messages = [traced, newMessage()]
    const { accepted } = queued ? await acceptRouted(messages, [0]) : await acceptMessages(storage.pool, messages, true, 10_000)
    assert.equal(accepted.size, 2)
    const read = await readMessages(storage.pool, createMessageCache(), [...accepted])
    assert.deepEqual(
      messages.map(({ id }) => read.get(id)?.traceparent),
      [traceparent, undefined],
    )
  })
}
