import assert from 'node:assert/strict'
import { test } from 'node:test'
import { eventsOf, rateAt } from '../../bench/elastic-load.ts'
import { countOutcome, plotElastic } from '../../bench/elastic-report.ts'
import { spawnScript } from '../support/processes.ts'
import { problemsOf } from './well-formed.ts'

const KILL_MS = 10_000

/** Three events to two endpoints; the third event was never accepted. */
function booksOf(counts: readonly number[], firstAtMs: readonly number[] = counts.map(() => 0)) {
  const accepted = Uint8Array.of(1, 1, 0)
  return {
    published: { accepted, acceptedCount: 2, repeated: 0 },
    arrivals: {
      endpoints: 2,
      counts: Uint16Array.from(counts),
      firstAtMs: Float64Array.from(firstAtMs),
      lastAtMs: Float64Array.from(firstAtMs),
      delivered: 0,
    },
    killedAtMs: [KILL_MS],
    scaled: { up: 1, down: 2 },
  }
}

test('a delivery that did not come is lost, whoever else got the event; what was not accepted does not count', () => {
  const { outcome } = countOutcome(booksOf([1, 0, 1, 1, 0, 0]))
  assert.deepEqual(outcome, {
    accepted: 2,
    delivered: 3,
    lost: 1,
    duplicated: 0,
    duplicatedByKills: 0,
    kills: 1,
    scaledUp: 1,
    scaledDown: 2,
  })
})

test('what came twice is told apart by whether a kill may have been the reason', () => {
  const { outcome, unexplained } = countOutcome(booksOf([3, 2, 2, 1, 0, 0], [KILL_MS - 100, KILL_MS - 60_000, KILL_MS + 5000, 0, 0, 0]))
  assert.deepEqual([outcome.duplicated, outcome.duplicatedByKills], [4, 2])
  assert.equal(unexplained.length, 2)
})

test('the curve is low, high and low again, and has room for all its events', () => {
  const curve = { seconds: 100, low: 10, high: 80 }
  assert.deepEqual(
    [0, 15, 20, 25, 50, 55, 60, 100].map((atS) => Math.round(rateAt(curve, atS))),
    [10, 10, 45, 80, 80, 45, 10, 10],
  )
  const exact = 10 * 100 + 70 * 35
  assert.ok(eventsOf(curve) >= exact && eventsOf(curve) < exact * 1.1 + 100, String(eventsOf(curve)))
})

test('the plot is whole with any number of samples', () => {
  const samples = [0, 1, 2].map((i) => ({ seconds: i + 1, workers: i, accepted: i * 10, delivered: i * 40 }))
  for (const some of [samples, samples.slice(0, 2)]) assert.deepEqual(problemsOf(plotElastic('elastic', some)), [])
})

test('wrong options are refused before anything is started', async () => {
  const drill = spawnScript('bench/drill-elastic.ts', ['--minutes', '0'])
  assert.equal(await drill.ended, 1)
  assert.match(drill.stderr(), /--minutes is a number from 0\.5 to 600/)
})
