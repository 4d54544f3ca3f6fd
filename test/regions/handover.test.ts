import { toldGroupId } from '../../activities/handing.ts'
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Handover } from '../../domain/handover.ts'
import { createRegionClient } from '../../http/region-client.ts'
import { createCalls, numbers } from '../support/calls.ts'
import { TEST_SECRET } from '../support/service.ts'
import { at, attempts, recorded, setPair, WEST, type Pair } from './pair.ts'

let pair: Pair

before(async () => {
  pair = await setPair()
})

after(() => pair?.stop())

test('of three endpoints one is in the other region: each gets the message once, the third from there', async (t) => {
  const { app, endpoints } = await pair.subscribe({ '/one/a': {}, '/one/b': { region: 'east' }, '/one/c': WEST })
  const publishedAtMs = Date.now()
  const messageId = await pair.calls.publish(app, 1)
  const received = await Promise.all(['/one/a', '/one/b', '/one/c'].map((path) => pair.receiver.waitFor(1, { matches: at(path) })))
  t.diagnostic(received.map(([one]) => `${one!.path} after ${one!.atMs - publishedAtMs} ms`).join(', '))
  assert.deepEqual(new Set(await recorded(pair.east, messageId, 2)), new Set(endpoints.slice(0, 2)))
  assert.deepEqual(await recorded(pair.west, messageId, 1), [endpoints[2]])
  assert.deepEqual(await pair.settled(messageId), ['handed'])
  assert.deepEqual(new Set(received.flat().map((one) => one.headers['webhook-id'])), new Set([messageId]))
  assert.ok(received.flat().every((one) => one.headers['webhook-signature'] !== undefined && one.body === '{"n":1}'))
  for (const path of ['/one/a', '/one/b', '/one/c']) assert.equal(pair.arrivals(path), 1)
  const { rows } = await pair.west.pool.query<{ accepted_in: string }>('SELECT accepted_in FROM message WHERE id = $1', [messageId])
  assert.equal(rows[0]?.accepted_in, 'east')
})

test('what was handed over is told where attempts of the message are listed, with the region that has them', async () => {
  const { app, endpoints } = await pair.subscribe({ '/told/a': {}, '/told/b': WEST })
  const messageId = await pair.calls.publish(app, 1)
  await pair.receiver.waitFor(1, { matches: at('/told/b') })
  await pair.settled(messageId)
  await recorded(pair.east, messageId, 1)
  const { json } = await pair.calls.call('GET', `/app/${app}/attempt/msg/${messageId}`)
  const [handing, ...others] = json['handedOver'] as Record<string, unknown>[]
  assert.deepEqual(others, [])
  assert.deepEqual({ ...handing, handedAt: '' }, { region: 'west', apiUrl: pair.front.url, endpointIds: [endpoints[1]], handedAt: '' })
  assert.ok(Date.parse(String(handing!['handedAt'])) > Date.now() - 60_000)
  assert.deepEqual(
    (json['data'] as { endpointId: string }[]).map((one) => one.endpointId),
    [endpoints[0]],
  )
  const there = await createCalls({ url: pair.west.service.url, token: pair.east.service.token }).call(
    'GET',
    `/app/${app}/attempt/msg/${messageId}`,
  )
  assert.deepEqual(
    (there.json['data'] as { endpointId: string }[]).map((one) => one.endpointId),
    [endpoints[1]],
  )
  assert.equal(there.json['handedOver'], undefined)
})

test('a call that is repeated stores and starts nothing', async () => {
  const { app, endpoints } = await pair.subscribe({ '/repeated': WEST })
  const messageId = await pair.calls.publish(app, 1)
  await pair.receiver.waitFor(1, { matches: at('/repeated') })
  await recorded(pair.west, messageId, 1)
  const { rows } = await pair.east.pool.query<{ groupId: string; createdAt: Date; expiresAt: Date }>(
    `SELECT group_id AS "groupId", m.created_at AS "createdAt", expires_at AS "expiresAt" FROM handed_over h JOIN message m ON m.id = h.message_id WHERE m.id = $1`,
    [messageId],
  )
  const { groupId, createdAt, expiresAt } = rows[0]!
  const none = { eventId: null, channels: null, deliverAtMs: null, envelope: null, orderingKey: null, traceparent: null } as const
  const message = { ...none, id: messageId, appId: app, eventType: 'step.taken', payload: '{"n":1}', priority: 'medium' } as const
  const times = { createdAtMs: createdAt.getTime(), expiresAtMs: expiresAt.getTime() }
  const messages = [{ ...message, ...times, endpointIds: endpoints }]
  const body: Handover = { groupId: toldGroupId(groupId), from: 'east', trigger: 0, retried: true, chosen: false, messages }
  const client = createRegionClient({ secret: TEST_SECRET, own: 'east' })
  try {
    for (let call = 0; call < 3; call++) {
      assert.deepEqual(await client.call({ name: 'west', apiUrl: pair.west.service.url }, { path: '/handover', body }), {
        unknown: [],
        refused: [],
      })
    }
    const lying = { path: '/handover', body: { ...body, from: 'spare' } }
    await assert.rejects(client.call({ name: 'west', apiUrl: pair.west.service.url }, lying), { statusCode: 422 })
  } finally {
    await client.close()
  }
  // The group's id is that of a message, which may be one that the region must not know of.
  const { rows: known } = await pair.west.pool.query('SELECT group_id FROM handed_in WHERE message_id = $1', [messageId])
  assert.deepEqual(known, [{ group_id: body.groupId }])
  assert.ok(!body.groupId.includes(messageId))
  // What would have been started is in the outbox, or has been recorded.
  const outbox = await pair.west.pool.query('SELECT FROM outbox WHERE message_id = $1', [messageId])
  assert.equal(outbox.rowCount, 0)
  assert.equal(pair.arrivals('/repeated'), 1)
})

