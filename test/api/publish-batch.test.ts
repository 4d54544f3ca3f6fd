import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startApi, type Harness } from './harness.ts'

let api: Harness
let app: string

before(async () => {
  api = await startApi()
  app = (await api.svix.application.create({ name: 'Batch', uid: 'batch' })).id
})
after(() => api.close())

const publish = (messages: unknown, path = 'batch', query = '') => api.call('POST', `/app/${path}/msg/batch${query}`, { messages })
const event = (fields: object = {}) => ({ eventType: 'a', payload: {}, ...fields })

async function stored(): Promise<{ messages: number; outbox: number }> {
  const { rows } = await api.pool.query<{ messages: number; outbox: number }>(
    'SELECT (SELECT count(*) FROM message) AS messages, (SELECT count(*) FROM outbox) AS outbox',
  )
  return rows[0]!
}

test('a batch is accepted as its messages would be one by one, and answered in their order', async () => {
  const messages = [event({ payload: { n: 1 }, eventId: 'b-1' }), event({ data: { n: 2 }, payload: undefined, channels: ['x'] })]
  const { status, json } = await publish(messages)
  assert.equal(status, 202)
  assert.deepEqual(
    json.data.map((one) => [one.payload, one['eventId'], one['channels']]),
    [
      [{ n: 1 }, 'b-1', null],
      [{ n: 2 }, null, ['x']],
    ],
  )
  for (const one of json.data) assert.deepEqual((await api.call('GET', `/app/${app}/msg/${one.id}`)).json, one)
  const { rows } = await api.pool.query('SELECT id FROM outbox WHERE id = ANY($1)', [json.data.map((one) => one.id)])
  assert.equal(rows.length, 2)
  assert.deepEqual((await publish([event({ payload: { n: 1 } })], 'batch', '?with_content=false')).json.data[0]?.payload, {})
})

test('a batch with one message that is refused changes nothing, and the answer names it', async () => {
  await api.svix.message.create(app, { eventType: 'a', payload: {}, eventId: 'taken' })
  const beforehand = await stored()
  const cases: [unknown[], number, (json: { code: string; detail: unknown }) => unknown, unknown][] = [
    [[event(), event({ eventId: 'free-1' }), event({ eventId: 'taken' })], 409, (json) => String(json.detail).split(':')[0], 'messages[2]'],
    [[event({ eventId: 'twice' }), event({ eventId: 'twice' })], 409, (json) => String(json.detail).split(':')[0], 'messages[1]'],
    [
      [event(), event({ eventType: 'a b' })],
      422,
      (json) => (json.detail as { loc: string[] }[])[0]?.loc,
      ['body', 'messages', '[1]', 'event_type', '__all__'],
    ],
    [[event(), { payload: {} }], 422, (json) => (json.detail as { loc: string[] }[])[0]?.loc, ['body', 'messages', '1', 'eventType']],
    [[], 422, (json) => (json.detail as { loc: string[] }[])[0]?.loc, ['body', 'messages']],
    [Array.from({ length: 101 }, () => event()), 422, (json) => (json.detail as { loc: string[] }[])[0]?.loc, ['body', 'messages']],
  ]
  for (const [messages, status, of, expected] of cases) {
    const answer = await publish(messages)
    assert.deepEqual([answer.status, of(answer.json)], [status, expected])
  }
  assert.deepEqual(await stored(), beforehand)
  // An event id of a refused batch is free.
  assert.equal((await publish([event({ eventId: 'free-1' })])).status, 202)
})

test('concurrent batches with the same event ids are accepted once', async () => {
  const messages = Array.from({ length: 20 }, (_, i) => event({ eventId: `race-${i}` }))
  const answers = await Promise.all([publish(messages), publish(messages.toReversed()), publish(messages)])
  assert.deepEqual(
    [202, 409].map((status) => answers.filter((answer) => answer.status === status).length),
    [1, 2],
  )
})

test('a batch creates its application, and needs one', async () => {
  const application = { name: 'New', uid: 'batch-new' }
  assert.equal((await publish([event(), event({ application })], 'batch-new')).status, 202)
  assert.equal((await api.svix.application.get('batch-new')).name, 'New')
  assert.equal((await publish([event()], 'batch-nobody')).status, 404)
  assert.equal((await publish([event({ application })], 'batch-other')).status, 422)
})

test('a batch with an idempotency key is accepted once', async () => {
  const send = () =>
    fetch(`${api.url}/api/v1/app/${app}/msg/batch`, {
      method: 'POST',
      headers: { authorization: `Bearer ${api.token}`, 'idempotency-key': 'one' },
      body: JSON.stringify({ messages: [event()] }),
    }).then((answer) => answer.json())
  assert.deepEqual(await send(), await send())
})

test('precheck tells whether anybody would get such a message', async () => {
  const own = (await api.svix.application.create({ name: 'Precheck' })).id
  const active = async (body: object) => (await api.call('POST', `/app/${own}/msg/precheck/active`, body)).json['active']
  assert.equal(await active({ eventType: 'a.b' }), false)
  const { id } = await api.svix.endpoint.create(own, { url: 'https://example.com', eventTypes: ['a.*'], channels: ['x'] })
  assert.equal(await active({ eventType: 'a.b' }), false)
  assert.equal(await active({ eventType: 'a.b', channels: ['y', 'x'] }), true)
  assert.equal(await active({ eventType: 'b', channels: ['x'] }), false)
  assert.equal((await api.svix.message.precheck(own, { eventType: 'a.c', channels: ['x'] })).active, true)
  await api.svix.endpoint.patch(own, id, { disabled: true })
  assert.equal(await active({ eventType: 'a.b', channels: ['x'] }), false)
  assert.equal((await api.call('POST', '/app/nobody/msg/precheck/active', { eventType: 'a' })).status, 404)
  assert.equal((await api.call('POST', `/app/${own}/msg/precheck/active`, { eventType: 'a b' })).status, 422)
})
