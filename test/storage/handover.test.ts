import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { HandedMessage, Handover } from '../../domain/handover.ts'
import { newId } from '../../domain/ids.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { readHandedIn, storeHandover } from '../../storage/handed-in.ts'
import {
  fixHandedOver,
  listHandings,
  readHandOverDepth,
  readKeptHere,
  readToHandOver,
  readWaitingGroups,
  settleHandedOver,
} from '../../storage/handed-over.ts'
import { count, createStorage, newMessage, newMessages, type Storage } from './rows.ts'

let storage: Storage

before(async () => {
  storage = await createStorage()
})
after(() => storage.drop())

const group = (groupId = newId('msg')) => ({ groupId, trigger: 0, retried: true, chosen: false }) as const
const everywhere = () => true

test('what was written down first stays, whatever is routed later', async () => {
  const { pool } = storage
  const one = group()
  const first = { region: 'west', messageId: 'msg_1', endpointIds: ['ep_1', 'ep_2'] }
  assert.deepEqual(await fixHandedOver(pool, one, [first]), [first])
  const other = { region: 'north', messageId: 'msg_1', endpointIds: ['ep_3'] }
  const again = await fixHandedOver(pool, one, [{ ...first, endpointIds: ['ep_2', 'ep_4'] }, other])
  assert.deepEqual(new Set(again.map((row) => JSON.stringify(row))), new Set([first, other].map((row) => JSON.stringify(row))))
  assert.equal((await fixHandedOver(pool, one, [])).length, 2)
  assert.deepEqual(await fixHandedOver(pool, group(), []), [])
})

test('executions that write the same down at a time agree', async () => {
  const { pool } = storage
  const one = group()
  const rows = Array.from({ length: 20 }, (_, i) => ({ region: 'west', messageId: newId('msg'), endpointIds: [`ep_${i}`] }))
  const all = await Promise.all([rows, rows.toReversed(), rows].map((some) => fixHandedOver(pool, one, some)))
  for (const found of all) assert.deepEqual(new Set(found.map((row) => row.messageId)), new Set(rows.map((row) => row.messageId)))
})

test('what waits is read in pieces, one message at least, and what is settled waits no more', async () => {
  const { pool } = storage
  const one = group()
  const messages = newMessages(5, { payload: JSON.stringify({ text: 'x'.repeat(1000) }) })
  await acceptMessages(pool, messages, false, 0)
  const ids = messages.map((message) => message.id).sort()
  await fixHandedOver(
    pool,
    { ...one, retried: false },
    ids.map((messageId) => ({ region: 'south', messageId, endpointIds: ['ep_1', 'ep_2'] })),
  )
  const of = { groupId: one.groupId, region: 'south' }
  const read = async (maxBytes: number, except: readonly string[] = []) =>
    (await readToHandOver(pool, of, { except, maxBytes })).map(({ id }) => id)
  assert.deepEqual(await read(1), ids.slice(0, 1))
  assert.deepEqual(await read(3000), ids.slice(0, 2))
  assert.deepEqual(await read(100_000), ids)
  assert.deepEqual(await read(100_000, ids.slice(1)), ids.slice(0, 1))
  const [first] = await readToHandOver(pool, of, { except: [], maxBytes: 1 })
  assert.deepEqual(
    [first?.retried, first?.chosen, first?.payload, first?.endpointIds],
    [false, false, messages[0]!.payload, ['ep_1', 'ep_2']],
  )
  assert.deepEqual(await readWaitingGroups(pool, 'south', { except: [], limit: 5 }), [one.groupId])
  assert.deepEqual(await readWaitingGroups(pool, 'south', { except: [one.groupId], limit: 5 }), [])
  assert.equal((await readHandOverDepth(pool, 100)).find(({ region }) => region === 'south')?.waiting, 5)
  assert.equal(await settleHandedOver(pool, of, ids.slice(0, 2), 'here'), 2)
  assert.equal(await settleHandedOver(pool, of, ids.slice(0, 3), 'handed'), 1)
  assert.deepEqual(await read(100_000), ids.slice(3))
  const kept = await readKeptHere(pool, of, undefined, 10)
  assert.deepEqual(
    kept,
    ['ep_1', 'ep_2'].map((endpointId) => ({ endpointId, appId: 'app_1', messageIds: ids.slice(0, 2) })),
  )
  assert.deepEqual(
    (await readKeptHere(pool, of, 'ep_1', 10)).map(({ endpointId }) => endpointId),
    ['ep_2'],
  )
  assert.deepEqual(await listHandings(pool, ids[0]!), [])
  assert.ok((await listHandings(pool, ids[2]!))[0]?.handedAt instanceof Date)
  assert.equal((await listHandings(pool, ids[4]!))[0]?.handedAt, null)
})

function handed(changes: Partial<HandedMessage> = {}): HandedMessage {
  const { id, appId, eventType, payload, createdAtMs, expiresAtMs } = newMessage()
  const none = { eventId: null, channels: null, deliverAtMs: null, envelope: null, orderingKey: null, traceparent: null } as const
  return { ...none, id, appId, eventType, payload, createdAtMs, expiresAtMs, priority: 'medium', endpointIds: ['ep_known'], ...changes }
}

const call = (messages: readonly HandedMessage[], changes: Partial<Handover> = {}): Handover => ({
  ...{ groupId: newId('msg'), from: 'east', trigger: 0, retried: true, chosen: false, messages },
  ...changes,
})

