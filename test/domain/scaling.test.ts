import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decideUnder, isOverride, NO_CONTROL, type ScalingControl } from '../../domain/scaling-control.ts'
import { DEFAULT_RULES, withTimeScale, type ScalingRules } from '../../domain/scaling-rules.ts'
import { countText, durationText, percentText, workersText } from '../../domain/scaling-texts.ts'
import { decide, FRESH_STATE, type ScalingDecision, type ScalingSample, type ScalingState } from '../../domain/scaling.ts'
import { CALM, T0 } from './scaling-samples.ts'

const { intervalMs } = DEFAULT_RULES
const MINUTE = 60_000

const QUIET: Partial<ScalingSample> = { depth: 0, utilisation: 0.1 }

type Step = Partial<ScalingSample> | 'missing'

/** Decides over samples, an interval apart unless they say when; the workers follow what was decided unless they say how many. */
function run(
  steps: readonly Step[],
  rules: ScalingRules = DEFAULT_RULES,
  from = 100,
): { state: ScalingState; decisions: ScalingDecision[] } {
  let state = FRESH_STATE
  let workers = from
  let atMs = T0 - intervalMs
  const decisions: ScalingDecision[] = []
  for (const step of steps) {
    atMs += intervalMs
    const sample = step === 'missing' ? { atMs, missing: 'a reason' } : { ...CALM, atMs, workers, ...step }
    const decided = decide(state, sample, rules)
    state = decided.state
    decisions.push(decided.decision)
    workers = decided.decision.to ?? workers
  }
  return { state, decisions }
}

/** So many samples last `ms` from the first to the last. */
const lasting = (ms: number, step: Step): Step[] => Array<Step>(ms / intervalMs + 1).fill(step)
const last = (steps: readonly Step[], rules?: ScalingRules, from?: number) => run(steps, rules, from).decisions.at(-1)!

interface Case {
  readonly name: string
  readonly steps: readonly Step[]
  readonly from?: number
  readonly rules?: ScalingRules
  readonly is: Pick<ScalingDecision, 'action' | 'rule'>
  readonly to?: number
  readonly reason?: RegExp
}

const rules = (
  up: Partial<ScalingRules['up']>,
  down: Partial<ScalingRules['down']> = {},
  rest: Partial<ScalingRules> = {},
): ScalingRules => ({
  ...DEFAULT_RULES,
  ...rest,
  up: { ...DEFAULT_RULES.up, ...up },
  down: { ...DEFAULT_RULES.down, ...down },
})

const hold = (rule: ScalingDecision['rule']) => ({ action: 'hold', rule }) as const
const up = (rule: ScalingDecision['rule']) => ({ action: 'up', rule }) as const
const down = (rule: ScalingDecision['rule']) => ({ action: 'down', rule }) as const

