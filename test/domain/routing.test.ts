import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isWildcard, subscribes, takes, toPatterns, type RoutedMessage, type Subscription } from '../../domain/routing.ts'

const name = fc.constantFrom('a', 'b', 'c', 'a.b', 'a.b.c', 'ab', 'A')
const pattern = fc.oneof(name, fc.constantFrom('*', 'a.*', 'a.b.*', 'b.*', '.*'))
const names = fc.option(fc.array(name, { maxLength: 4 }), { nil: null })
const patterns = fc.option(fc.array(pattern, { maxLength: 4 }), { nil: null })
const message: fc.Arbitrary<RoutedMessage> = fc.record({
  eventType: name,
  channels: names,
  createdAtMs: fc.nat(),
  payload: fc.constant('{}'),
})
const everything: Subscription = { disabled: false, eventTypes: null, channels: null, filter: null }

const sent = (eventType: string, channels: string[] | null = null): RoutedMessage => ({
  eventType,
  channels,
  createdAtMs: 0,
  payload: '{}',
})

/** What a wildcard means, said another way than the code does. */
function matches(type: string, text: string): boolean {
  if (text === '*') return true
  if (!text.endsWith('.*')) return text === type
  const above = text.split('.').slice(0, -1)
  const parts = type.split('.')
  return parts.length > above.length && above.every((part, i) => parts[i] === part)
}

test('an endpoint takes a message when it is enabled, subscribed to the type, shares a channel where it has any, and its filter agrees', () => {
  fc.assert(
    fc.property(
      patterns,
      names,
      fc.boolean(),
      fc.option(fc.boolean(), { nil: null }),
      message,
      (types, channels, disabled, wanted, one) => {
        const endpoint = { disabled, eventTypes: toPatterns(types), channels, filter: wanted === null ? null : () => wanted }
        const type = types === null || types.some((text) => matches(one.eventType, text))
        const shared = (channels ?? []).length === 0 || channels!.some((channel) => (one.channels ?? []).includes(channel))
        assert.equal(subscribes(endpoint, one), !disabled && type && shared)
        assert.equal(takes(endpoint, one), !disabled && type && shared && wanted !== false)
      },
    ),
  )
})

test('a filter is not asked about what the endpoint does not subscribe to', () => {
  const filter = () => assert.fail('it was asked')
  assert.ok(!takes({ ...everything, eventTypes: toPatterns(['b']), filter }, sent('a')))
  assert.ok(!takes({ ...everything, disabled: true, filter }, sent('a')))
  assert.ok(!takes({ ...everything, channels: ['x'], filter }, sent('a', ['y'])))
})

test('an endpoint without filters takes every message', () => {
  fc.assert(fc.property(message, (one) => assert.ok(takes(everything, one))))
})

test('a message without channels does not reach an endpoint that listens to some', () => {
  const one = { ...everything, channels: ['a'] }
  assert.ok(!takes(one, sent('a')))
  assert.ok(!takes(one, sent('a', [])))
  assert.ok(takes(one, sent('a', ['b', 'a'])))
})

test('event types are compared whole and with case', () => {
  const one = { ...everything, eventTypes: toPatterns(['invoice.paid']) }
  for (const eventType of ['invoice', 'invoice.paid.late', 'Invoice.paid', 'invoice.pai'])
    assert.ok(!takes(one, sent(eventType)), eventType)
})

test('a wildcard is for what lies below it at any depth, not for itself or for what only begins like it', () => {
  const one = { ...everything, eventTypes: toPatterns(['invoice.*', 'user.signup']) }
  for (const eventType of ['invoice.paid', 'invoice.item.added', 'user.signup']) assert.ok(takes(one, sent(eventType)), eventType)
  for (const eventType of ['invoice', 'invoices.paid', 'user', 'user.signup.late']) assert.ok(!takes(one, sent(eventType)), eventType)
})

test('a lone asterisk subscribes to every type', () => {
  assert.equal(toPatterns(['a', '*']), null)
  assert.ok(isWildcard('*') && isWildcard('a.*') && !isWildcard('a') && !isWildcard('a*'))
})
