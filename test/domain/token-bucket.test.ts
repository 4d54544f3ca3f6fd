import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { allot, refilled, waitMs, type Rate } from '../../domain/token-bucket.ts'

const KEYS = ['endpoint', 'application', 'retry'] as const
const rateOf = (key: string): Rate => ({ key, perSecond: 10, burst: 5 })
const asks = fc.array(
  fc.subarray([...KEYS], { minLength: 1 }).map((keys) => keys.map(rateOf)),
  { maxLength: 50 },
)
const grants = fc.record({ endpoint: fc.nat(30), application: fc.nat(30), retry: fc.nat(30) })

test('no bucket gives more than it was granted, and what is left over is exactly what nobody took', () => {
  fc.assert(
    fc.property(asks, grants, (wanted, given) => {
      const left = new Map<string, number>(Object.entries(given))
      const allowed = allot(wanted, left)
      for (const key of KEYS) {
        const took = wanted.filter((rates, i) => allowed[i] && rates.some((rate) => rate.key === key)).length
        assert.equal(left.get(key), given[key] - took)
        assert.ok(left.get(key)! >= 0)
      }
    }),
  )
})

test('of those that need the same tokens the first goes first', () => {
  fc.assert(
    fc.property(fc.nat(20), fc.nat(20), (count, given) => {
      const allowed = allot(
        Array.from({ length: count }, () => [rateOf('endpoint')]),
        new Map([['endpoint', given]]),
      )
      assert.deepEqual(
        allowed,
        Array.from({ length: count }, (_, i) => i < given),
      )
    }),
  )
})

test('nobody is refused while every bucket that he needs has a token left', () => {
  fc.assert(
    fc.property(asks, grants, (wanted, given) => {
      const left = new Map<string, number>(Object.entries(given))
      const allowed = allot(wanted, left)
      wanted.forEach((rates, i) => {
        if (!allowed[i]) assert.ok(rates.some(({ key }) => left.get(key) === 0))
      })
    }),
  )
})

test('a bucket never holds more than its burst, and fills at its rate', () => {
  const rates = fc.record({
    key: fc.constant('endpoint'),
    perSecond: fc.integer({ min: 1, max: 10_000 }),
    burst: fc.integer({ min: 1, max: 1000 }),
  })
  fc.assert(
    fc.property(rates, fc.double({ min: 0, max: 1, noNaN: true }), fc.integer({ min: -1000, max: 100_000 }), (rate, share, elapsedMs) => {
      const tokens = rate.burst * share
      const after = refilled(tokens, elapsedMs, rate)
      assert.ok(after <= rate.burst && after >= Math.min(tokens, rate.burst))
      assert.ok(after - tokens <= (Math.max(0, elapsedMs) * rate.perSecond) / 1000 + 1e-9)
    }),
  )
})

test('who waits as long as he is told finds his token', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0, max: 0.99, noNaN: true }),
      fc.nat(100),
      fc.integer({ min: 1, max: 1000 }),
      (tokens, position, perSecond) => {
        const rate = { key: 'endpoint', perSecond, burst: 1000 }
        assert.ok(refilled(tokens, waitMs(tokens, position, rate), rate) >= position + 1 - 1e-6)
      },
    ),
  )
})