const CASES: readonly Case[] = [
  { name: 'nothing in particular', steps: [{}], is: hold('steady'), to: 100, reason: /^5,000 wait, utilisation 50 %$/ },
  // Depth.
  { name: 'a depth of the threshold for long', steps: lasting(10 * MINUTE, { depth: 10_000 }), is: hold('steady') },
  {
    name: 'a depth over it, not for long enough',
    steps: lasting(5 * MINUTE - intervalMs, { depth: 10_001 }),
    is: hold('depth'),
    reason: /for 4\.8 min of 5 min$/,
  },
  {
    name: 'a depth over it for five minutes',
    steps: lasting(5 * MINUTE, { depth: 10_001 }),
    is: up('depth'),
    to: 120,
    reason: /^10,001 wait, over 10,000, for 5 min$/,
  },
  {
    name: 'a depth over it but for one sample',
    steps: [...lasting(4 * MINUTE, { depth: 20_000 }), {}, ...lasting(4 * MINUTE, { depth: 20_000 })],
    is: hold('depth'),
  },
  {
    name: 'a depth over another threshold, for another time',
    rules: rules({ depth: 50, forMs: 30_000 }),
    steps: lasting(30_000, { depth: 51 }),
    is: up('depth'),
  },
  // Utilisation.
  { name: 'a utilisation of the threshold for long', steps: lasting(10 * MINUTE, { utilisation: 0.8 }), is: hold('steady') },
  {
    name: 'a utilisation over it, not for long enough',
    steps: lasting(5 * MINUTE - intervalMs, { utilisation: 0.81 }),
    is: hold('utilisation'),
  },
  {
    name: 'a utilisation over it for five minutes',
    steps: lasting(5 * MINUTE, { utilisation: 0.81 }),
    is: up('utilisation'),
    to: 120,
    reason: /^utilisation 81 %, over 80 %, for 5 min$/,
  },
  {
    name: 'both over theirs',
    steps: lasting(5 * MINUTE, { depth: 20_000, utilisation: 0.9 }),
    is: up('depth'),
    reason: /20,000 wait.*; utilisation 90 %/,
  },
  {
    name: 'depth and utilisation over theirs in turns',
    steps: [...lasting(3 * MINUTE, { depth: 20_000 }), ...lasting(3 * MINUTE, { utilisation: 0.9 })],
    is: hold('utilisation'),
  },
  // Latency.
  { name: 'a p99 of the threshold', steps: [{ firstRequestP99Ms: 5000 }], is: hold('steady') },
  {
    name: 'a p99 over it, at once',
    steps: [{ firstRequestP99Ms: 5001 }],
    is: up('latency'),
    to: 120,
    reason: /^p99 from publish to first request 5 s, over 5 s$/,
  },
  { name: 'a p99 over it of too few', steps: [{ firstRequestP99Ms: 9000, firstRequests: 19 }], is: hold('steady') },
  { name: 'a p99 over it of just enough', steps: [{ firstRequestP99Ms: 9000, firstRequests: 20 }], is: up('latency') },
  // Failures.
  { name: 'own failures of the threshold', steps: [{ ownFailures: 100 }], is: hold('steady') },
  {
    name: 'own failures over it, at once',
    steps: [{ ownFailures: 101 }],
    is: up('failures'),
    to: 120,
    reason: /^10\.1 % of 1,000 requests failed by our own fault, over 10 %$/,
  },
  { name: 'own failures over it of too few requests', steps: [{ attempts: 19, ownFailures: 19 }], is: hold('steady') },
  {
    name: 'failures of endpoints',
    steps: [{ endpointFailures: 600 }],
    is: hold('endpoint-failures'),
    reason: /^60 % of 1,000 requests failed, by their endpoints: more workers do not help$/,
  },
  { name: 'failures of endpoints, and few of our own', steps: [{ endpointFailures: 600, ownFailures: 50 }], is: hold('endpoint-failures') },
  {
    name: 'failures of endpoints do not keep a backlog from counting',
    steps: lasting(5 * MINUTE, { endpointFailures: 600, depth: 20_000 }),
    is: up('depth'),
  },
  // What waits for its endpoint.
  {
    name: 'a backlog that waits for rate limits',
    steps: lasting(10 * MINUTE, { rateLimited: 50_000 }),
    is: hold('rate-limited'),
    reason: /^50,000 wait for their endpoints .*more workers do not help$/,
  },
  // Down.
  { name: 'quiet, not for long enough', steps: lasting(15 * MINUTE - intervalMs, QUIET), is: hold('idle') },
  {
    name: 'quiet for fifteen minutes',
    steps: lasting(15 * MINUTE, QUIET),
    is: down('idle'),
    to: 90,
    reason: /^0 wait, under 1,000, and utilisation 10 %, under 30 %, for 15 min$/,
  },
  { name: 'quiet but for the depth', steps: lasting(20 * MINUTE, { ...QUIET, depth: 1000 }), is: hold('steady') },
  { name: 'quiet just below the depth', steps: lasting(15 * MINUTE, { ...QUIET, depth: 999 }), is: down('idle') },
  { name: 'quiet but for the utilisation', steps: lasting(20 * MINUTE, { ...QUIET, utilisation: 0.3 }), is: hold('steady') },
  {
    name: 'quiet, but no worker reports',
    steps: lasting(20 * MINUTE, { ...QUIET, utilisation: null }),
    is: hold('steady'),
    reason: /no worker has reported/,
  },
  {
    name: 'quiet without a request',
    steps: lasting(15 * MINUTE, { ...QUIET, attempts: 0, firstRequests: 0, firstRequestP99Ms: null }),
    is: down('idle'),
  },
  {
    name: 'quiet, and unhealthy by latency on the way',
    steps: [...lasting(10 * MINUTE, QUIET), { ...QUIET, firstRequestP99Ms: 6000, workers: 100 }, ...lasting(10 * MINUTE, QUIET)],
    is: hold('idle'),
  },
  {
    name: 'quiet, and unhealthy by our failures on the way',
    steps: [...lasting(10 * MINUTE, QUIET), { ...QUIET, ownFailures: 500 }, ...lasting(10 * MINUTE, QUIET)],
    is: hold('idle'),
  },
  { name: 'quiet, though endpoints fail', steps: lasting(15 * MINUTE, { ...QUIET, endpointFailures: 500 }), is: down('idle') },
  // Steps and limits.
  { name: 'up by a fifth, rounded up', steps: [{ firstRequestP99Ms: 9000 }], from: 11, is: up('latency'), to: 14 },
  { name: 'up by one at least', steps: [{ firstRequestP99Ms: 9000 }], from: 1, rules: rules({}, {}, { min: 1 }), is: up('latency'), to: 2 },
  { name: 'up into the limit', steps: [{ firstRequestP99Ms: 9000 }], from: 9999, is: up('latency'), to: 10_000 },
  {
    name: 'up at the limit',
    steps: [{ firstRequestP99Ms: 9000 }],
    from: 10_000,
    is: hold('limits'),
    to: 10_000,
    reason: /10,000 workers are the most allowed$/,
  },
  { name: 'down by a tenth, rounded down', steps: lasting(15 * MINUTE, QUIET), from: 39, is: down('idle'), to: 36 },
  { name: 'down by one at least', steps: lasting(15 * MINUTE, QUIET), from: 12, is: down('idle'), to: 11 },
  {
    name: 'down at the limit',
    steps: lasting(15 * MINUTE, QUIET),
    from: 10,
    is: hold('limits'),
    to: 10,
    reason: /10 workers are the fewest allowed$/,
  },
  { name: 'fewer than the least', steps: [{}], from: 3, is: up('limits'), to: 10 },
  { name: 'more than the most', steps: [{}], from: 12_000, is: down('limits'), to: 10_000 },
  // Gaps.
  { name: 'a missing sample', steps: ['missing'], is: hold('no-sample'), reason: /^no sample: a reason$/ },
  {
    name: 'a missing sample in a window',
    steps: [...lasting(4 * MINUTE, { depth: 20_000 }), 'missing', ...lasting(4 * MINUTE, { depth: 20_000 })],
    is: hold('depth'),
  },
  {
    name: 'a gap in a window',
    steps: [...lasting(4 * MINUTE, { depth: 20_000 }), { depth: 20_000, atMs: T0 + 4 * MINUTE + 30_001 }],
    is: hold('depth'),
    reason: /for 0 ms of/,
  },
  {
    name: 'no gap yet in a window',
    steps: [...lasting(5 * MINUTE - 30_000, { depth: 20_000 }), { depth: 20_000, atMs: T0 + 5 * MINUTE }],
    is: up('depth'),
  },
  {
    name: 'a clock that was set back',
    steps: [...lasting(4 * MINUTE, { depth: 20_000 }), { depth: 20_000, atMs: T0 }],
    is: hold('depth'),
    reason: /for 0 ms of/,
  },
]

