import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createBusiest } from '../../domain/busiest.ts'

const TURN_MS = 1000
const busiest = (max: number, countedMax = 1000) => createBusiest({ max, countedMax, turnMs: TURN_MS, create: () => ({ count: 0 }) })

test('while there is room each has a value of its own, after that the others share one', () => {
  const one = busiest(2)
  for (const id of ['a', 'b', 'c', 'd', 'a']) one.of(id, 0).count++
  assert.deepEqual(
    [...one.named].map(([id, { count }]) => [id, count]),
    [
      ['a', 2],
      ['b', 1],
    ],
  )
  assert.equal(one.others.count, 2)
})

test('who comes late and does more takes the place of who does nothing any more', () => {
  const one = busiest(1)
  one.of('first', 0).count++
  for (let i = 0; i < 10; i++) one.of('second', 1).count++
  assert.deepEqual([...one.named.keys()], ['first'])
  // Two turns later nothing is known of the first.
  for (const atMs of [TURN_MS, 2 * TURN_MS, 3 * TURN_MS]) for (let i = 0; i < 10; i++) one.of('second', atMs).count++
  assert.deepEqual([...one.named.keys()], ['second'])
  assert.ok(one.others.count >= 10)
})

test('who is nearly as busy does not take the place of another', () => {
  const one = busiest(1)
  one.of('a', 0)
  one.of('b', 0)
  one.of('b', 0)
  one.of('a', TURN_MS)
  assert.deepEqual([...one.named.keys()], ['a'])
})

test('no more are counted than it may count', () => {
  const one = busiest(1, 2)
  one.of('a', 0)
  one.of('b', 0)
  for (let i = 0; i < 100; i++) one.of('late', 0)
  for (const atMs of [TURN_MS, 2 * TURN_MS, 3 * TURN_MS]) one.of('late', atMs)
  assert.deepEqual([...one.named.keys()], ['late'], 'it is counted from the next turn on')
})

test('whatever happens, at most so many have a value, the others only grow, and nothing is counted twice', () => {
  const uses = fc.array(fc.record({ id: fc.integer({ min: 0, max: 30 }), afterMs: fc.integer({ min: 0, max: 400 }) }), { maxLength: 300 })
  fc.assert(
    fc.property(uses, fc.integer({ min: 0, max: 5 }), (all, max) => {
      const one = busiest(max, 10)
      let [nowMs, before] = [0, 0]
      const values = new Set([one.others])
      for (const { id, afterMs } of all) {
        nowMs += afterMs
        const value = one.of(String(id), nowMs)
        value.count++
        values.add(value)
        assert.ok(one.named.size <= max)
        assert.ok(one.others.count >= before)
        before = one.others.count
      }
      assert.equal(
        [...values].reduce((sum, { count }) => sum + count, 0),
        all.length,
      )
    }),
  )
})
