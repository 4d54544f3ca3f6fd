import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEndpointRuns } from '../../activities/endpoint-runs.ts'

const SLOTS = { fast: 100, slow: 20, retry: 200 }

test('an endpoint has a tenth of the activities of the slow and of the retry lane, each for itself', () => {
  const runs = createEndpointRuns(SLOTS)
  const begin = (lane: 'slow' | 'retry', times: number) => Array.from({ length: times }, () => runs.begin(lane, 'ep_1').isOver)
  assert.deepEqual(begin('slow', 3), [false, false, true])
  assert.equal(begin('retry', 21).filter((isOver) => isOver).length, 1)
  assert.equal(runs.begin('slow', 'ep_2').isOver, false)
})

test('what has ended counts no more', () => {
  const runs = createEndpointRuns(SLOTS)
  const first = runs.begin('slow', 'ep_1')
  runs.begin('slow', 'ep_1')
  first.end()
  assert.equal(runs.begin('slow', 'ep_1').isOver, false)
  assert.equal(runs.begin('slow', 'ep_1').isOver, true)
})

test('where a lane has few activities an endpoint has one', () => {
  const runs = createEndpointRuns({ ...SLOTS, slow: 3 })
  assert.equal(runs.begin('slow', 'ep_1').isOver, false)
  assert.equal(runs.begin('slow', 'ep_1').isOver, true)
})

test('the fast lane has no such bound', () => {
  const runs = createEndpointRuns(SLOTS)
  for (let i = 0; i < 200; i++) assert.equal(runs.begin('fast', 'ep_1').isOver, false)
})
