import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createCrowding } from '../../domain/crowding.ts'

test('a process is crowded while somebody publishes little and it is busy', () => {
  let busy = 0.2
  const crowding = createCrowding(() => busy)
  assert.equal(crowding.crowded(1000), false, 'nobody else publishes')
  crowding.modest(1000)
  assert.equal(crowding.crowded(1000), false, 'it is not busy')
  busy = 0.8
  assert.equal(crowding.crowded(1050), false, 'it has been asked just now')
  assert.equal(crowding.crowded(1100), true)
})

test('it stays crowded though it is not busy any more, and ends with those who publish little', () => {
  let busy = 0.8
  const crowding = createCrowding(() => busy)
  crowding.modest(0)
  assert.equal(crowding.crowded(0), true)
  busy = 0.1
  crowding.modest(29_000)
  assert.equal(crowding.crowded(29_999), true)
  assert.equal(crowding.crowded(30_000), false)
  busy = 0.8
  crowding.modest(40_000)
  assert.equal(crowding.crowded(40_000), true)
  assert.equal(crowding.crowded(42_001), false)
})

test('without anybody who publishes little nobody ever waits', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(100_000), { maxLength: 50 }), fc.double({ min: 0, max: 1, noNaN: true }), (times, busy) => {
      const crowding = createCrowding(() => busy)
      return times.every((nowMs) => !crowding.crowded(nowMs))
    }),
  )
})