for (const { name, steps, from, rules: given, is, to, reason } of CASES) {
  test(`${name}: ${is.action}, ${is.rule}`, () => {
    const decision = last(steps, given, from)
    assert.deepEqual({ action: decision.action, rule: decision.rule }, is, decision.reason)
    if (to !== undefined) assert.equal(decision.to, to)
    if (reason !== undefined) assert.match(decision.reason, reason)
  })
}

test('after it went up it holds for sixty seconds, and says what it would do', () => {
  const slow = { firstRequestP99Ms: 9000 }
  const { decisions } = run([slow, slow, slow, slow, slow])
  assert.deepEqual(
    decisions.map(({ action, to }) => [action, to]),
    [
      ['up', 120],
      ['hold', 120],
      ['hold', 120],
      ['hold', 120],
      ['up', 144],
    ],
  )
  assert.match(decisions[1]!.reason, /^p99 .*; 45 s of the cooldown after scaling up are left$/)
})

test('after it went down it holds for three hundred seconds, up too', () => {
  const before = lasting(15 * MINUTE, QUIET)
  const { decisions } = run([...before, ...lasting(5 * MINUTE - intervalMs, QUIET).slice(1)])
  assert.ok(decisions.slice(before.length).every(({ rule }) => rule === 'cooldown'))
  assert.equal(run([...before, ...lasting(5 * MINUTE, QUIET).slice(1)]).decisions.at(-1)!.action, 'down')
  const rush = run([...before, { firstRequestP99Ms: 9000 }]).decisions.at(-1)!
  assert.deepEqual([rush.action, rush.rule], ['hold', 'cooldown'])
})

