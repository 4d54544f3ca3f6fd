import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { messageInRaw } from 'svix'
import { startApi, type Answer, type Harness } from './harness.ts'

let api: Harness
let app: string

before(async () => {
  api = await startApi()
  app = (await api.svix.application.create({ name: 'CloudEvents' })).id
})
after(() => api.close())

async function post(headers: Record<string, string>, body: string | Uint8Array<ArrayBuffer>): Promise<{ status: number; json: Answer }> {
  const response = await fetch(`${api.url}/api/v1/app/${app}/msg`, {
    method: 'POST',
    headers: { authorization: `Bearer ${api.token}`, ...headers },
    body,
  })
  return { status: response.status, json: (await response.json()) as Answer }
}

const structured = (event: object) => post({ 'content-type': 'application/cloudevents+json; charset=utf-8' }, JSON.stringify(event))
const EVENT = { specversion: '1.0', id: 'A234-1234', source: 'https://shop.example/orders', type: 'order.placed' }
const BINARY = Object.fromEntries(Object.entries(EVENT).map(([name, value]) => [`ce-${name}`, value]))

async function stored(id: string) {
  const { rows } = await api.pool.query<{ payload: string; event_id: string; event_type: string; envelope: object; outbox: boolean }>(
    `SELECT payload, event_id, event_type, envelope, EXISTS (SELECT FROM outbox WHERE message_id = m.id) AS outbox FROM message m WHERE id = $1`,
    [id],
  )
  return rows[0]
}

test('a CloudEvent in structured mode is a message with its type, id and data', async () => {
  const event = { ...EVENT, time: '2026-11-01T00:00:00Z', comexampletenant: 'north', data: { n: 1 } }
  const { status, json } = await structured(event)
  assert.equal(status, 202)
  assert.deepEqual([json['eventType'], json['eventId'], json.payload], ['order.placed', 'A234-1234', { n: 1 }])
  const { id, source, time, comexampletenant } = event
  assert.deepEqual(await stored(json.id), {
    payload: '{"n":1}',
    event_id: 'A234-1234',
    event_type: 'order.placed',
    envelope: { attributes: { id, source, time, comexampletenant } },
    outbox: true,
  })
  assert.equal((await structured(event)).status, 409)
})

test('a CloudEvent in binary mode is the same, whatever its data is', async () => {
  const json = await post({ ...BINARY, 'ce-id': 'b-1', 'ce-subject': 'caf%C3%A9', 'content-type': 'application/json' }, '{"n":2}')
  assert.deepEqual([json.status, json.json.payload], [202, { n: 2 }])
  const { envelope } = (await stored(json.json.id))!
  assert.deepEqual(envelope, { attributes: { id: 'b-1', source: EVENT.source, subject: 'café' } })
  const xml = await post({ ...BINARY, 'ce-id': 'b-2', 'content-type': 'application/xml' }, '<n>3</n>')
  assert.deepEqual([xml.status, xml.json.payload], [202, { rawPayload: '<n>3</n>' }])
  const shown = (await stored(xml.json.id))!
  assert.deepEqual([shown.payload, (shown.envelope as { contentType: string }).contentType], ['<n>3</n>', 'application/xml'])
  const list = await post({ ...BINARY, 'ce-id': 'b-3', 'content-type': 'application/json' }, '[1,2]')
  assert.equal((await stored(list.json.id))?.payload, '[1,2]')
  const number = await post({ ...BINARY, 'ce-id': 'b-4', 'content-type': 'application/json' }, '{"payload":12345678901234567890}')
  assert.equal((await stored(number.json.id))?.payload, '{"payload":12345678901234567890}')
  const spaced = '{ "b": 1.0,\n"1": [1,  2] }'
  const inBody = await post({ ...BINARY, 'ce-id': 'b-5', 'content-type': 'application/json' }, ` ${spaced}\n`)
  assert.equal((await stored(inBody.json.id))?.payload, spaced)
  for (const [id, data] of [
    ['b-6', spaced],
    ['b-7', '[1.0,  12345678901234567890]'],
  ]) {
    const event = `${JSON.stringify({ ...EVENT, id, payload: 'an attribute' }).slice(0, -1)}, "data" : ${data} }`
    const { json } = await post({ 'content-type': 'application/cloudevents+json' }, event)
    const { payload, envelope } = (await stored(json.id))!
    assert.deepEqual([payload, (envelope as { attributes: Record<string, unknown> }).attributes['payload']], [data, 'an attribute'])
  }
})

