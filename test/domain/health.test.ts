import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  disabledAtMs,
  judge,
  LATENCY_BOUNDS_MS,
  latencyClassOf,
  percentileMs,
  successRateOf,
  tallyOf,
  tipsOver,
  type HealthRules,
  type HealthWindow,
  type Standing,
} from '../../domain/health.ts'

const DAY_MS = 86_400_000
const RULES: HealthRules = { minAttempts: 20, failureRate: 0.5, slowMs: 5000, disableAfterMs: 5 * DAY_MS }
const STANDING: Standing = { breaker: 'closed', slowSinceMs: null, slowedFromMs: null }

function windowOf(changes: Partial<HealthWindow> = {}): HealthWindow {
  return {
    successes: 0,
    failures: 0,
    rateLimited: 0,
    latencies: LATENCY_BOUNDS_MS.map(() => 0).concat(0),
    inFlight: 0,
    recent: { successes: 0, overloaded: 0, attempts: 0 },
    consecutiveFailures: 0,
    failingSinceMs: null,
    toldOfDisablingMs: null,
    ...changes,
  }
}

const histogram = (...durationsMs: number[]) => {
  const latencies = Array<number>(LATENCY_BOUNDS_MS.length + 1).fill(0)
  for (const ms of durationsMs) latencies[latencyClassOf(ms)]!++
  return latencies
}
const kinds = (window: HealthWindow, standing: Standing = STANDING, nowMs = 0) =>
  judge(window, standing, RULES, nowMs).map(({ kind }) => kind)

test('a breaker opens from half of at least twenty requests failing, and never below', () => {
  fc.assert(
    fc.property(fc.nat(100), fc.nat(100), (successes, failures) => {
      const opens = kinds(windowOf({ successes, failures })).includes('open')
      assert.equal(opens, successes + failures >= 20 && failures >= successes)
    }),
  )
})

test('one delivery that fails with all its retries, alone, does not open the breaker', () => {
  assert.deepEqual(kinds(windowOf({ failures: 13, consecutiveFailures: 13 })), [])
})

test('an endpoint whose breaker is open or half-open is judged by its probes alone', () => {
  for (const breaker of ['open', 'half-open'] as const) {
    assert.deepEqual(
      kinds(windowOf({ failures: 100, recent: { successes: 0, overloaded: 100, attempts: 100 } }), { ...STANDING, breaker }),
      [],
    )
  }
  assert.deepEqual(kinds(windowOf({ failures: 100 }), { ...STANDING, breaker: 'recovering' }), ['open'])
})

test('a success rate is between 0 and 1, and there is none below the minimum', () => {
  fc.assert(
    fc.property(fc.nat(1000), fc.nat(1000), fc.nat(100), (successes, failures, minAttempts) => {
      const rate = successRateOf(windowOf({ successes, failures }), { minAttempts })
      if (successes + failures < minAttempts || successes + failures === 0) assert.equal(rate, undefined)
      else assert.ok(rate !== undefined && rate >= 0 && rate <= 1)
    }),
  )
})

test('a percentile lies in the class of the request that it names, and rises with its share', () => {
  const durations = fc.array(fc.integer({ min: 0, max: 29_999 }), { minLength: 1, maxLength: 200 })
  fc.assert(
    fc.property(durations, fc.double({ min: 0.01, max: 1, noNaN: true }), (ms, share) => {
      const found = percentileMs(histogram(...ms), share)!
      const exact = ms.toSorted((a, b) => a - b)[Math.ceil(share * ms.length) - 1]!
      assert.equal(latencyClassOf(found), latencyClassOf(exact))
      assert.ok(found <= percentileMs(histogram(...ms), 1)!)
    }),
  )
  assert.equal(percentileMs(histogram(), 0.5), undefined)
})

test('answers 429, 502, 503 and 504 slow an endpoint to what it has taken well, one a second at least', () => {
  for (const statusCode of [429, 502, 503, 504]) {
    assert.equal(tallyOf({ kind: 'rejected', statusCode, body: '', durationMs: 1 })?.overloaded, true)
  }
  assert.equal(tallyOf({ kind: 'rejected', statusCode: 500, body: '', durationMs: 1 })?.overloaded, false)
  fc.assert(
    fc.property(fc.nat(10_000), fc.nat(1000), (successes, overloaded) => {
      const recent = { successes, overloaded, attempts: successes + overloaded }
      const [verdict] = judge(windowOf({ successes: 10_000, recent }), STANDING, RULES, 0)
      const slowed = overloaded > 0 && overloaded * 10 >= successes + overloaded
      assert.equal(verdict?.kind === 'slow-down', slowed)
      if (verdict?.kind === 'slow-down') assert.equal(verdict.perSecond, Math.max(1, successes / 30))
    }),
  )
})