test('a delivery that fails in the other region is retried there, and a message to be sent again goes there again', async () => {
  const { app, endpoints } = await pair.subscribe({ '/fail-once': WEST })
  const messageId = await pair.calls.publish(app, 1)
  await pair.receiver.waitFor(2, { matches: at('/fail-once') })
  assert.deepEqual(await recorded(pair.west, messageId, 2), [endpoints[0], endpoints[0]])
  const { status } = await pair.calls.call('POST', `/app/${app}/msg/${messageId}/endpoint/${endpoints[0]}/resend`)
  assert.equal(status, 202)
  await pair.receiver.waitFor(3, { matches: at('/fail-once') })
  await recorded(pair.west, messageId, 3)
  assert.deepEqual(await attempts(pair.east, messageId), [])
})

test('an endpoint with a queue, and one of a standby, get everything from here', async () => {
  const { app } = await pair.subscribe({
    '/stays/fifo': { ...WEST, ordering: 'fifo' },
    '/stays/batch': { ...WEST, batching: { maxEvents: 2, lingerMs: 10 } },
    '/stays/spare': {},
  })
  await pair.east.pool.query(`UPDATE endpoint SET region = 'spare' WHERE app_id = $1 AND url LIKE '%spare'`, [app])
  await pair.east.pool.query(`SELECT pg_notify('tidings_config', $1)`, [app])
  const sent: string[] = []
  for (const n of numbers(3)) sent.push(await pair.calls.publish(app, n))
  await Promise.all(['/stays/fifo', '/stays/spare'].map((path) => pair.receiver.waitFor(3, { matches: at(path) })))
  assert.deepEqual(
    pair.receiver.received.filter(at('/stays/fifo')).map((one) => one.headers['webhook-id']),
    sent,
  )
  const { rowCount } = await pair.west.pool.query('SELECT FROM message WHERE app_id = $1', [app])
  assert.equal(rowCount, 0)
})

test('many endpoints here, many there, and several messages of one group', async () => {
  const here = Object.fromEntries(numbers(15).map((n) => [`/many/here/${n}`, {}]))
  const there = Object.fromEntries(numbers(15).map((n) => [`/many/there/${n}`, WEST]))
  const { app } = await pair.subscribe({ ...here, ...there })
  const messageIds = await pair.calls.publishTogether(app, numbers(5))
  for (const path of ['/many/here/', '/many/there/']) await pair.receiver.waitFor(75, { matches: (one) => one.path.startsWith(path) })
  for (const id of messageIds) {
    assert.equal((await recorded(pair.east, id, 15)).length, 15)
    assert.equal((await recorded(pair.west, id, 15)).length, 15)
  }
  assert.equal(pair.receiver.received.filter((one) => one.path.startsWith('/many/')).length, 150)
})

test('what a region may not have it refuses, keeps nothing of, and the region that asked attempts it', async () => {
  const { app, endpoints } = await pair.subscribe({ '/refused/a': WEST, '/refused/b': {} })
  await pair.west.pool.query(`INSERT INTO application_zone (id, org_id, zone, version) VALUES ($1, 'org_1', 'elsewhere', 1)`, [app])
  const messageId = await pair.calls.publish(app, 1)
  await Promise.all(['/refused/a', '/refused/b'].map((path) => pair.receiver.waitFor(1, { matches: at(path) })))
  assert.deepEqual(new Set(await recorded(pair.east, messageId, 2)), new Set(endpoints))
  assert.deepEqual(await pair.statesOf(messageId), ['here'])
  for (const table of ['message', 'handed_in', 'outbox', 'attempt']) {
    const { rowCount } = await pair.west.pool.query(`SELECT FROM ${table} t WHERE t::text LIKE $1`, [`%${messageId}%`])
    assert.equal(rowCount, 0, table)
  }
})
