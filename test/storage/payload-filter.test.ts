import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LIMITS } from '../../domain/limits.ts'
import type { RoutedMessage } from '../../domain/routing.ts'
import { compileFilter, FilterError } from '../../storage/payload-filter.ts'

const PAYLOAD = {
  amount: 150,
  currency: 'EUR',
  customer: { country: 'DE', tags: ['new', 'big'] },
  items: [
    { sku: 'a', count: 1, parts: [{ id: 7 }] },
    { sku: 'b', count: 2, parts: [] },
  ],
  nothing: null,
}

function sent(payload: unknown = PAYLOAD, changes: Partial<RoutedMessage> = {}): RoutedMessage {
  const text = typeof payload === 'string' ? payload : JSON.stringify(payload)
  return { eventType: 'invoice.paid', channels: ['north'], createdAtMs: 0, payload: text, ...changes }
}

test('a filter sees payload, event type and channels', () => {
  const cases: [string, boolean][] = [
    ['payload.amount > 100', true],
    ['payload.amount > 100.5 && payload.currency == "EUR"', true],
    ['payload.amount == 150', true],
    ['payload.amount < 100 || payload.customer.country in ["DE", "AT"]', true],
    ['payload["customer"]["country"] == "FR"', false],
    ['has(payload.discount) && payload.discount > 0', false],
    ['payload.nothing == null', true],
    ['payload.items.exists(item, item.sku == "b" && item.count > 1)', true],
    ['payload.items.all(item, item.count > 1)', false],
    ['payload.items.exists_one(item, item.count == 1)', true],
    ['payload.items.exists(item, item.parts.exists(part, part.id == 7))', true],
    ['size(payload.items) == 2 && payload.customer.tags.exists(tag, tag.startsWith("b"))', true],
    ['eventType.startsWith("invoice.")', true],
    ['"south" in channels', false],
    ['channels.exists(channel, channel.contains("ort"))', true],
    ['payload.currency.lowerAscii() == "eur"', true],
    ['int(payload.amount) % 2 == 1 ? true : payload.customer.country.endsWith("E")', true],
  ]
  for (const [text, expected] of cases) assert.equal(compileFilter(text)(sent()), expected, text)
})

test('where an evaluation fails the message is not taken, and the owner of the filter is told', () => {
  let failures = 0
  const fails = (text: string, message = sent()) => assert.equal(compileFilter(text, () => failures++)(message), false, text)
  fails('payload.discount > 10')
  fails('payload.amount + 1 > 3')
  fails('payload.currency > 3')
  fails('payload.constructor == payload.toString')
  assert.equal(failures, 4)
  fails('payload.amount')
  assert.equal(failures, 4)
})

test('what has no object to look into is not taken', () => {
  for (const payload of ['not json', '[1]', '7', 'null', '"text"']) assert.equal(compileFilter('true')(sent(payload)), false, payload)
  assert.equal(compileFilter('true')(sent(PAYLOAD, { payload: null })), false)
  assert.equal(compileFilter('true')(sent({})), true)
  assert.equal(compileFilter('size(channels) == 0')(sent({}, { channels: null })), true)
})

test("filters of one message and of different messages do not see one another's payload", () => {
  const over = compileFilter('payload.amount > 100')
  const under = compileFilter('payload.amount < 100')
  const [high, low] = [sent({ amount: 200 }), sent({ amount: 50 })]
  assert.deepEqual(
    [high, low, high, low].map((message) => [over(message), under(message)]),
    [
      [true, false],
      [false, true],
      [true, false],
      [false, true],
    ],
  )
})

test('what is not a condition is refused', () => {
  const refused = [
    '',
    'payload.',
    'payload.amount >',
    '1',
    '"text"',
    'amount > 1',
    'payload',
    'payload.amount > "a" + 1',
    'process.exit()',
    'foo(payload)',
  ]
  for (const text of refused) assert.throws(() => compileFilter(text), FilterError, text)
  assert.throws(() => compileFilter(`payload.a == "${'x'.repeat(LIMITS.filterMaxChars)}"`), FilterError)
  assert.throws(() => compileFilter(Array.from({ length: LIMITS.filterMaxNodes }, () => 'true').join('&&')), FilterError)
})

test('what could take longer than the payload is long is refused', () => {
  const refused = [
    'payload.text.matches("(a+)+$")',
    'payload.a.exists(x, payload.b.exists(y, x == y))',
    'payload.a.exists(x, payload.b == x)',
    '[payload, payload].exists(x, [x, x].exists(y, y.a == 1))',
    'payload.a.map(x, [x, x]).exists(y, y == 1)',
    'payload.a.filter(x, x > 1) == []',
    'payload.a.exists(x, x.exists(y, x == y))',
    'payload.text.split(",").exists(x, x == "a")',
  ]
  for (const text of refused) assert.throws(() => compileFilter(text), FilterError, text)
})

test('a large payload is filtered in time', () => {
  const items = Array.from({ length: 100_000 }, (_, i) => ({ n: i }))
  const filter = compileFilter('payload.items.exists(item, item.n == 99999) && payload.items.all(item, item.n >= 0)')
  assert.equal(filter(sent({ items })), true)
})
