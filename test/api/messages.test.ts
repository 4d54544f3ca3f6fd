import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { messageInRaw } from 'svix'
import { newId } from '../../domain/ids.ts'
import { startApi, type Harness } from './harness.ts'

let api: Harness
let app: string
before(async () => {
  api = await startApi()
  app = (await api.svix.application.create({ name: 'Messages', uid: 'messages' })).id
})
after(() => api.close())

test('a message is answered 202 after it is stored with its outbox row, and read by id and by eventId', async () => {
  const body = { eventType: 'user.signup', eventId: 'evt-1', channels: ['a'], payload: { n: 1.0, text: 'ü', nested: { list: [1, null] } } }
  const { status, json } = await api.call('POST', '/app/messages/msg', body)
  assert.equal(status, 202)
  assert.match(json.id, /^msg_[0-9A-Za-z]{27}$/)
  assert.deepEqual([json['eventType'], json['eventId'], json['channels'], json.payload], ['user.signup', 'evt-1', ['a'], body.payload])
  const stored = await api.pool.query<{ payload: string; outbox: string | null; days: number }>(
    `SELECT m.payload, o.id AS outbox, round(extract(epoch FROM m.expires_at - m.created_at) / 86400)::int AS days
     FROM message m LEFT JOIN outbox o ON o.message_id = m.id WHERE m.id = $1`,
    [json.id],
  )
  assert.deepEqual(stored.rows[0], { payload: JSON.stringify(body.payload), outbox: json.id, days: 90 })
  assert.deepEqual((await api.call('GET', `/app/${app}/msg/${json.id}`)).json, json)
  assert.equal((await api.svix.message.get(app, 'evt-1')).id, json.id)
  assert.deepEqual((await api.call('GET', `/app/${app}/msg/${json.id}?with_content=false`)).json.payload, {})
  assert.deepEqual((await api.call('POST', '/app/messages/msg?with_content=false', { eventType: 'x', payload: { a: 1 } })).json.payload, {})
})

test('a second message with the same eventId is a conflict within its application only', async () => {
  const other = (await api.svix.application.create({ name: 'Other' })).id
  const body = { eventType: 'x', payload: {}, eventId: 'once' }
  assert.equal((await api.call('POST', `/app/${app}/msg`, body)).status, 202)
  assert.equal((await api.call('POST', `/app/${app}/msg`, body)).json.code, 'conflict')
  assert.equal((await api.call('POST', `/app/${other}/msg`, body)).status, 202)
})

test('publishing refuses what is not a message and accepts the alias data and unknown fields', async () => {
  const cases: [unknown, string[], string][] = [
    [{ payload: {} }, ['body', 'eventType'], 'value_error.jsondecode'],
    [{ eventType: 'x' }, ['body', 'payload'], 'value_error.jsondecode'],
    [{ eventType: 'x', payload: [] }, ['body', 'payload'], 'value_error.jsondecode'],
    [{ eventType: 'x', payload: 'text' }, ['body', 'payload'], 'value_error.jsondecode'],
    [{ eventType: 'a b', payload: {} }, ['body', 'event_type', '__all__'], 'value_error'],
    [{ eventType: 'x', payload: {}, eventId: 'msg_x' }, ['body', 'event_id', '__all__'], 'value_error'],
    [{ eventType: 'x', payload: {}, channels: [] }, ['body', 'channels'], 'value_error'],
    [{ eventType: 'x', payload: {}, channels: ['1', '2', '3', '4', '5', '6'] }, ['body', 'channels'], 'value_error'],
    [{ eventType: 'x', payload: {}, payloadRetentionPeriod: 4 }, ['body', 'payload_retention_period'], 'value_error'],
    [{ eventType: 'x', payload: {}, payloadRetentionPeriod: 91 }, ['body', 'payload_retention_period'], 'value_error'],
  ]
  for (const [body, loc, type] of cases) {
    const { status, json } = await api.call('POST', `/app/${app}/msg`, body)
    assert.deepEqual([status, json.detail[0]?.loc, json.detail[0]?.type], [422, loc, type], JSON.stringify(body))
  }
  const { status, json } = await api.call('POST', `/app/${app}/msg`, { eventType: 'x', data: { a: 1 }, whatever: true })
  assert.deepEqual([status, json.payload], [202, { a: 1 }])
  assert.equal((await api.call('POST', '/app/nobody/msg', { eventType: 'x', payload: {} })).status, 404)
  assert.equal(
    (await api.call('POST', `/app/${app}/msg`, { eventType: 'x', payload: { a: 'x'.repeat(2_097_152) } })).json.code,
    'payload_too_large',
  )
})