async function knowEndpoints(...ids: string[]): Promise<void> {
  await storage.pool.query(`INSERT INTO application (id, org_id, name) VALUES ('app_1', 'org_1', 'one') ON CONFLICT DO NOTHING`)
  for (const id of ids) {
    await storage.pool.query(`INSERT INTO endpoint (id, app_id, url) VALUES ($1, 'app_1', 'https://example.com') ON CONFLICT DO NOTHING`, [
      id,
    ])
  }
}

test('a call is stored whole, and once', async () => {
  const { pool } = storage
  await knowEndpoints('ep_known')
  const rich = handed({
    channels: ['a', 'b'],
    eventId: 'order-1',
    deliverAtMs: Date.now() + 1000,
    envelope: { contentType: 'text/plain', attributes: { n: 1, yes: true } },
    orderingKey: 'k',
    priority: 'high',
    traceparent: '00-1-1-01',
  })
  const one = call([rich, handed()])
  assert.deepEqual((await storeHandover(pool, one, everywhere)).stored, one.messages)
  for (const again of [one, one]) assert.deepEqual(await storeHandover(pool, again, everywhere), { stored: [], unknown: [], refused: [] })
  const { rows } = await pool.query('SELECT *, payload_at(now(), id, expires_at, payload) AS text FROM message WHERE id = $1', [rich.id])
  const { event_id, channels, envelope, ordering_key, priority, traceparent, accepted_in, text, deliver_at } = rows[0]
  assert.deepEqual(
    [event_id, channels, envelope, ordering_key, priority, traceparent, accepted_in, text, deliver_at.getTime()],
    ['order-1', ['a', 'b'], rich.envelope, 'k', 'high', '00-1-1-01', 'east', rich.payload, rich.deliverAtMs],
  )
  assert.equal(
    await count(pool, 'outbox', `message_id IN ('${rich.id}', '${one.messages[1]!.id}') AND endpoint_id IS NULL AND id = message_id`),
    2,
  )
  assert.deepEqual(await readHandedIn(pool, [rich.id]), new Map([[rich.id, ['ep_known']]]))
  // The same event may have been published here too.
  assert.equal(await count(pool, 'message_event_id'), 0)
})

test('calls that are made at a time store a message once', async () => {
  const one = call(Array.from({ length: 10 }, () => handed()))
  await knowEndpoints('ep_known')
  const all = await Promise.all(
    [one, { ...one, messages: one.messages.toReversed() }, one].map((each) => storeHandover(storage.pool, each, everywhere)),
  )
  assert.equal(all.flatMap(({ stored }) => stored).length, 10)
})

test('a message that is sent again has a row for each of its endpoints, and is routed nowhere else by it', async () => {
  const { pool } = storage
  await knowEndpoints('ep_known', 'ep_second')
  const message = handed({ endpointIds: ['ep_known', 'ep_second'] })
  const one = call([message], { trigger: 1, retried: false, chosen: true })
  await storeHandover(pool, one, everywhere)
  const { rows } = await pool.query('SELECT id, endpoint_id, trigger, retried FROM outbox WHERE message_id = $1 ORDER BY id', [message.id])
  assert.deepEqual(
    rows,
    message.endpointIds.map((id) => ({ id: `${message.id}/${id}/${one.groupId}`, endpoint_id: id, trigger: 1, retried: false })),
  )
  assert.deepEqual(await readHandedIn(pool, [message.id]), new Map())
  // The first sending, which had to wait, comes later.
  assert.equal((await storeHandover(pool, call([message]), everywhere)).stored.length, 1)
  assert.deepEqual(await readHandedIn(pool, [message.id]), new Map([[message.id, message.endpointIds]]))
})

test('of a call what may not be here is refused, and what has an endpoint that is not known yet is left; the rest is taken', async () => {
  const { pool } = storage
  await knowEndpoints('ep_known')
  await pool.query(`INSERT INTO application (id, org_id, name, residency) VALUES ('app_zoned', 'org_1', 'zoned', 'eu')`)
  await pool.query(`INSERT INTO application_zone (id, org_id, zone, version) VALUES ('app_elsewhere', 'org_1', 'us', 1)`)
  const [taken, zoned, elsewhere] = [handed(), handed({ appId: 'app_zoned' }), handed({ appId: 'app_elsewhere' })]
  const unknown = handed({ endpointIds: ['ep_known', 'ep_new'] })
  const one = call([taken, zoned, elsewhere, unknown])
  assert.deepEqual(await storeHandover(pool, one, (zone) => zone === 'eu'), {
    stored: [taken, zoned],
    refused: [elsewhere.id],
    unknown: [unknown.id],
  })
  for (const table of ['message', 'handed_in', 'outbox']) {
    const { rowCount } = await pool.query(`SELECT FROM ${table} t WHERE t::text LIKE ANY ($1)`, [[`%${elsewhere.id}%`, `%${unknown.id}%`]])
    assert.equal(rowCount, 0)
  }
  await knowEndpoints('ep_new')
  await pool.query(`UPDATE endpoint SET deleted_at = now() WHERE id = 'ep_new'`)
  assert.deepEqual((await storeHandover(pool, call([unknown], { groupId: one.groupId }), everywhere)).stored, [unknown])
})
