import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createPrefetch } from '../../domain/prefetch.ts'

test('one message is taken as long as nobody knows what a message leads to', () => {
  const prefetch = createPrefetch()
  assert.equal(prefetch.room(0), 1)
  prefetch.taken(0, 0, 0)
  assert.equal(prefetch.room(0), 1)
  prefetch.taken(1, 40, 0)
  assert.equal(prefetch.room(0), 1)
  prefetch.routed(1)
  assert.equal(prefetch.room(0), 2)
})

test('nothing is taken while enough is in hand, and again when half of it has been sent', () => {
  const prefetch = createPrefetch()
  prefetch.taken(10, 100, 0)
  assert.equal(prefetch.room(0), 0)
  prefetch.routed(10)
  prefetch.begin(100)
  assert.equal(prefetch.room(0), 0)
  for (let n = 0; n < 49; n++) prefetch.ended(0)
  assert.equal(prefetch.room(0), 0)
  prefetch.ended(0)
  assert.equal(prefetch.room(0), 5)
})

test('a process takes what it sends in a second', () => {
  const prefetch = createPrefetch()
  prefetch.taken(4000, 4000, 0)
  prefetch.routed(4000)
  prefetch.begin(4000)
  // 2 in each millisecond.
  for (let n = 0; n < 4000; n++) prefetch.ended(n / 2)
  const room = prefetch.room(2000)
  assert.ok(room > 1500 && room < 2500, String(room))
})

test('what was taken and went to another process is forgotten', () => {
  const prefetch = createPrefetch()
  prefetch.taken(1000, 1000, 0)
  assert.equal(prefetch.room(1000), 0)
  assert.equal(prefetch.room(2001), 100)
})

test('each group that went to another process is forgotten by itself, also while more is taken', () => {
  const prefetch = createPrefetch()
  for (let nowMs = 0; nowMs <= 10_000; nowMs += 500) prefetch.taken(10, 10, nowMs)
  // Those of the last two seconds are left.
  assert.equal(prefetch.room(10_000), 50)
  prefetch.routed(10)
  assert.equal(prefetch.room(10_000), 60)
})

test('groups of messages that lead to much and to little each count as what they are', () => {
  const prefetch = createPrefetch()
  prefetch.taken(50, 50, 0)
  prefetch.taken(1, 45, 0)
  assert.equal(prefetch.room(0), 0)
  prefetch.routed(50)
  assert.ok(prefetch.room(0) > 0)
})

test('whatever is taken and sent, there is room again when nothing is in hand', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(200), fc.nat(50), fc.nat(500)), { maxLength: 50 }), (groups) => {
      const prefetch = createPrefetch()
      let nowMs = 0
      for (const [messages, each, tookMs] of groups) {
        prefetch.taken(messages, messages * each, nowMs)
        prefetch.routed(messages)
        prefetch.begin(messages * each)
        nowMs += tookMs
        for (let n = 0; n < messages * each; n++) prefetch.ended(nowMs)
        assert.ok(prefetch.room(nowMs) >= 1)
      }
    }),
  )
})
