import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pointOf, SIZES, DIMENSIONS } from '../../bench/growth-points.ts'
import { cliffOf, departureOf, growthTable, plotGrowth, verdictOf, type Measured } from '../../bench/growth-report.ts'
import type { Result } from '../../bench/result.ts'
import { problemsOf } from './well-formed.ts'

const LATENCY = { n: 1000, p50_ms: 10, p95_ms: 20, p99_ms: 30, max_ms: 40 }

function point(size: number, cpu: Readonly<Record<string, number>>, lost = 0): Measured {
  const result: Result = {
    ...{ peer: 'tidings', scenario: `fan-out-${size}`, rep: 1, start: '2026-11-25T14:05:00.000Z', f: size, healthy_f: size, m: 1, c: 1 },
    ...{ accepted: 1, publish_errors: 0, publish_seconds: 1, total_seconds: 1, accepted_per_s: 1, deliveries_per_s: 1000 },
    ...{ delivered: 1000, lost, duplicated: 0, latency: LATENCY, publish_latency: LATENCY, hang_peak: 0, unhealthy_hits: 0 },
    ...{ requests: 1000, cpu_s: cpu, cpu_s_total: Object.values(cpu).reduce((sum, one) => sum + one, 0), other_cpu_s: 0 },
    ...{ rss_mb: { node: 400, temporal: 200, postgres: 100 }, load1_max: 1 },
  }
  return { dimension: 'fan-out', size, results: [result] }
}

test('a cost departs where it is over twice the least, at a size beyond that of the least', () => {
  const falling = [8, 2, 1].map((cost, i) => [10 ** i, cost] as const)
  assert.equal(departureOf(falling), undefined)
  assert.equal(departureOf([...falling, [1000, 2]]), undefined)
  assert.deepEqual(departureOf([...falling, [1000, 2.5], [10_000, 9]]), { size: 1000, leastAt: 100, times: 2.5 })
  assert.equal(departureOf([]), undefined)
})

test('a cost that rises by more than the size does is a cliff', () => {
  const linear = [1, 10, 100].map((size) => [size, size * 2] as const)
  assert.equal(cliffOf(linear), undefined)
  assert.equal(cliffOf([...linear, [200, 401]]), 200)
})

test('what breaks first is named: the size, the processes whose cost rose most, and losses', () => {
  const points = [point(10, { node: 0.2, temporal: 0.1, postgres: 0.1 }), point(100, { node: 0.3, temporal: 0.9, postgres: 0.1 }, 2)]
  assert.match(
    verdictOf(points),
    /at 100 a delivery costs 3\.3 times what it does at 10, most of the rise in temporal, never by more than the size rises; at 100 deliveries were lost/,
  )
  assert.match(verdictOf(points.slice(0, 1)), /nowhere twice its least up to 10$/)
  assert.match(growthTable(points), /\| 0\.40 +\|/)
  assert.deepEqual(problemsOf(plotGrowth('a & b', points)), [])
  assert.deepEqual(problemsOf(plotGrowth('one', points.slice(0, 1))), [])
})

test('every point has deliveries, and no more than the driver and the sink can hold', () => {
  for (const dimension of DIMENSIONS) {
    for (const size of SIZES[dimension]) {
      const { behaviours, messages, payloadBytes } = pointOf(dimension, size).scenario
      const deliveries = behaviours.length * messages
      assert.ok(messages >= 2 && deliveries <= 20_000, `${dimension} ${size}: ${deliveries}`)
      assert.ok(deliveries * payloadBytes <= 120_000_000, `${dimension} ${size}: ${deliveries * payloadBytes} bytes`)
    }
  }
})
