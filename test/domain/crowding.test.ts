import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createCrowding } from '../../domain/crowding.ts'

test('a process is crowded while somebody publishes little and it is busy', () => {
  let busy = 0.2
  const crowding = createCrowding(() => busy)
  crowding.published('flood', false, 1000)
  assert.equal(crowding.crowded(1000), false, 'nobody else publishes')
  crowding.published('modest', true, 1000)
  assert.equal(crowding.crowded(1000), false, 'it is not busy')
  busy = 0.8
  assert.equal(crowding.crowded(1050), false, 'it has been asked just now')
  assert.equal(crowding.crowded(1100), true)
})

test('it stays crowded though it is not busy any more, and ends with those who publish little', () => {
  let busy = 0.8
  const crowding = createCrowding(() => busy)
  crowding.published('modest', true, 0)
  assert.equal(crowding.crowded(0), true)
  busy = 0.1
  crowding.published('modest', true, 29_500)
  assert.equal(crowding.crowded(29_999), true)
  assert.equal(crowding.crowded(30_000), false)
  busy = 0.8
  crowding.published('modest', true, 40_000)
  assert.equal(crowding.crowded(40_000), true)
  assert.equal(crowding.crowded(42_000), false)
})

test('those who all publish much never wait for one another, though each began with a little', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.nat(500)), { maxLength: 50 }), (publishes) => {
      const crowding = createCrowding(() => 1)
      let nowMs = 0
      for (const who of ['a', 'b', 'c']) crowding.published(who, true, nowMs)
      for (const who of ['a', 'b', 'c']) crowding.published(who, false, nowMs)
      return publishes.every(([who, waitMs]) => {
        nowMs += waitMs
        crowding.published(who, false, nowMs)
        return !crowding.crowded(nowMs)
      })
    }),
  )
})
