import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createInHand } from '../../domain/in-hand.ts'

test('there is room until enough is in hand, and again when it has been made', () => {
  const inHand = createInHand()
  for (let n = 0; n < 50; n++) {
    assert.ok(inHand.room(1000) > 0)
    inHand.add(`m${n}`, 10, 1000)
  }
  assert.equal(inHand.room(1000), 0)
  for (let i = 0; i < 10; i++) inHand.done('m0', 1001)
  assert.ok(inHand.room(1001) > 0)
})

test('who makes more in a second may have more in hand', () => {
  const inHand = createInHand()
  for (let n = 0; n < 2000; n++) inHand.add(`m${n}`, 1, 0)
  assert.equal(inHand.room(0), 0)
  // 10 in each millisecond.
  for (let n = 0; n < 2000; n++) inHand.done(`m${n}`, n / 10)
  assert.ok(inHand.room(200) > 1000)
})

test('it runs dry when what was begun is nearly made, where enough waits to be worth a start', () => {
  const inHand = createInHand()
  for (let n = 0; n < 10; n++) inHand.add(`m${n}`, 100, 0)
  assert.equal(inHand.isDry(3), true)
  assert.equal(inHand.isDry(2), false)
  inHand.begin(100)
  assert.equal(inHand.isDry(3), false)
  for (let i = 0; i < 60; i++) inHand.done('m0', 1)
  assert.equal(inHand.isDry(3), true)
  inHand.begin(20)
  assert.equal(inHand.isDry(3), false)
  for (let i = 0; i < 20; i++) inHand.handedOn('m1')
  assert.equal(inHand.isDry(3), true)
})

test('what is expected has its room already, for a while', () => {
  const inHand = createInHand()
  inHand.add('m0', 100, 0)
  assert.equal(inHand.room(0), 4)
  inHand.expect(3)
  assert.equal(inHand.room(10), 1)
  inHand.add('m1', 100, 20)
  assert.equal(inHand.room(20), 1)
  assert.equal(inHand.room(300), 3)
})

test('what leads to no delivery takes no room when it has come', () => {
  const inHand = createInHand()
  inHand.room(0)
  for (let n = 0; n < 10_000; n++) {
    assert.ok(inHand.room(n / 100) >= 499)
    inHand.expect(1)
    inHand.add(`m${n}`, 0, n / 100)
  }
})

test('what is not heard of again is forgotten', () => {
  const inHand = createInHand()
  inHand.add('lost', 10_000, 0)
  assert.equal(inHand.room(1999), 0)
  assert.ok(inHand.room(2000) > 0)
})

test('messages that it was not given change nothing, and there is never less than no room', () => {
  const step = fc.record({ id: fc.integer({ min: 0, max: 9 }), deliveries: fc.nat(2000), done: fc.boolean(), ms: fc.nat(500) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const inHand = createInHand()
      let nowMs = 0
      for (const { id, deliveries, done, ms } of steps) {
        nowMs += ms
        if (done) inHand.done(`m${id}`, nowMs)
        else inHand.add(`m${id}`, deliveries, nowMs)
        const room = inHand.room(nowMs)
        assert.ok(Number.isInteger(room) && room >= 0)
      }
      assert.ok(inHand.room(nowMs + 10_000) > 0)
    }),
  )
})
