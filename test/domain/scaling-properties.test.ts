import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { DEFAULT_RULES, type ScalingRules } from '../../domain/scaling-rules.ts'
import { decide, FRESH_STATE, type ScalingDecision, type ScalingSample } from '../../domain/scaling.ts'
import { CALM, T0 } from './scaling-samples.ts'

const { intervalMs } = DEFAULT_RULES
const MINUTE = 60_000

const anySample = fc.record({
  depth: fc.oneof(fc.constant(0), fc.nat(30_000)),
  rateLimited: fc.nat(30_000),
  utilisation: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
  firstRequestP99Ms: fc.option(fc.integer({ min: 1, max: 12_000 })),
  firstRequests: fc.nat(100),
  attempts: fc.integer({ min: 0, max: 1000 }),
  ownFailures: fc.nat(200),
  endpointFailures: fc.nat(200),
})
const anySteps = fc.array(
  fc.tuple(fc.option(anySample, { freq: 10 }), fc.integer({ min: 1, max: 40_000 }), fc.integer({ min: 1, max: 100 })),
  {
    minLength: 1,
    maxLength: 30,
  },
)

/** Every sample is repeated some times, so that windows fill. */
function history(steps: readonly [Partial<ScalingSample> | null, number, number][], given: ScalingRules, from: number): ScalingDecision[] {
  let [state, workers, atMs] = [FRESH_STATE, from, T0]
  const decisions: ScalingDecision[] = []
  for (const [step, stepMs, times] of steps) {
    for (let i = 0; i < times; i++) {
      atMs += stepMs
      const { state: next, decision } = decide(
        state,
        step === null ? { atMs, missing: 'away' } : { ...CALM, ...step, atMs, workers },
        given,
      )
      state = next
      workers = decision.to ?? workers
      decisions.push(decision)
    }
  }
  return decisions
}

test('it never acts within a cooldown, whatever it sees', () => {
  fc.assert(
    fc.property(anySteps, fc.integer({ min: 1, max: 12_000 }), (steps, from) => {
      const acts = history(steps, DEFAULT_RULES, from).filter(({ action }) => action !== 'hold')
      for (const [i, act] of acts.entries()) {
        const before = acts[i - 1]
        if (before === undefined) continue
        const cooldownMs = before.action === 'up' ? DEFAULT_RULES.up.cooldownMs : DEFAULT_RULES.down.cooldownMs
        assert.ok(act.atMs - before.atMs >= cooldownMs)
      }
    }),
  )
})

test('it never leaves the limits, moves by a step at most, and a decision says what changes', () => {
  fc.assert(
    fc.property(
      anySteps,
      fc.integer({ min: 1, max: 500 }),
      fc.integer({ min: 0, max: 500 }),
      fc.integer({ min: 1, max: 1000 }),
      (steps, min, more, from) => {
        const given = { ...DEFAULT_RULES, min, max: min + more }
        for (const { action, from: before, to, rule, reason } of history(steps, given, from)) {
          assert.ok(reason.length > 0)
          if (before === null || to === null) continue
          assert.equal(Math.sign(to - before), action === 'up' ? 1 : action === 'down' ? -1 : 0)
          if (action === 'hold') continue
          assert.ok(to >= min && to <= given.max, `${to}`)
          if (rule !== 'limits') assert.ok(to - before <= Math.max(1, Math.ceil(before / 5)) && before - to <= Math.max(1, before / 10))
        }
      },
    ),
  )
})

/** A fleet under a load that does not change: what it cannot do waits. */
function steady(load: number, from: number, given: ScalingRules, hours: number): ScalingDecision[] {
  let [state, workers, depth] = [FRESH_STATE, from, 0]
  const decisions: ScalingDecision[] = []
  for (let atMs = T0; atMs < T0 + hours * 60 * MINUTE; atMs += intervalMs) {
    depth = Math.max(0, depth + (load - workers) * 1500)
    const utilisation = depth > 0 ? 1 : Math.min(1, load / workers)
    const { state: next, decision } = decide(state, { ...CALM, atMs, workers, depth: Math.round(depth), utilisation }, given)
    state = next
    workers = decision.to ?? workers
    decisions.push(decision)
  }
  return decisions
}

test('under a load that does not change it comes to rest, neither too small nor too large', () => {
  fc.assert(
    fc.property(fc.double({ min: 1, max: 8000, noNaN: true }), fc.integer({ min: 10, max: 10_000 }), (load, from) => {
      const decisions = steady(load, from, DEFAULT_RULES, 24)
      const late = decisions.slice(-4 * 60 * 4)
      assert.ok(
        late.every(({ action }) => action === 'hold'),
        'at rest for the last four hours',
      )
      const workers = late.at(-1)!.to!
      assert.ok(load / workers <= 0.8 || workers === DEFAULT_RULES.max, `${workers} for ${load}`)
      assert.ok(load / workers >= 0.3 || workers === DEFAULT_RULES.min, `${workers} for ${load}`)
    }),
    { numRuns: 30 },
  )
})

test('it does not turn back within a cooldown, and under a load that does not change it turns once at most', () => {
  fc.assert(
    fc.property(fc.double({ min: 1, max: 8000, noNaN: true }), fc.integer({ min: 10, max: 10_000 }), (load, from) => {
      const acts = steady(load, from, DEFAULT_RULES, 24).filter(({ action }) => action !== 'hold')
      const turns = acts.filter(({ action }, i) => i > 0 && acts[i - 1]!.action !== action)
      assert.ok(turns.length <= 1, turns.map(({ reason }) => reason).join('\n'))
    }),
    { numRuns: 30 },
  )
})
