import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Disposition } from '../../activities/attempt.ts'
import { createRunMemory } from '../../activities/run-memory.ts'

const DELIVERED: Promise<Disposition> = Promise.resolve({ kind: 'delivered' })

test('a run is remembered with what it has sent, and another run is not known', () => {
  const runs = createRunMemory()
  assert.equal(runs.get('run'), undefined)
  runs.begin('run').set('msg', 'ep', DELIVERED)
  assert.equal(runs.get('run')?.get('msg', 'ep'), DELIVERED)
  assert.equal(runs.get('run')?.get('ep', 'msg'), undefined)
  assert.equal(runs.get('reset'), undefined)
})

test('what is delivered is remembered as delivered, what is to be retried as what it was', async () => {
  const pairs = createRunMemory().begin('run')
  const delivered: Promise<Disposition> = Promise.resolve({ kind: 'delivered' })
  const retrying: Promise<Disposition> = Promise.resolve({ kind: 'retrying', nextAtMs: 7, reason: 'r' })
  pairs.set('a', 'ep', delivered)
  pairs.set('b', 'ep', retrying)
  pairs.delivered('a', 'ep')
  assert.equal(pairs.size, 2)
  assert.deepEqual([await pairs.get('a', 'ep'), await pairs.get('b', 'ep')], [await delivered, await retrying])
})

test('a group that was handed to this process is expected once, and not for long', () => {
  let nowMs = 0
  const runs = createRunMemory(() => nowMs)
  runs.expectGroup('g')
  assert.deepEqual([runs.takeExpected('g'), runs.takeExpected('g'), runs.takeExpected('other')], [true, false, false])
  runs.expectGroup('late')
  // The timeout of a workflow task, after which it may have been executed elsewhere.
  nowMs = 10_000
  assert.equal(runs.takeExpected('late'), false)
})

test('a run is remembered for as long as its task may come back, and forgotten later', () => {
  let nowMs = 0
  const runs = createRunMemory(() => nowMs)
  runs.begin('first')
  nowMs = 30_000
  for (let i = 0; i < 200; i++) runs.begin(`run ${i}`)
  assert.ok(runs.get('first'))
  nowMs = 61_000
  for (let i = 200; i < 400; i++) runs.begin(`run ${i}`)
  assert.equal(runs.get('first'), undefined)
  assert.ok(runs.get('run 0'))
})

test('memory is bounded by the number of pairs, the oldest runs going first', () => {
  const runs = createRunMemory(() => 0)
  for (let run = 0; run < 640; run++) {
    const pairs = runs.begin(`run ${run}`)
    for (let i = 0; i < 1000; i++) pairs.set(`${i}`, 'ep', DELIVERED)
  }
  const kept = Array.from({ length: 640 }, (_, run) => runs.get(`run ${run}`) !== undefined)
  assert.equal(kept[0], false)
  assert.equal(kept.at(-1), true)
  assert.ok(kept.filter(Boolean).length <= 370, `${kept.filter(Boolean).length} runs of 1,000 pairs are kept`)
})
