import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { dress, structured, type DressedMessage } from '../../domain/cloud-event.ts'

const message: DressedMessage = { id: 'msg_1', appId: 'app_1', eventType: 'invoice.paid', createdAtMs: Date.UTC(2026, 0, 2, 3, 4, 5, 6) }
const ATTRIBUTES = {
  specversion: '1.0',
  id: 'msg_1',
  source: '/app/app_1',
  type: 'invoice.paid',
  time: '2026-01-02T03:04:05.006Z',
}

test('without a format the payload goes out as it is, with its content type', () => {
  assert.deepEqual(dress(message, '{"n": 1.0}', null), { body: '{"n": 1.0}', headers: { 'content-type': 'application/json' } })
  const xml = { ...message, envelope: { contentType: 'application/xml' } }
  assert.deepEqual(dress(xml, '<a/>', null), { body: '<a/>', headers: { 'content-type': 'application/xml' } })
})

test('in binary mode the attributes are headers and the body is the payload', () => {
  const { body, headers } = dress(message, '{"n": 1.0}', 'cloudevents-binary')
  const expected = Object.fromEntries(Object.entries(ATTRIBUTES).map(([name, value]) => [`ce-${name}`, value]))
  assert.deepEqual([body, headers], ['{"n": 1.0}', { 'content-type': 'application/json', ...expected }])
})

test('in structured mode the payload is in the document to the byte', () => {
  const { body, headers } = dress(message, '{"n": 1.0}', 'cloudevents-structured')
  assert.ok(typeof body === 'string')
  assert.equal(headers['content-type'], 'application/cloudevents+json; charset=utf-8')
  assert.deepEqual(JSON.parse(body), { ...ATTRIBUTES, datacontenttype: 'application/json', data: { n: 1 } })
  assert.ok(body.endsWith('"data":{"n": 1.0}}'))
})

test('data that is not JSON is a text in the document, whatever its type says', () => {
  const dataOf = (payload: string, contentType?: string) =>
    (JSON.parse(structured({ ...message, envelope: { contentType } }, payload)) as { data: unknown }).data
  assert.equal(dataOf('<a b="c"/>', 'application/xml'), '<a b="c"/>')
  assert.equal(dataOf('{"a":1}', 'text/plain'), '{"a":1}')
  assert.deepEqual(dataOf('{"a":1}', 'application/vnd.shop+json'), { a: 1 })
  assert.equal(dataOf('not json'), 'not json')
})

test('an event that came as a CloudEvent keeps its attributes', () => {
  const attributes = { id: 'its-own', source: 'https://shop.example', subject: 'i 17', time: '2020-01-01T00:00:00Z', comexampleflag: true }
  const json = structured({ ...message, envelope: { attributes } }, '{}')
  assert.deepEqual(JSON.parse(json), { ...ATTRIBUTES, ...attributes, datacontenttype: 'application/json', data: {} })
  assert.equal(dress({ ...message, envelope: { attributes } }, '{}', 'cloudevents-binary').headers['ce-subject'], 'i%2017')
})

test('binary data goes out as its bytes, in a document as base64', () => {
  const bytes = Buffer.from([0xff, 0, 0x7b, 0x80])
  const binary = { ...message, envelope: { contentType: 'image/png', base64: true } } as const
  const base64 = bytes.toString('base64')
  for (const format of [null, 'cloudevents-binary'] as const) {
    const { body, headers } = dress(binary, base64, format)
    assert.deepEqual([body, headers['content-type']], [bytes, 'image/png'])
  }
  assert.deepEqual(JSON.parse(structured(binary, base64)), { ...ATTRIBUTES, datacontenttype: 'image/png', data_base64: base64 })
  // Its text may look like JSON.
  const number = { ...message, envelope: { contentType: 'application/json', base64: true } } as const
  assert.deepEqual(JSON.parse(structured(number, '1234')), { ...ATTRIBUTES, datacontenttype: 'application/json', data_base64: '1234' })
})

test('values of headers are printable ASCII and decode to what they were', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (subject) => {
      const { headers } = dress({ ...message, envelope: { attributes: { subject } } }, '{}', 'cloudevents-binary')
      assert.match(headers['ce-subject']!, /^[\x21-\x7e]*$/)
      assert.equal(decodeURIComponent(headers['ce-subject']!), subject)
    }),
  )
  const { headers } = dress({ ...message, envelope: { attributes: { subject: 'Euro € 😀 "%"\ud800' } } }, '{}', 'cloudevents-binary')
  assert.equal(headers['ce-subject'], 'Euro%20%E2%82%AC%20%F0%9F%98%80%20%22%25%22%EF%BF%BD')
})