test('binary data is kept as base64, in either mode', async () => {
  const bytes = new Uint8Array([0xff, 0xfe, 0, 0x7b])
  const base64 = Buffer.from(bytes).toString('base64')
  const document = await structured({ ...EVENT, id: 'bytes-1', datacontenttype: 'image/png', data_base64: base64 })
  const headers = await post({ ...BINARY, 'ce-id': 'bytes-2', 'content-type': 'image/png' }, bytes)
  for (const [i, { status, json }] of [document, headers].entries()) {
    assert.deepEqual([status, json.payload], [202, { rawPayload: base64 }])
    const { payload, envelope } = (await stored(json.id))!
    const attributes = { id: `bytes-${i + 1}`, source: EVENT.source }
    assert.deepEqual([payload, envelope], [base64, { contentType: 'image/png', attributes, base64: true }])
  }
  const nul = await post({ ...BINARY, 'ce-id': 'bytes-3', 'content-type': 'text/plain' }, 'a\0b')
  assert.equal((await stored(nul.json.id))?.payload, Buffer.from('a\0b').toString('base64'))
  const mark = await post({ ...BINARY, 'ce-id': 'bytes-4', 'content-type': 'text/plain' }, '\ufeffmarked')
  assert.equal((await stored(mark.json.id))?.payload, '\ufeffmarked')
})

test('what is not a CloudEvent of version 1.0 is refused and changes nothing', async () => {
  const beforehand = await api.pool.query('SELECT FROM message')
  const cases: Promise<{ status: number }>[] = [
    structured({ ...EVENT, specversion: '0.3', data: {} }),
    structured({ ...EVENT, id: undefined, data: {} }),
    structured({ ...EVENT, id: '', data: {} }),
    structured({ ...EVENT, source: undefined, data: {} }),
    structured({ ...EVENT, type: undefined, data: {} }),
    structured({ ...EVENT, type: 'with space', data: {} }),
    structured({ ...EVENT, id: 'not/a name', data: {} }),
    structured({ ...EVENT, data_base64: 'AAAA', data: {} }),
    structured({ ...EVENT, data_base64: 'no base64!' }),
    structured({ ...EVENT, data_base64: 17 }),
    structured({ ...EVENT, datacontenttype: 'no type', data: {} }),
    structured({ ...EVENT, extension: 'x'.repeat(5000), data: {} }),
    structured({ ...EVENT, extension: 'a\0b', data: {} }),
    structured({ ...EVENT, source: '\ud800', data: {} }),
    post({ ...BINARY, 'ce-extension': '%00', 'content-type': 'application/json' }, '{}'),
    structured([]),
    post({ 'content-type': 'application/cloudevents+json' }, 'not json'),
    post({ ...BINARY, 'content-type': 'application/json' }, 'not json'),
    post({ ...BINARY, 'ce-specversion': '2.0', 'content-type': 'application/json' }, '{}'),
    post({ ...BINARY, 'content-type': 'application/json' }, new Uint8Array([0xff, 0xfe])),
  ]
  for (const [i, one] of cases.entries()) assert.equal((await one).status, 422, `case ${i}`)
  assert.equal((await api.pool.query('SELECT FROM message')).rowCount, beforehand.rowCount)
})

test('a raw payload keeps the content type that comes with it', async () => {
  const { id } = await api.svix.message.create(app, messageInRaw('a', 'key=value', 'application/x-www-form-urlencoded'))
  assert.deepEqual((await stored(id))?.envelope, { contentType: 'application/x-www-form-urlencoded' })
  const wrong = await api.call('POST', `/app/${app}/msg`, messageInRaw('a', 'x', 'text/plain\r\nx-other: 1'))
  assert.equal(wrong.status, 422)
  const plain = await api.svix.message.create(app, messageInRaw('a', '{}'))
  assert.equal((await stored(plain.id))?.envelope, null)
})

test('an endpoint asks for a format', async () => {
  const create = (format: unknown) => api.call('POST', `/app/${app}/endpoint`, { url: 'https://example.com', format })
  for (const format of ['cloudevents-structured', 'cloudevents-binary', null])
    assert.deepEqual((await create(format)).json['format'], format)
  assert.equal((await create('xml')).status, 422)
})
