import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  chooseReplica,
  createPrimaryPositions,
  createRecentWrites,
  lookAgainAfterMs,
  type PrimarySample,
  type ReplicaSight,
} from '../../domain/replicas.ts'

const ANY = { completeUntilMs: -Infinity, position: 0 }

/** What was committed by a time lies below the position that the primary had then or later. */
const history = fc.array(fc.record({ afterMs: fc.integer({ min: 1, max: 2000 }), bytes: fc.integer({ min: 0, max: 3 }) }), {
  maxLength: 60,
})

function samplesOf(steps: readonly { afterMs: number; bytes: number }[]): PrimarySample[] {
  let [atMs, position] = [0, 100]
  return steps.map((step) => ({ atMs: (atMs += step.afterMs), position: (position += step.bytes) }))
}

test('a replica is never taken to be fresher than what it has applied allows', () => {
  fc.assert(
    fc.property(history, fc.integer({ min: 90, max: 300 }), (steps, applied) => {
      const samples = samplesOf(steps)
      const positions = createPrimaryPositions()
      for (const sample of samples) positions.add(sample)
      const untilMs = positions.completeUntil(applied)
      const exact = samples.findLast((one) => one.position <= applied)?.atMs ?? -Infinity
      assert.ok(untilMs <= exact)
      // Nothing is given away of the last two samples, and little before.
      if (applied >= (samples.at(-1)?.position ?? Infinity)) assert.equal(untilMs, samples.at(-1)!.atMs)
      assert.ok(exact === -Infinity || untilMs >= exact - 2500 || samples.findIndex((one) => one.atMs === exact) === 0)
    }),
  )
})

test('an idle primary makes nobody late, however long it is idle', () => {
  const positions = createPrimaryPositions()
  for (let atMs = 0; atMs <= 3_600_000; atMs += 1000) positions.add({ atMs, position: 5000 })
  assert.equal(positions.completeUntil(5000), 3_600_000)
  assert.equal(positions.completeUntil(4999), -Infinity)
})

test('looks close together do not push out what a late replica is held against', () => {
  const positions = createPrimaryPositions()
  for (let i = 0; i <= 20_000; i++) positions.add({ atMs: i * 20, position: i })
  // 400 s of them.
  assert.ok(positions.completeUntil(50) >= 0)
  const untilMs = positions.completeUntil(10_000)
  assert.ok(untilMs <= 200_000 && untilMs > 199_000)
  assert.equal(positions.completeUntil(20_000), 400_000)
})

test('a position that falls is of another primary: what was known is void', () => {
  const positions = createPrimaryPositions()
  positions.add({ atMs: 1000, position: 100 })
  positions.add({ atMs: 2000, position: 200 })
  positions.add({ atMs: 3000, position: 150 })
  assert.equal(positions.completeUntil(149), -Infinity)
  assert.equal(positions.completeUntil(150), 3000)
})

const sights = (...untilMs: number[]): ReplicaSight[] =>
  untilMs.map((completeUntilMs, i) => ({ name: `db${i}:5432`, completeUntilMs, position: completeUntilMs }))

test('a key has one replica while that is there, others keep theirs when one is away, and each has its share', () => {
  const replicas = sights(10, 10, 10)
  const keys = Array.from({ length: 3000 }, (_, i) => `app_${i}`)
  const before = keys.map((key) => chooseReplica(replicas, key, ANY)!.name)
  assert.deepEqual(
    keys.map((key) => chooseReplica([...replicas].reverse(), key, ANY)!.name),
    before,
  )
  for (const { name } of replicas) assert.ok(Math.abs(before.filter((one) => one === name).length - 1000) < 150, name)
  const left = replicas.slice(1)
  keys.forEach((key, i) => {
    if (before[i] !== replicas[0]!.name) assert.equal(chooseReplica(left, key, ANY)!.name, before[i])
  })
  const moved = keys.filter((_, i) => before[i] === replicas[0]!.name).map((key) => chooseReplica(left, key, ANY)!.name)
  assert.ok(Math.abs(moved.filter((one) => one === left[0]!.name).length / moved.length - 0.5) < 0.1)
})

test('only what is fresh enough, and far enough, is chosen', () => {
  const replicas = sights(1000, 2000, -Infinity)
  assert.equal(chooseReplica(replicas, 'key', { completeUntilMs: 1500, position: 0 })!.name, 'db1:5432')
  assert.equal(chooseReplica(replicas, 'key', { completeUntilMs: 0, position: 1001 })!.name, 'db1:5432')
  assert.equal(chooseReplica(replicas, 'key', { completeUntilMs: 2001, position: 0 }), undefined)
  assert.equal(chooseReplica([], 'key', ANY), undefined)
})

test('a replica that fails is left alone for longer and longer, up to a bound', () => {
  assert.deepEqual(
    [1, 2, 3, 4, 5, 50].map((failures) => lookAgainAfterMs(failures, 1000, 15_000)),
    [1000, 2000, 4000, 8000, 15_000, 15_000],
  )
})

test('the last write of an application is known until it is forgotten, or taken to be later than it was', () => {
  const writes = createRecentWrites(3)
  assert.equal(writes.lastWrite('a'), -Infinity)
  writes.wrote('a', 1)
  writes.wrote('b', 2)
  writes.wrote('a', 3)
  writes.wrote('c', 4)
  assert.deepEqual(['a', 'b', 'c', 'd'].map(writes.lastWrite), [3, 2, 4, -Infinity])
  writes.wrote('d', 5)
  // There is no room for b: whoever is not known may have been written to then.
  assert.deepEqual(['a', 'b', 'e'].map(writes.lastWrite), [3, 2, 2])
  writes.forgetBefore(4)
  assert.deepEqual(['a', 'b', 'c', 'd', 'e'].map(writes.lastWrite), [-Infinity, -Infinity, 4, 5, -Infinity])
  assert.equal(writes.size, 2)
})
