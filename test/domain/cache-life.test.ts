import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { expectedUses, isWorthRefreshing } from '../../domain/cache-life.ts'

test('the first life alone says what is expected: its uses, for a whole life', () => {
  assert.equal(expectedUses(undefined, 5, 0.5), 10)
  assert.equal(expectedUses(undefined, 0, 0.9), 0)
})

test('what is expected lies between what was expected before and what was seen', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0, max: 1e6, noNaN: true }),
      fc.nat(1e6),
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      (before, uses, share) => {
        const expected = expectedUses(before, uses, share)
        assert.ok(expected >= Math.min(before, uses / share) && expected <= Math.max(before, uses / share))
      },
    ),
  )
})

test('an entry that was used once a life survives one life without a use, and not a second', () => {
  const idle = expectedUses(1, 0, 1)
  assert.equal(isWorthRefreshing(idle), true)
  assert.equal(isWorthRefreshing(expectedUses(idle, 0, 1)), false)
})

test('however often an entry was used, it is left to expire once it is not used any more', () => {
  let expected = 1e6
  let lives = 0
  for (; isWorthRefreshing(expected); lives++) expected = expectedUses(expected, 0, 1)
  assert.ok(lives <= 21, `${lives} lives`)
})
