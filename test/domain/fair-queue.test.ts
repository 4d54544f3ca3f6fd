import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createFairQueue } from '../../domain/fair-queue.ts'

interface Item {
  readonly key: string
  readonly number: number
}

const operations = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ push: fc.constantFrom('a', 'b', 'c', 'd', 'e') }) },
    { weight: 1, arbitrary: fc.record({ take: fc.integer({ min: 0, max: 12 }) }) },
  ),
  { maxLength: 200 },
)

/** Runs the operations against the queue; `onTake` sees what each take gave, and what waited before it. */
function play(
  given: readonly ({ push: string } | { take: number })[],
  onTake: (taken: Item[], waiting: Map<string, Item[]>, max: number) => void,
) {
  const queue = createFairQueue<Item>()
  const waiting = new Map<string, Item[]>()
  let pushed = 0
  for (const operation of [...given, { take: 1000 }]) {
    if ('push' in operation) {
      const item = { key: operation.push, number: pushed++ }
      queue.push(item.key, item)
      waiting.set(item.key, [...(waiting.get(item.key) ?? []), item])
      continue
    }
    const taken = queue.take(operation.take)
    onTake(taken, waiting, operation.take)
    const gone = new Set(taken)
    for (const [key, line] of waiting)
      waiting.set(
        key,
        line.filter((item) => !gone.has(item)),
      )
    assert.equal(queue.size, [...waiting.values()].flat().length)
  }
  return { queue, pushed }
}

test('every item comes out once, in the order of its key', () => {
  fc.assert(
    fc.property(operations, (given) => {
      const out: Item[] = []
      const { queue, pushed } = play(given, (taken) => void out.push(...taken))
      assert.equal(out.length, pushed)
      assert.equal(new Set(out.map((item) => item.number)).size, pushed)
      assert.equal(queue.size, 0)
      for (const key of 'abcde') {
        const numbers = out.filter((item) => item.key === key).map((item) => item.number)
        assert.deepEqual(
          numbers,
          numbers.toSorted((a, b) => a - b),
        )
      }
    }),
  )
})

test('a take is as full as what waits allows', () => {
  fc.assert(
    fc.property(operations, (given) => {
      play(given, (taken, waiting, max) => assert.equal(taken.length, Math.min(max, [...waiting.values()].flat().length)))
    }),
  )
})

test('within a take no key is a turn ahead of one that still waits', () => {
  fc.assert(
    fc.property(operations, (given) => {
      play(given, (taken, waiting) => {
        const turns = (key: string) => taken.filter((item) => item.key === key).length
        const most = Math.max(0, ...[...waiting.keys()].map(turns))
        for (const [key, line] of waiting) {
          if (line.length > turns(key)) assert.ok(turns(key) >= most - 1, `${key} got ${turns(key)} of ${most} turns and still waits`)
        }
      })
    }),
  )
})

const WEIGHTS: Readonly<Record<string, number>> = { a: 8, b: 4, c: 1, d: 3 }

test('keys that wait all the time are served by their weights, whatever the sizes of the takes', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 40 })
  fc.assert(
    fc.property(fc.shuffledSubarray(Object.keys(WEIGHTS), { minLength: 2 }), sizes, (keys, takes) => {
      const queue = createFairQueue<string>()
      for (let i = 0; i < 1600; i++) for (const key of keys) queue.push(key, key, WEIGHTS[key])
      const served = new Map(keys.map((key) => [key, 0]))
      for (const size of takes) {
        for (const key of queue.take(size)) served.set(key, served.get(key)! + 1)
        const turns = keys.map((key) => served.get(key)! / WEIGHTS[key]!)
        assert.ok(Math.max(...turns) - Math.min(...turns) <= 1, JSON.stringify([...served]))
      }
    }),
  )
})

test('what has waited behind a flood of greater weight gets its turns while the flood goes on', () => {
  const queue = createFairQueue<string>()
  for (let i = 0; i < 20_000; i++) queue.push('flood', 'flood', 8)
  for (let i = 0; i < 10; i++) queue.push('low', 'low', 1)
  const first = Array.from({ length: 90 }, () => queue.take(1)).flat()
  assert.equal(first.filter((item) => item === 'low').length, 10)
})

test('over many small takes a flooding key gets no more turns than a modest one', () => {
  const queue = createFairQueue<string>()
  for (let i = 0; i < 1000; i++) queue.push('flood', `flood ${i}`)
  for (let i = 0; i < 10; i++) queue.push('modest', `modest ${i}`)
  const first = Array.from({ length: 20 }, () => queue.take(1)).flat()
  assert.equal(first.filter((item) => item.startsWith('modest')).length, 10)
})