test('an endpoint that was slowed is not slowed again for ten seconds', () => {
  const window = windowOf({ failures: 1, recent: { successes: 0, overloaded: 1, attempts: 1 } })
  assert.deepEqual(kinds(window, { ...STANDING, slowedFromMs: 100_000 }, 109_999), [])
  assert.deepEqual(kinds(window, { ...STANDING, slowedFromMs: 100_000 }, 110_000), ['slow-down'])
})

test('an episode of slowness begins above 5 s at p95, ends below 1 s, and nothing changes between', () => {
  const of = (ms: number) => windowOf({ successes: 30, latencies: histogram(...Array<number>(30).fill(ms)) })
  const slow = { ...STANDING, slowSinceMs: 1 }
  assert.deepEqual(kinds(of(8000)), ['slow'])
  assert.deepEqual(kinds(of(8000), slow), [])
  for (const ms of [1500, 3000]) assert.deepEqual([...kinds(of(ms)), ...kinds(of(ms), slow)], [])
  assert.deepEqual(kinds(of(200), slow), ['fast'])
  assert.deepEqual(kinds(windowOf({ successes: 5, latencies: histogram(8000, 8000, 8000) })), [])
})

const slowRules = { ...RULES, minAttempts: 1 }
const enough = { min: 1, max: 40 }

/** What the shared state comes to after windows of these response times; and what its owner was told. */
function episodes(windows: readonly (readonly number[])[]) {
  let slowSinceMs: number | null = null
  const told: string[] = []
  windows.forEach((durationsMs, nowMs) => {
    const window = windowOf({ successes: durationsMs.length, latencies: histogram(...durationsMs) })
    for (const { kind } of judge(window, { ...STANDING, slowSinceMs }, slowRules, nowMs)) {
      told.push(kind)
      slowSinceMs = kind === 'slow' ? nowMs : null
    }
  })
  return { slowSinceMs, told }
}

test('between one and five seconds at p95 the shared state stays where it is, since when it was', () => {
  const between = fc.array(fc.integer({ min: 1001, max: 5000 }), { minLength: enough.min, maxLength: enough.max })
  fc.assert(
    fc.property(fc.array(between, { maxLength: 10 }), (windows) => {
      assert.deepEqual(episodes(windows), { slowSinceMs: null, told: [] })
      assert.deepEqual(episodes([[20_000], ...windows]), { slowSinceMs: 0, told: ['slow'] })
    }),
  )
})

test('however response times change, the owner is told once of each episode, which a p95 above 5 s begins and one below 1 s ends', () => {
  const durations = fc.array(fc.oneof(fc.integer({ min: 1, max: 999 }), fc.integer({ min: 1, max: 60_000 })), {
    minLength: enough.min,
    maxLength: enough.max,
  })
  fc.assert(
    fc.property(fc.array(durations, { minLength: 1, maxLength: 20 }), (windows) => {
      const { told, slowSinceMs } = episodes(windows)
      told.forEach((kind, i) => assert.equal(kind, i % 2 === 0 ? 'slow' : 'fast'))
      assert.equal(slowSinceMs !== null, told.at(-1) === 'slow')
      const p95 = percentileMs(histogram(...windows.at(-1)!), 0.95)!
      if (p95 > 5000) assert.notEqual(slowSinceMs, null)
      if (p95 < 1000) assert.equal(slowSinceMs, null)
    }),
  )
})

test('who fails for four days is warned, a day after that disabled, and nobody without a warning', () => {
  const at = (days: number, toldAfterDays: number | null) =>
    kinds(
      windowOf({ failures: 1, failingSinceMs: 0, toldOfDisablingMs: toldAfterDays === null ? null : toldAfterDays * DAY_MS }),
      STANDING,
      days * DAY_MS,
    )
  assert.deepEqual(at(3.9, null), [])
  assert.deepEqual(at(4, null), ['warn'])
  assert.deepEqual(at(4.9, 4), [])
  assert.deepEqual(at(5, 4), ['disable'])
  assert.deepEqual(at(30, null), ['warn'])
  assert.deepEqual(at(30.9, 30), [])
  assert.deepEqual(at(31.1, 30), ['disable'])
  assert.equal(disabledAtMs(0, 30 * DAY_MS, RULES), 31 * DAY_MS)
})

test('whatever is counted, newer answers tip over exactly what they make fail and what did not fail before', () => {
  const counts = fc.record({ successes: fc.nat(60), failures: fc.nat(60) })
  const opens = (window: { successes: number; failures: number }) =>
    judge(windowOf(window), STANDING, RULES, Date.now()).some(({ kind }) => kind === 'open')
  fc.assert(
    fc.property(counts, counts, (window, newer) => {
      const together = { successes: window.successes + newer.successes, failures: window.failures + newer.failures }
      assert.equal(tipsOver(window, newer, RULES), opens(together) && !opens(window))
    }),
  )
})