test('payloads are stored and answered byte for byte, and numbers that JavaScript would round are shown as they were written', async () => {
  const payload = '{"id":12345678901234567890,"list":[{"x":0.1000000000000000055}],"huge":1e400,"plain":1.5}'
  const spaced = '{ "b": 1.0,\n\t"2": "\\u00e9", "1": [1,  2], "b": 2 }'
  const request = async (method: string, path: string, body?: string) => {
    const answer = await fetch(`${api.url}/api/v1/app/${app}${path}`, {
      method,
      headers: { authorization: `Bearer ${api.token}` },
      body: body ?? null,
    })
    return answer.text()
  }
  const stored = async (answer: string) => {
    const id = /msg_\w{27}/.exec(answer)![0]
    const { rows } = await api.pool.query<{ payload: string }>('SELECT payload FROM message WHERE id = $1', [id])
    return [rows[0]?.payload, await request('GET', `/msg/${id}`)] as const
  }
  const one = `{"eventType":"x","payload":${payload}}`
  for (const [path, body] of [
    ['/msg', one],
    ['/msg', one.replace('payload', 'data')],
    ['/msg/batch', `{"messages":[${one}]}`],
  ] as const) {
    const written = await request('POST', path, body.replace(payload, spaced))
    assert.deepEqual([(await stored(written))[0], written.includes(spaced)], [spaced, true], written)
    const answer = await request('POST', path, body)
    const [text, shown] = await stored(answer)
    assert.deepEqual([text, answer.includes(payload), shown.includes(payload)], [payload, true, true], answer)
  }
  const refused = [
    '{"eventType":"x","payload":12345678901234567890}',
    `{"eventType":"x","payload":{},"payloadRetentionPeriod":12345678901234567890}`,
  ]
  for (const body of refused) assert.match(await request('POST', '/msg', body), /value_error/)
})

test('ordering key and priority are shown where they were given, in the answer and whenever the message is read', async () => {
  const own = (await api.svix.application.create({ name: 'Extras' })).id
  const shown = ({ orderingKey, priority }: Record<string, unknown>) => ({ orderingKey, priority })
  const cases = [
    [
      { orderingKey: 'k', priority: 'high' },
      { orderingKey: 'k', priority: 'high' },
    ],
    [{ priority: 'low' }, { orderingKey: undefined, priority: 'low' }],
    [
      { orderingKey: null, priority: 'medium' },
      { orderingKey: undefined, priority: undefined },
    ],
    [{}, { orderingKey: undefined, priority: undefined }],
  ] as const
  for (const [given, expected] of cases) {
    const { json } = await api.call('POST', `/app/${own}/msg`, { eventType: 'x', payload: {}, ...given })
    assert.deepEqual(shown(json), expected)
    assert.deepEqual(shown((await api.call('GET', `/app/${own}/msg/${json.id}`)).json), expected)
    const { data } = (await api.call('GET', `/app/${own}/msg`)).json
    assert.deepEqual(shown(data.find((one) => one.id === json.id)!), expected)
  }
})

test('a raw payload is kept to the byte', async () => {
  const raw = '{"b" : 1,\n "a":2}'
  const { id } = await api.svix.message.create(app, messageInRaw('x', raw))
  const { rows } = await api.pool.query<{ payload: string }>('SELECT payload FROM message WHERE id = $1', [id])
  assert.equal(rows[0]?.payload, raw)
  assert.deepEqual((await api.call('GET', `/app/${app}/msg/${id}`)).json.payload, { a: 2, b: 1 })
  const text = await api.svix.message.create(app, messageInRaw('x', 'not json'))
  assert.deepEqual((await api.call('GET', `/app/${app}/msg/${text.id}`)).json.payload, { rawPayload: 'not json' })
})

