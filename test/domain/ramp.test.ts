import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { rampEndsMs, rampRate } from '../../domain/ramp.ts'

const rules = fc.record({
  start: fc.double({ min: 0.1, max: 100, noNaN: true }),
  doubleMs: fc.integer({ min: 1, max: 60_000 }),
  free: fc.double({ min: 100, max: 100_000, noNaN: true }),
})
const times = fc.integer({ min: -1_000_000, max: 10_000_000 })

test('a ramp never falls, never exceeds the free rate and begins with its own', () => {
  fc.assert(
    fc.property(rules, times, times, (rule, a, b) => {
      const ramp = { rate: rule.start, fromMs: 0 }
      const [earlier, later] = [Math.min(a, b), Math.max(a, b)].map((atMs) => rampRate(ramp, atMs, rule)) as [number, number]
      assert.ok(earlier <= later)
      assert.ok(later <= rule.free)
      assert.equal(rampRate(ramp, 0, rule), Math.min(rule.free, rule.start))
    }),
  )
})

test('a ramp doubles in its time, and ends where it reaches the free rate', () => {
  fc.assert(
    fc.property(rules, (rule) => {
      const ramp = { rate: rule.start, fromMs: 1000 }
      const doubled = rampRate(ramp, 1000 + rule.doubleMs, rule)
      assert.ok(Math.abs(doubled - Math.min(rule.free, 2 * rule.start)) < 1e-6)
      const endMs = rampEndsMs(ramp, rule)
      assert.ok(rampRate(ramp, endMs, rule) > rule.free * (1 - 1e-6))
      if (endMs - rule.doubleMs > ramp.fromMs) assert.ok(rampRate(ramp, endMs - rule.doubleMs, rule) < rule.free * 0.51)
    }),
  )
})
