import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { takes, type RoutedMessage, type Subscription } from '../../domain/routing.ts'

const name = fc.constantFrom('a', 'b', 'c', 'a.b', 'A')
const names = fc.option(fc.array(name, { maxLength: 4 }), { nil: null })
const endpoint: fc.Arbitrary<Subscription> = fc.record({ disabled: fc.boolean(), eventTypes: names, channels: names })
const message: fc.Arbitrary<RoutedMessage> = fc.record({ eventType: name, channels: names, createdAtMs: fc.nat() })

test('an endpoint takes a message when it is enabled, subscribed to the type, and shares a channel where it has any', () => {
  fc.assert(
    fc.property(endpoint, message, (one, sent) => {
      const type = one.eventTypes === null || one.eventTypes.includes(sent.eventType)
      const listens = one.channels ?? []
      const shared = listens.length === 0 || listens.some((channel) => (sent.channels ?? []).includes(channel))
      assert.equal(takes(one, sent), !one.disabled && type && shared)
    }),
  )
})

test('an endpoint without filters takes every message', () => {
  fc.assert(fc.property(message, (sent) => assert.ok(takes({ disabled: false, eventTypes: null, channels: null }, sent))))
})

test('a disabled endpoint takes nothing', () => {
  fc.assert(fc.property(endpoint, message, (one, sent) => assert.ok(!takes({ ...one, disabled: true }, sent))))
})

test('a message without channels does not reach an endpoint that listens to some', () => {
  const one = { disabled: false, eventTypes: null, channels: ['a'] }
  assert.ok(!takes(one, { eventType: 'a', channels: null, createdAtMs: 0 }))
  assert.ok(!takes(one, { eventType: 'a', channels: [], createdAtMs: 0 }))
  assert.ok(takes(one, { eventType: 'a', channels: ['b', 'a'], createdAtMs: 0 }))
})

test('event types are compared whole and with case', () => {
  const one = { disabled: false, eventTypes: ['invoice.paid'], channels: null }
  for (const eventType of ['invoice', 'invoice.paid.late', 'Invoice.paid', 'invoice.pai']) {
    assert.ok(!takes(one, { eventType, channels: null, createdAtMs: 0 }), eventType)
  }
})
