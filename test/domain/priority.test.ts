import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { combine, higher, lineOf, PRIORITIES } from '../../domain/priority.ts'

const priority = fc.constantFrom(...PRIORITIES)
const rank = (one: (typeof PRIORITIES)[number]) => PRIORITIES.indexOf(one)

test('an endpoint of medium priority leaves a message as it is, one of high raises it by a step, one of low lowers it', () => {
  assert.deepEqual(
    PRIORITIES.map((endpoint) => PRIORITIES.map((message) => combine(message, endpoint))),
    [
      ['high', 'high', 'medium'],
      ['high', 'medium', 'low'],
      ['medium', 'low', 'low'],
    ],
  )
})

test('a more urgent message or endpoint never makes a delivery less urgent', () => {
  fc.assert(
    fc.property(priority, priority, priority, (a, b, other) => {
      if (rank(a) > rank(b)) [a, b] = [b, a]
      assert.ok(rank(combine(a, other)) <= rank(combine(b, other)))
      assert.ok(rank(combine(other, a)) <= rank(combine(other, b)))
      assert.equal(higher(a, b), a)
      assert.equal(higher(b, a), a)
    }),
  )
})

test('each application has a line for each priority, and no other has it', () => {
  const lines = ['app_1', 'app_2'].flatMap((appId) => PRIORITIES.map((one) => lineOf(appId, one)))
  assert.equal(new Set(lines).size, 6)
})
