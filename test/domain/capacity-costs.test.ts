import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  batchedCpuMs,
  costsOfResults,
  lineThrough,
  readFootprint,
  readUnitCosts,
  type Footprint,
  type MeasuredResult,
  type UnitCosts,
} from '../../domain/capacity-costs.ts'

const near = (actual: number, expected: number, what: string) =>
  assert.ok(Math.abs(actual - expected) < 1e-6 * Math.max(1, expected), `${what}: ${actual}`)

/** A run in which an event costs 0.3 ms of the service's CPU and a delivery 0.2, and a fan-out of its own 12 ms besides. */
function result(scenario: string, f: number, m: number, changes: Partial<MeasuredResult> = {}): MeasuredResult {
  const alone = scenario === 'S4' ? 12 : 0
  return {
    ...{ peer: 'tidings', scenario, f, m, delivered: f * m, cpu_s_total: 1 },
    cpu_s: {
      node: (m * (0.3 + 0.2 * f + alone)) / 1000,
      temporal: (m * (0.1 + 0.05 * f + 1.25 * alone)) / 1000,
      postgres: (m * 0.04 * f) / 1000,
    },
    database: { transactions_per_delivery: 0.1, wal_bytes_per_delivery: (2700 + 760 * f) / f },
    ...changes,
  }
}

const run = (): MeasuredResult[] => [result('S1', 1, 5000), result('S2', 10, 1000), result('S3', 100, 200), result('S4', 1, 400)]

const FOOTPRINT: Footprint = {
  ...{ storedBytesPerEvent: 1800, storedBytesPerDelivery: 600, storedBytesPerWebhook: 700 },
  ...{ historyBytesPerFanOut: 3000, historyBytesPerEvent: 30, requestBytes: 305 },
}

function costsOf(results: readonly MeasuredResult[]): UnitCosts {
  const read = costsOfResults(results, FOOTPRINT)
  assert.ok('costs' in read, JSON.stringify(read))
  return read.costs
}

test('costs of an event, a delivery and a fan-out are found again in what was measured', () => {
  const costs = costsOf(run())
  near(costs.serviceCpuMsPerEvent, 0.3, 'event')
  near(costs.serviceCpuMsPerDelivery, 0.2, 'delivery')
  near(costs.serviceCpuMsPerFanOut, 12, 'fan-out')
  near(costs.temporalCpuMsPerFanOut, 15, 'fan-out, Temporal')
  near(costs.walBytesPerEvent, 2700, 'log of an event')
  near(costs.walBytesPerDelivery, 760, 'log of a delivery')
  near(costs.transactionsPerDelivery, 0.1, 'transactions')
  near(costs.postgresCpuMsPerEvent, 0, 'Postgres, an event')
})

test('the median of the repetitions counts, and what is of others does not', () => {
  const outlier = result('S1', 1, 5000, { cpu_s: { node: 1000, temporal: 1000, postgres: 1000 } })
  const relay = result('S1', 1, 5000, { peer: 'relay', cpu_s: {} })
  assert.deepEqual(costsOf([...run(), result('S1', 1, 5000), outlier, relay]), costsOf(run()))
})

test('a run that lacks a scenario is refused, by its name', () => {
  for (const missing of ['S1', 'S2', 'S3', 'S4']) {
    const read = costsOfResults(
      run().filter(({ scenario }) => scenario !== missing),
      FOOTPRINT,
    )
    assert.ok('problems' in read)
    assert.match(read.problems[0]!.text, new RegExp(`has no ${missing} of Tidings`))
  }
  const blind = costsOfResults(
    run().map((one) => ({ ...one, database: undefined })),
    FOOTPRINT,
  )
  assert.ok('problems' in blind)
})

test('a run with batches has its own costs of accepting and of batches', () => {
  const of = (scenario: string, totalMs: number) => result(scenario, 1, 1000, { cpu_s: { node: 0.1 }, cpu_s_total: totalMs })
  const costs = costsOf([...run(), of('batch-none', 0.15), of('batch-off', 0.65), of('batch', 0.25)])
  near(costs.acceptCpuMsPerEvent, 0.1, 'accepting')
  near(costs.singleCpuMsPerEvent, 0.5, 'single')
  near(costs.batchedCpuMsPerEvent, 0.1, 'batched')
  near(batchedCpuMs(costs, 1), 0.5, 'a request with one event')
  near(batchedCpuMs(costs, 100), 0.1, 'a request with a hundred')
})

test('a line that is exact is found, and no part of a line is negative', () => {
  const positive = fc.double({ min: 0.01, max: 1e4, noNaN: true })
  fc.assert(
    fc.property(positive, positive, (perEvent, perDelivery) => {
      const line = lineThrough([1, 10, 100].map((x) => ({ x, y: perEvent + perDelivery * x })))
      near(line.perEvent / perEvent, 1, 'event')
      near(line.perDelivery / perDelivery, 1, 'delivery')
    }),
  )
  fc.assert(
    fc.property(fc.array(fc.record({ x: positive, y: fc.oneof(fc.constant(0), positive) }), { maxLength: 6 }), (points) => {
      const { perEvent, perDelivery } = lineThrough(points)
      assert.ok(perEvent >= 0 && perDelivery >= 0, `${perEvent} ${perDelivery}`)
    }),
  )
})

test('costs that were written down are read as they are, and everything that is wrong is named', () => {
  const costs = costsOf(run())
  assert.deepEqual(readUnitCosts(costs), { costs })
  assert.deepEqual(readUnitCosts({ ...costs, requestBytes: undefined, walBytesPerEvent: -1 }), {
    problems: [
      { name: 'walBytesPerEvent', text: 'must be from 0 to 1000000000, not -1' },
      { name: 'requestBytes', text: 'is missing' },
    ],
  })
})

test('a footprint is read with all of its numbers', () => {
  assert.deepEqual(readFootprint(FOOTPRINT), { footprint: FOOTPRINT })
  assert.equal(costsOf(run()).requestBytes, 305)
  const read = readFootprint({ ...FOOTPRINT, requestBytes: 'many' })
  assert.deepEqual(read, { problems: [{ name: 'requestBytes', text: 'must be a number, not "many"' }] })
})
