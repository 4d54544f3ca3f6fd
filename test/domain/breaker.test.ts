import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { afterProbes, countsAnew, releaseOf, type BreakerRules, type EndpointState } from '../../domain/breaker.ts'

const RULES: BreakerRules = { openMs: 300_000, probeShare: 0.1, probes: 5, failureRate: 0.5 }

function stateOf(changes: Partial<EndpointState>): EndpointState {
  return {
    endpointId: 'ep_1',
    appId: 'app_1',
    breaker: 'closed',
    sinceMs: 0,
    untilMs: null,
    probes: 0,
    ramp: null,
    slowSinceMs: null,
    countsFromMs: 0,
    ...changes,
  }
}

test('while a breaker is open nothing is released, whatever waits; then one probe alone', () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 100_000 }), fc.integer({ min: -1000, max: 1000 }), (untilMs, wanted, offset) => {
      const release = releaseOf(stateOf({ breaker: 'open', untilMs }), wanted, untilMs + offset, RULES)
      assert.deepEqual(release, offset < 0 ? { kind: 'none', untilMs } : { kind: 'probe', count: 1 })
    }),
  )
})

test('a half-open breaker lets its share through, one at least and never more than waits', () => {
  fc.assert(
    fc.property(
      fc.nat(100),
      fc.integer({ min: 1, max: 1000 }),
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      (probes, wanted, probeShare) => {
        const release = releaseOf(stateOf({ breaker: 'half-open', probes }), wanted, 0, { ...RULES, probeShare })
        assert.ok(release.kind === 'probe')
        assert.ok(release.count >= 1 && release.count <= Math.max(1, wanted * probeShare))
        if (probes === 0) assert.equal(release.count, 1)
      },
    ),
  )
})

test('an endpoint without a state, a closed and a recovering one are not held back by the breaker', () => {
  for (const state of [undefined, stateOf({}), stateOf({ breaker: 'recovering' })])
    assert.deepEqual(releaseOf(state, 5, 0, RULES), { kind: 'all' })
})

test('a probe that fails alone opens again, and however probes go, successes alone never open and failures alone never recover', () => {
  assert.equal(afterProbes(0, { delivered: 0, failed: 1 }, RULES), 'open')
  assert.equal(afterProbes(0, { delivered: 1, failed: 0 }, RULES), 'half-open')
  assert.equal(afterProbes(4, { delivered: 1, failed: 0 }, RULES), 'recovering')
  fc.assert(
    fc.property(fc.nat(20), fc.nat(100), fc.nat(100), (probes, delivered, failed) => {
      const next = afterProbes(probes, { delivered, failed }, RULES)
      if (failed === 0) assert.notEqual(next, 'open')
      if (delivered === 0 && failed > 0) assert.equal(next, 'open')
      if (next === 'recovering') assert.ok(probes + delivered >= RULES.probes && failed < delivered + failed)
    }),
  )
})

test('any run of the state machine that keeps succeeding recovers within three probes', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1000 }), (waiting) => {
      let probes = 0
      for (let turn = 0; turn < 8; turn++) {
        const release = releaseOf(stateOf({ breaker: 'half-open', probes }), Math.min(100, waiting), 0, RULES)
        assert.ok(release.kind === 'probe')
        if (afterProbes(probes, { delivered: release.count, failed: 0 }, RULES) === 'recovering') return
        probes += release.count
      }
      assert.fail('it never recovered')
    }),
  )
})

const someState = fc.option(
  fc
    .record({
      breaker: fc.constantFrom('closed', 'open', 'half-open', 'recovering'),
      countsFromMs: fc.constantFrom(0, 1, 2),
      probes: fc.nat(5),
      slowSinceMs: fc.option(fc.nat()),
    })
    .map((fields) => stateOf(fields as Partial<EndpointState>)),
  { nil: undefined },
)

test('an endpoint counts anew when a breaker that was shut no longer is, or a later time says so, and for no other change', () => {
  const shut = (state: EndpointState | undefined) => ['open', 'half-open'].includes(state?.breaker ?? 'closed')
  fc.assert(
    fc.property(someState, someState, (before, after) => {
      const later = (after?.countsFromMs ?? 0) > (before?.countsFromMs ?? 0)
      assert.equal(countsAnew(before, after), later || (shut(before) && !shut(after)))
      assert.equal(countsAnew(before, before), false)
    }),
  )
})

test('whatever is answered, a breaker whose probes fail half the time or more never recovers by them', () => {
  fc.assert(
    fc.property(fc.nat(20), fc.integer({ min: 1, max: 100 }), fc.nat(100), (probes, failed, delivered) => {
      assert.equal(afterProbes(probes, { delivered, failed }, RULES) === 'open', failed >= delivered)
    }),
  )
})