test('a state goes through JSON', () => {
  const { state } = run([{ firstRequestP99Ms: 9000 }, { depth: 20_000 }])
  assert.deepEqual(JSON.parse(JSON.stringify(state)), state)
})

test('a time scale shortens intervals, sustained times and cooldowns, and nothing that is judged', () => {
  const scaled = withTimeScale(DEFAULT_RULES, 0.1)
  assert.deepEqual([scaled.intervalMs, scaled.gapMs], [1500, 6500], 'a sample takes its time')
  assert.deepEqual([scaled.up.forMs, scaled.up.cooldownMs, scaled.down.forMs, scaled.down.cooldownMs], [30_000, 6000, 90_000, 30_000])
  assert.deepEqual([scaled.up.firstRequestP99Ms, scaled.up.depth, scaled.min, scaled.max], [5000, 10_000, 10, 10_000])
  assert.deepEqual(withTimeScale(DEFAULT_RULES, 1), DEFAULT_RULES)
})

test('paused, nothing is done, and what the rules say is told', () => {
  const control: ScalingControl = { paused: true, override: null }
  const { state, decision } = decideUnder(control, FRESH_STATE, { ...CALM, firstRequestP99Ms: 9000 }, DEFAULT_RULES)
  assert.deepEqual([decision.action, decision.rule, decision.to], ['hold', 'paused', 100])
  assert.match(decision.reason, /the rules say up: p99/)
  assert.equal(state.scaledUpAtMs, null)
})

test('an override counts at once, in a cooldown and when paused, until its time', () => {
  const control: ScalingControl = { paused: true, override: { workers: 3, untilMs: T0 + 1000 } }
  const cooling = { ...FRESH_STATE, scaledUpAtMs: T0 - 1 }
  const { state, decision } = decideUnder(control, cooling, CALM, DEFAULT_RULES)
  assert.deepEqual([decision.action, decision.from, decision.to, decision.rule], ['down', 100, 3, 'override'])
  assert.equal(state.scaledDownAtMs, T0)
  const then = decideUnder(control, state, { ...CALM, workers: 3, atMs: T0 + 999 }, DEFAULT_RULES)
  assert.deepEqual([then.decision.action, then.decision.rule, then.state.scaledDownAtMs], ['hold', 'override', T0])
  assert.equal(decideUnder(control, state, { ...CALM, workers: 3, atMs: T0 + 1000 }, DEFAULT_RULES).decision.rule, 'paused')
})

test('an override counts though nothing can be seen', () => {
  const control: ScalingControl = { ...NO_CONTROL, override: { workers: 7, untilMs: null } }
  const { decision } = decideUnder(control, FRESH_STATE, { atMs: T0, missing: 'away' }, DEFAULT_RULES)
  assert.deepEqual([decision.action, decision.from, decision.to], ['up', null, 7])
})

test('only whole numbers of workers up to the most allowed can be asked for', () => {
  assert.deepEqual(
    [0, 1, 10_000, 10_001, -1, 1.5, NaN, '3', null, undefined].map((one) => isOverride(one, DEFAULT_RULES)),
    [...[true, true, true], ...Array<boolean>(7).fill(false)],
  )
})

test('figures are written for people', () => {
  assert.deepEqual([0, 999, 1000, 1_234_567].map(countText), ['0', '999', '1,000', '1,234,567'])
  assert.deepEqual([0, 0.105, 1].map(percentText), ['0 %', '10.5 %', '100 %'])
  assert.deepEqual([12, 1500, 90_000, 300_000].map(durationText), ['12 ms', '1.5 s', '90 s', '5 min'])
  assert.deepEqual([1, 2000].map(workersText), ['1 worker', '2,000 workers'])
})
