import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { afterRequest, isSlow, QUICK_ANSWERS, QUICK_MS, SLOW_ABOVE_MS, SLOW_FOR_MS, type Slowness } from '../../domain/lanes.ts'

const requests = (durationMs: fc.Arbitrary<number>) => fc.array(fc.record({ durationMs, afterMs: fc.integer({ min: 0, max: 5000 }) }))
const between = fc.integer({ min: QUICK_MS, max: SLOW_ABOVE_MS })
const any = fc.oneof(fc.integer({ min: 0, max: 60_000 }), fc.constant(Infinity))

function play(given: readonly { durationMs: number; afterMs: number }[], from?: Slowness) {
  let slowness = from
  let nowMs = from?.lastMs ?? 0
  for (const { durationMs, afterMs } of given) {
    nowMs += afterMs
    slowness = afterRequest(slowness, durationMs, nowMs)
  }
  return { slowness, nowMs, slow: slowness !== undefined && isSlow(slowness, nowMs) }
}

test('between one and five seconds an endpoint stays in its lane', () => {
  fc.assert(
    fc.property(requests(between), (given) => {
      assert.equal(play(given).slow, false)
      assert.equal(play(given, { lastMs: 0, quick: 0 }).slow, true)
    }),
  )
})

test('a request over five seconds, or without an answer, moves an endpoint whatever came before', () => {
  fc.assert(
    fc.property(
      requests(any),
      fc.oneof(fc.integer({ min: SLOW_ABOVE_MS + 1, max: 60_000 }), fc.constant(Infinity)),
      (given, durationMs) => {
        assert.equal(play([...given, { durationMs, afterMs: 0 }]).slow, true)
      },
    ),
  )
})

test('as many quick answers in a row as the rule says bring it back, and one less does not', () => {
  fc.assert(
    fc.property(requests(any), fc.integer({ min: 0, max: QUICK_MS - 1 }), (given, durationMs) => {
      const moved = play([...given, { durationMs: Infinity, afterMs: 0 }])
      const quick = Array.from({ length: QUICK_ANSWERS }, () => ({ durationMs, afterMs: 1 }))
      assert.equal(play(quick.slice(1), moved.slowness).slow, true)
      assert.equal(play(quick, moved.slowness).slow, false)
    }),
  )
})

test('without requests it is tried in the fast lane after a minute', () => {
  const slowness = afterRequest(undefined, Infinity, 1000)!
  assert.equal(isSlow(slowness, 1000 + SLOW_FOR_MS - 1), true)
  assert.equal(isSlow(slowness, 1000 + SLOW_FOR_MS), false)
})