test('the application field creates the application that the path names', async () => {
  const publish = (path: string, uid: string) =>
    api.call('POST', `/app/${path}/msg`, { eventType: 'x', payload: {}, application: { name: 'New', uid } })
  assert.equal((await publish('brand-new', 'brand-new')).status, 202)
  assert.equal((await publish('brand-new', 'ignored-now')).status, 202)
  assert.equal((await publish('other-name', 'mismatch')).status, 422)
  assert.equal((await api.svix.application.get('brand-new')).name, 'New')
})

test('expunged and expired payloads are gone from every answer', async () => {
  const { id } = await api.svix.message.create(app, { eventType: 'x', payload: { secret: 1 } })
  await api.svix.message.expungeContent(app, id)
  assert.deepEqual((await api.call('GET', `/app/${app}/msg/${id}`)).json.payload, { expired: true })
  const late = await api.svix.message.create(app, { eventType: 'x', payload: { secret: 2 } })
  await api.pool.query(`UPDATE message SET expires_at = now() - interval '1 s' WHERE id = $1`, [late.id])
  assert.deepEqual((await api.call('GET', `/app/${app}/msg/${late.id}`)).json.payload, { expired: true })
})

test('messages are listed newest first, with filters and bounds, in both directions', async () => {
  const own = (await api.svix.application.create({ name: 'History' })).id
  const nowMs = Date.now()
  const ids: string[] = []
  for (let i = 0; i < 6; i++) {
    const id = newId('msg', nowMs - (6 - i) * 60_000)
    ids.push(id)
    await api.pool.query(
      `INSERT INTO message (id, app_id, event_type, channels, payload, created_at, expires_at)
       VALUES ($1, $2, $3, $4, '{"a":1}', to_timestamp($5::float8 / 1000), now() + interval '1 day')`,
      [id, own, i % 2 === 0 ? 'even' : 'odd', i < 2 ? ['low'] : null, nowMs - (6 - i) * 60_000],
    )
  }
  const newest = [...ids].reverse()
  const list = async (query: string) => (await api.call('GET', `/app/${own}/msg?${query}`)).json
  const idsOf = async (query: string) => (await list(query)).data.map((one) => one.id)
  const at = (i: number) => encodeURIComponent(new Date(nowMs - (6 - i) * 60_000 + 1000).toISOString())
  assert.deepEqual(await idsOf(''), newest)
  assert.deepEqual(
    await idsOf('event_types=even'),
    newest.filter((_, i) => i % 2 === 1),
  )
  for (const query of [
    'event_types=even,odd',
    'event_types=even&event_types=odd',
    'event_types[]=even&event_types[]=odd',
    'event_types[0]=even&event_types[1]=odd',
  ]) {
    assert.deepEqual(await idsOf(query), newest, query)
  }
  assert.deepEqual(await idsOf('channel=low'), newest.slice(4))
  assert.deepEqual(await idsOf(`before=${at(2)}`), newest.slice(3))
  assert.deepEqual(await idsOf(`after=${at(2)}`), newest.slice(0, 3))
  assert.deepEqual(await idsOf(`after=${at(0)}&before=${at(3)}`), newest.slice(2, 5))
  const oldest = await list(`after=${at(0)}&limit=2`)
  assert.deepEqual([oldest.data.map((one) => one.id), oldest.done], [newest.slice(3, 5), false])
  const later = await list(`after=${at(0)}&limit=2&iterator=${oldest.prevIterator}`)
  assert.deepEqual([later.data.map((one) => one.id), later.done], [newest.slice(1, 3), false])
  assert.deepEqual(await idsOf(`after=${at(0)}&iterator=${newest[2]}`), newest.slice(3, 5))
  assert.deepEqual((await list('with_content=false')).data[0]?.payload, {})
  assert.equal((await api.call('GET', `/app/${own}/msg?before=yesterday`)).status, 400)
  assert.equal((await api.call('GET', `/app/${own}/msg?channel=a%20b`)).status, 422)
})

test('messages older than 90 days are listed only when a bound asks for them', async () => {
  const own = (await api.svix.application.create({ name: 'Old' })).id
  const oldMs = Date.now() - 91 * 86_400_000
  await api.pool.query(`INSERT INTO message (id, app_id, event_type, expires_at) VALUES ($1, $2, 'x', now())`, [newId('msg', oldMs), own])
  assert.equal((await api.svix.message.list(own)).data.length, 0)
  assert.equal((await api.svix.message.list(own, { after: new Date(oldMs - 1000) })).data.length, 1)
})
