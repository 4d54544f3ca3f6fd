import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseMessages } from '../../api/body.ts'
import { textOf, WrittenJson } from '../../api/written-json.ts'
import { LIMITS } from '../../domain/limits.ts'

const parse = (text: string) => parseMessages(Buffer.from(text)) as Record<string, unknown>

test('payloads keep the bytes that they were written with', () => {
  const payloads = [
    '{"b":1,"2":"x","1":[1, 2]}',
    '{ "a" :\n\t[ 1.0, 1e3, 12345678901234567890 ] }',
    '{"text":"}],\\"payload\\":{\\\\","é":"ü😀\\u00e9\\ud83d"}',
    '{"payload":{"data":1},"messages":[{"payload":2}]}',
    '{}',
    '[ 1 ]',
    '"a\\u0062"',
    '1.50',
  ]
  for (const text of payloads) {
    const one = ` { "eventType" : "x" , "payload" : ${text} , "eventId":null}`
    assert.equal(textOf(parse(one)['payload']), text)
    assert.equal(textOf(parse(`{"data":${text}}`)['data']), text)
    assert.equal(textOf((parse(`{"message":${one}}`)['message'] as Record<string, unknown>)['payload']), text)
    const { messages } = parse(`{"x":[1,{"payload":0}],"messages":[${one},{"eventType":"y"},${one.replace('payload', 'data')}]}`)
    const [first, second, third] = messages as Record<string, unknown>[]
    assert.deepEqual([textOf(first!['payload']), second, textOf(third!['data'])], [text, { eventType: 'y' }, text])
  }
})

test('what a payload was written as is what JSON.parse makes of it', () => {
  const same = (text: string) => {
    const value = JSON.parse(text) as Record<string, unknown>
    const found = parse(text)
    const plain = (one: unknown) => (one instanceof WrittenJson ? one.value : one)
    assert.deepEqual(plain(found['payload']), value['payload'], text)
    if (found['payload'] instanceof WrittenJson) assert.deepEqual(JSON.parse(found['payload'].text), value['payload'], text)
    return found['payload']
  }
  for (const text of [
    '{"payload":{"a":1},"payload":{"a":2}}',
    '{"payload":{"a":1},"payload":3}',
    '{"payload":{"a":1},"pay\\u006coad":{"a":4}}',
    '{"":"payload","payload":{"a":5}}',
    '{"payload":"payload","x":{"payload":{"a":6}}}',
  ])
    assert.ok(same(text) instanceof WrittenJson, text)
  for (const text of [
    '{"x":{"payload":1}}',
    '{"x":"\\"payload\\":","payloads":{}}',
    '{"messages":{"a":{"payload":1}}}',
    '[{"payload":1}]',
    '5',
  ])
    assert.deepEqual(parse(text), JSON.parse(text))
})

test('of messages named twice the last are read, as JSON.parse does', () => {
  const { messages } = parse('{"messages":[{"payload":{"a":1}},{"payload":{"a":2}}],"messages":[{"eventType":"x"},{"payload":{"b":3}}]}')
  const [first, second] = messages as Record<string, unknown>[]
  assert.deepEqual([first, textOf(second!['payload'])], [{ eventType: 'x' }, '{"b":3}'])
})

test('of messages beyond the limit nothing is kept', () => {
  const { messages } = parse(`{"messages":[${'{"payload":{}},'.repeat(LIMITS.messagesPerBatch)}{"payload":{}}]}`)
  const kept = (messages as Record<string, unknown>[]).map(({ payload }) => payload instanceof WrittenJson)
  assert.deepEqual(kept, [...Array<boolean>(LIMITS.messagesPerBatch).fill(true), false])
})

test('what is not JSON, or too deep, is refused with its place', () => {
  const refused = (text: string) => {
    try {
      parse(text)
    } catch (error) {
      return String(error)
    }
    return 'accepted'
  }
  for (const text of [
    '',
    '{"payload":{]}',
    '{"payload":',
    '{"payload":{"a":"',
    '{"pay\\',
    '{"payload":{"a":01}}',
    '{"payload":{}}}',
    '}}}',
    ',,:',
  ])
    assert.match(refused(text), /Not JSON/, text)
  assert.match(refused(`{"payload":${'['.repeat(64)}${']'.repeat(64)}}`), /Nested deeper than 64 levels/)
  assert.equal(refused(`{"payload":${'['.repeat(63)}${']'.repeat(63)}}`), 'accepted')
})

test('any JSON comes back as it was written, wherever it is cut', () => {
  // A fixed sequence, so that a failure can be repeated.
  let seed = 7
  const below = (n: number) => (seed = (seed * 48_271) % 2_147_483_647) % n
  const space = () => ['', '', ' ', '\n', '\t '][below(5)]!
  const make = (depth: number): string => {
    const kind = below(depth > 4 ? 5 : 8)
    if (kind < 5) return ['-0.5e+3', '"q\\"[{,:"', 'null', '"\\\\"', '"payload"'][kind]!
    const members = Array.from({ length: below(4) }, () => make(depth + 1))
    if (kind === 5) return `[${space()}${members.join(`${space()},`)}]`
    return `{${members.map((one) => `"${['payload', 'data', 'x', 'messages'][below(4)]}"${space()}:${space()}${one}${space()}`).join(',')}}`
  }
  for (let i = 0; i < 2000; i++) {
    const [payload, other] = [make(2), make(1)]
    const body = `{"other":${other},"payload":${space()}${payload}${space()},"rest":${other}}`
    assert.equal(textOf(parse(body)['payload']), payload, body)
    const { messages } = parse(`{"messages":[${other},{"x":${other},"data":${payload}}]}`)
    assert.equal(textOf((messages as Record<string, unknown>[])[1]!['data']), payload, body)
  }
})
