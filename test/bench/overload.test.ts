import assert from 'node:assert/strict'
import { test } from 'node:test'
import { plotOverload, trendOf, trendTable, type Sample } from '../../bench/overload-report.ts'
import { problemsOf } from './well-formed.ts'

/** Ten minutes, every two seconds. */
function samplesOf(mb: (seconds: number) => number): Sample[] {
  return Array.from({ length: 301 }, (_, i) => {
    const seconds = i * 2
    return { seconds, mb: { node: mb(seconds) }, accepted: i * 10, refused: i, backlog: i % 7, delivered: i * 100 }
  })
}

test('memory that rises at first and then stays is flat', () => {
  const trend = trendOf(
    samplesOf((seconds) => Math.min(500, 200 + seconds * 2) + (seconds % 4)),
    'node',
  )
  assert.deepEqual([trend.minute1, trend.middle, trend.end, trend.max], [320, 500, 500, 502])
  assert.equal(trend.flat, true)
  assert.ok(Math.abs(trend.slope) < 1, String(trend.slope))
})

test('memory that grows through the second half is not flat, and its slope is told by the minute', () => {
  const trend = trendOf(
    samplesOf((seconds) => 400 + seconds / 6),
    'node',
  )
  assert.equal(trend.slope, 10)
  assert.equal(trend.flat, false)
})

test('table and plot are whole with any number of samples', () => {
  for (const samples of [samplesOf(() => 400), samplesOf(() => 400).slice(0, 1)]) {
    assert.match(trendTable(samples), /\| node +\| 400 +\| 400 +\| 400 +\| 400 +\| 0\.00 +\| yes/)
    assert.deepEqual(problemsOf(plotOverload('overload', samples)), [])
  }
})
