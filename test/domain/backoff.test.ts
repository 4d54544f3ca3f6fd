import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { DEFAULT_JITTER, DEFAULT_SCHEDULE_MS, nextDelayMs, spreadOf, type BackoffInput } from '../../domain/backoff.ts'
import type { AttemptOutcome } from '../../domain/outcome.ts'

const DAY_MS = 86_400_000
const FAILED: AttemptOutcome = { kind: 'rejected', statusCode: 500, body: '', durationMs: 5 }

const policy = fc.record({
  scheduleMs: fc.array(fc.integer({ min: 1, max: DAY_MS }), { minLength: 1, maxLength: 30 }),
  maxDelayMs: fc.integer({ min: 1, max: DAY_MS }),
  jitter: fc.double({ min: 0, max: 1, noNaN: true }),
})
const successRate = fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: undefined })
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
const retryAfterMs = fc.option(fc.integer({ min: 0, max: 10 * DAY_MS }), { nil: undefined })

const input: fc.Arbitrary<BackoffInput> = fc
  .record({ policy, attempts: fc.integer({ min: 1, max: 31 }), rate: successRate, random, retryAfterMs })
  .map(({ rate, retryAfterMs: asked, ...rest }) => ({
    ...rest,
    health: { successRate: rate },
    outcome: { ...FAILED, retryAfterMs: asked },
  }))

const plain = (changes: Partial<BackoffInput>): BackoffInput => ({
  policy: { scheduleMs: DEFAULT_SCHEDULE_MS, maxDelayMs: DAY_MS, jitter: DEFAULT_JITTER },
  attempts: 1,
  health: { successRate: undefined },
  outcome: FAILED,
  random: 0.5,
  ...changes,
})

test('a delivery has exactly one attempt more than the schedule has delays', () => {
  fc.assert(
    fc.property(input, (one) => {
      const left = one.attempts <= one.policy.scheduleMs.length
      assert.equal(nextDelayMs(one) !== undefined, left)
    }),
  )
})

test('a delay is never negative, fractional, or over the maximum of the policy', () => {
  fc.assert(
    fc.property(input, (one) => {
      const delayMs = nextDelayMs(one)
      if (delayMs === undefined) return
      assert.ok(Number.isInteger(delayMs) && delayMs >= 0 && delayMs <= one.policy.maxDelayMs, `${delayMs}`)
    }),
  )
})

test('without Retry-After a delay stays within the jitter around its step, halved or doubled by health, up to the maximum', () => {
  fc.assert(
    fc.property(input, (one) => {
      const step = one.policy.scheduleMs[one.attempts - 1]
      const delayMs = nextDelayMs({ ...one, outcome: FAILED })
      if (step === undefined || delayMs === undefined) return
      const rate = one.health.successRate
      const factor = rate === undefined ? 1 : rate > 0.95 ? 0.5 : rate < 0.5 ? 2 : 1
      const low = Math.min(one.policy.maxDelayMs, step * factor * (1 - one.policy.jitter))
      const high = Math.min(one.policy.maxDelayMs, step * factor * (1 + one.policy.jitter))
      assert.ok(delayMs >= low - 1 && delayMs <= high + 1, `${delayMs} is not between ${low} and ${high}`)
    }),
  )
})

test('Retry-After is never undercut up to the maximum of the policy', () => {
  fc.assert(
    fc.property(input, (one) => {
      const delayMs = nextDelayMs(one)
      if (delayMs === undefined) return
      assert.ok(delayMs >= Math.min(one.policy.maxDelayMs, one.outcome.retryAfterMs ?? 0))
    }),
  )
})

test('Retry-After shortens no delay', () => {
  fc.assert(
    fc.property(input, (one) => {
      const without = nextDelayMs({ ...one, outcome: FAILED })
      const delayMs = nextDelayMs(one)
      if (delayMs === undefined || without === undefined) return
      assert.ok(delayMs >= without)
    }),
  )
})

test('more luck with the dice never means a shorter delay', () => {
  fc.assert(
    fc.property(input, random, (one, other) => {
      const [low, high] = [Math.min(one.random, other), Math.max(one.random, other)]
      const [short, long] = [nextDelayMs({ ...one, random: low }), nextDelayMs({ ...one, random: high })]
      if (short === undefined || long === undefined) return
      assert.ok(short <= long)
    }),
  )
})

test('the default schedule is that of the documentation', () => {
  const delays = DEFAULT_SCHEDULE_MS.map((_, i) => nextDelayMs(plain({ attempts: i + 1 })))
  assert.deepEqual(
    delays.map((ms) => ms! / 1000),
    [1, 2, 4, 8, 16, 60, 300, 1800, 7200, 18_000, 36_000, 36_000],
  )
  assert.equal(nextDelayMs(plain({ attempts: 13 })), undefined)
})

test('health speeds up above 95 % and slows down below 50 %, and exactly there it does neither', () => {
  const at = (rate: number | undefined) => nextDelayMs(plain({ attempts: 3, health: { successRate: rate } }))
  assert.equal(at(undefined), 4000)
  assert.equal(at(1), 2000)
  assert.equal(at(0.951), 2000)
  assert.equal(at(0.95), 4000)
  assert.equal(at(0.5), 4000)
  assert.equal(at(0.499), 8000)
  assert.equal(at(0), 8000)
})

test('jitter takes up to a fifth and adds up to a fifth', () => {
  assert.equal(nextDelayMs(plain({ attempts: 6, random: 0 })), 48_000)
  assert.equal(nextDelayMs(plain({ attempts: 6, random: 1 - Number.EPSILON })), 72_000)
})

test('a Retry-After beyond the maximum waits for the maximum', () => {
  assert.equal(nextDelayMs(plain({ outcome: { ...FAILED, retryAfterMs: 30 * DAY_MS } })), DAY_MS)
})

test('the spread of a name is the same each time, and those of many names fill the range', () => {
  const spreads = Array.from({ length: 1000 }, (_, i) => spreadOf(1, 'msg_group', `ep_${i}`))
  assert.deepEqual(
    spreads,
    spreads.map((_, i) => spreadOf(1, 'msg_group', `ep_${i}`)),
  )
  for (let tenth = 0; tenth < 10; tenth++) {
    const inTenth = spreads.filter((spread) => Math.floor(spread * 10) === tenth).length
    assert.ok(inTenth > 50 && inTenth < 150, `${inTenth} of 1000 in tenth ${tenth}`)
  }
})
