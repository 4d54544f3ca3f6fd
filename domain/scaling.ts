import type { ScalingRules } from './scaling-rules.ts'
import { countText, durationText, percentText, workersText } from './scaling-texts.ts'

/** Where workers are started and stopped: local processes, or a Deployment of Kubernetes. */
export interface ScalingTarget {
  /** What operators know it by: `local`, `kubernetes`. */
  readonly name: string
  /**
   * @returns workers that should run, and those that do
   * @throws where the target cannot be asked
   */
  read(): Promise<{ readonly wanted: number; readonly ready: number }>
  /**
   * Asks for so many workers, and returns before they run. Workers that are too many are drained, not killed.
   * @throws where the target cannot be told
   */
  scaleTo(workers: number): Promise<void>
}

/** What the whole fleet looked like at one time. Counts are of the last interval. */
export interface ScalingSample {
  /** Unix milliseconds. */
  readonly atMs: number
  /** That should run. */
  readonly workers: number
  /** That run. */
  readonly ready: number
  /** Deliveries that wait for a worker. */
  readonly depth: number
  /** Deliveries that wait for their endpoint: its rate, its breaker, its order. More workers do not help them. */
  readonly rateLimited: number
  /** Of what waits for a worker; 0 where nothing does. */
  readonly oldestMs: number
  /** Mean of the workers, 0 to 1; null where none has reported. */
  readonly utilisation: number | null
  /** From publish to first request; null where there was none. */
  readonly firstRequestP99Ms: number | null
  readonly firstRequests: number
  /** Requests that ended, and work that failed before it came to one. */
  readonly attempts: number
  /** Answered with a failure, refused or not answered: the endpoints' own. */
  readonly endpointFailures: number
  /** Interrupted, or a fault of ours. */
  readonly ownFailures: number
}

/** No sample could be taken. */
export interface MissingSample {
  readonly atMs: number
  readonly missing: string
}

/** What is remembered from sample to sample: plain JSON. Times are Unix milliseconds; null: not so, or never. */
export interface ScalingState {
  readonly sampledAtMs: number | null
  /** Since when each has been so at every sample. */
  readonly deepSinceMs: number | null
  readonly busySinceMs: number | null
  readonly idleSinceMs: number | null
  readonly scaledUpAtMs: number | null
  readonly scaledDownAtMs: number | null
  /** That should run, as far as is known. */
  readonly workers: number | null
}

/** What decided: a rule that fired, or what kept one from firing. */
export type ScalingRule =
  | 'depth'
  | 'utilisation'
  | 'latency'
  | 'failures'
  | 'idle'
  | 'limits'
  | 'cooldown'
  | 'endpoint-failures'
  | 'rate-limited'
  | 'steady'
  | 'no-sample'
  | 'paused'
  | 'override'
  | 'target'

export interface ScalingDecision {
  readonly atMs: number
  readonly action: 'up' | 'down' | 'hold'
  /** Workers before and after; the same where it holds. Null: not known. */
  readonly from: number | null
  readonly to: number | null
  readonly rule: ScalingRule
  /** For operators, with the figures. */
  readonly reason: string
}

export const FRESH_STATE: ScalingState = {
  sampledAtMs: null,
  deepSinceMs: null,
  busySinceMs: null,
  idleSinceMs: null,
  scaledUpAtMs: null,
  scaledDownAtMs: null,
  workers: null,
}

type Wish = Pick<ScalingDecision, 'action' | 'rule' | 'reason'>

/**
 * Decides by one sample, and by what is remembered of those before it. Workers are added or removed in steps, within the
 * limits, and not within the cooldown of the last change.
 */
export function decide(
  state: ScalingState,
  sample: ScalingSample | MissingSample,
  rules: ScalingRules,
): { readonly state: ScalingState; readonly decision: ScalingDecision } {
  const { atMs } = sample
  if ('missing' in sample) {
    const { workers } = state
    const reason = `no sample: ${sample.missing}`
    const broken = { ...state, sampledAtMs: null, deepSinceMs: null, busySinceMs: null, idleSinceMs: null }
    return { state: broken, decision: { atMs, action: 'hold', from: workers, to: workers, rule: 'no-sample', reason } }
  }
  const watched = watch(state, sample, rules)
  const wish = allowed(wishOf(watched, sample, rules), watched, sample, rules)
  const from = sample.workers
  const to = wish.action === 'hold' ? from : stepped(from, wish.action, rules)
  return {
    state: {
      ...watched,
      workers: to,
      scaledUpAtMs: wish.action === 'up' ? atMs : watched.scaledUpAtMs,
      scaledDownAtMs: wish.action === 'down' ? atMs : watched.scaledDownAtMs,
    },
    decision: { atMs, ...wish, from, to },
  }
}

/** Continues the windows that still hold, begins those that hold now, and ends the others. A gap in the samples ends all. */
function watch(state: ScalingState, sample: ScalingSample, rules: ScalingRules): ScalingState {
  const { atMs, depth, utilisation } = sample
  const sinceLastMs = state.sampledAtMs === null ? Infinity : atMs - state.sampledAtMs
  const follows = sinceLastMs >= 0 && sinceLastMs <= rules.gapMs
  const since = (before: number | null, holds: boolean) => (holds ? ((follows ? before : null) ?? atMs) : null)
  const quiet = depth < rules.down.depth && utilisation !== null && utilisation < rules.down.utilisation
  return {
    ...state,
    sampledAtMs: atMs,
    deepSinceMs: since(state.deepSinceMs, depth > rules.up.depth),
    busySinceMs: since(state.busySinceMs, utilisation !== null && utilisation > rules.up.utilisation),
    idleSinceMs: since(state.idleSinceMs, quiet && atOnce(sample, rules).length === 0),
  }
}

/** What the rules want by the sample and the windows alone. */
function wishOf(state: ScalingState, sample: ScalingSample, rules: ScalingRules): Wish {
  const { workers } = sample
  if (workers < rules.min) return { action: 'up', rule: 'limits', reason: `${workersText(workers)}, at least ${countText(rules.min)} run` }
  if (workers > rules.max) return { action: 'down', rule: 'limits', reason: `${workersText(workers)}, at most ${countText(rules.max)} run` }
  const fired = [...atOnce(sample, rules), ...lasting(state, sample, rules)]
  const ups = fired.filter(({ action }) => action === 'up')
  if (ups.length > 0) return { ...ups[0]!, reason: ups.map(({ reason }) => reason).join('; ') }
  return fired.find(({ action }) => action === 'down') ?? hold(fired, sample, rules)
}

/** Rules that need no time. */
function atOnce(sample: ScalingSample, { up, minRequests }: ScalingRules): Wish[] {
  const { firstRequestP99Ms: p99Ms, firstRequests, attempts, ownFailures } = sample
  const wishes: Wish[] = []
  if (attempts >= minRequests && ownFailures > up.failureShare * attempts) {
    const share = percentText(ownFailures / attempts)
    const reason = `${share} of ${countText(attempts)} requests failed by our own fault, over ${percentText(up.failureShare)}`
    wishes.push({ action: 'up', rule: 'failures', reason })
  }
  if (firstRequests >= minRequests && p99Ms !== null && p99Ms > up.firstRequestP99Ms) {
    const reason = `p99 from publish to first request ${durationText(p99Ms)}, over ${durationText(up.firstRequestP99Ms)}`
    wishes.push({ action: 'up', rule: 'latency', reason })
  }
  return wishes
}

/** Rules that need time: those that had it want a change, the others say how long they have lasted. */
function lasting(state: ScalingState, sample: ScalingSample, { up, down }: ScalingRules): Wish[] {
  const { atMs, depth, utilisation } = sample
  const wishes: Wish[] = []
  const add = (action: 'up' | 'down', rule: ScalingRule, sinceMs: number | null, forMs: number, what: string) => {
    if (sinceMs === null) return
    const lastedMs = atMs - sinceMs
    if (lastedMs >= forMs) wishes.push({ action, rule, reason: `${what} for ${durationText(lastedMs)}` })
    else wishes.push({ action: 'hold', rule, reason: `${what} for ${durationText(lastedMs)} of ${durationText(forMs)}` })
  }
  const busy = utilisation === null ? '' : `utilisation ${percentText(utilisation)}`
  add('up', 'depth', state.deepSinceMs, up.forMs, `${countText(depth)} wait, over ${countText(up.depth)},`)
  add('up', 'utilisation', state.busySinceMs, up.forMs, `${busy}, over ${percentText(up.utilisation)},`)
  const quiet = `${countText(depth)} wait, under ${countText(down.depth)}, and ${busy}, under ${percentText(down.utilisation)},`
  add('down', 'idle', state.idleSinceMs, down.forMs, quiet)
  return wishes
}

/** Why nothing is wanted, the most telling first. */
function hold(pending: readonly Wish[], sample: ScalingSample, { up, minRequests }: ScalingRules): Wish {
  const { depth, rateLimited, utilisation, attempts, endpointFailures } = sample
  const growing = pending.find(({ rule }) => rule !== 'idle')
  if (growing !== undefined) return growing
  if (attempts >= minRequests && endpointFailures > up.failureShare * attempts) {
    const share = percentText(endpointFailures / attempts)
    const reason = `${share} of ${countText(attempts)} requests failed, by their endpoints: more workers do not help`
    return { action: 'hold', rule: 'endpoint-failures', reason }
  }
  if (depth + rateLimited > up.depth) {
    const reason = `${countText(rateLimited)} wait for their endpoints (rate limit, breaker, order): more workers do not help`
    return { action: 'hold', rule: 'rate-limited', reason }
  }
  const busy = utilisation === null ? 'no worker has reported' : `utilisation ${percentText(utilisation)}`
  return pending[0] ?? { action: 'hold', rule: 'steady', reason: `${countText(depth)} wait, ${busy}` }
}

/** A wish as far as limits and cooldowns allow it. */
function allowed(wish: Wish, state: ScalingState, { atMs, workers }: ScalingSample, rules: ScalingRules): Wish {
  if (wish.action === 'hold') return wish
  const left = cooldownLeftMs(state, atMs, rules)
  if (left !== undefined) {
    return {
      action: 'hold',
      rule: 'cooldown',
      reason: `${wish.reason}; ${durationText(left.ms)} of the cooldown after ${left.after} are left`,
    }
  }
  if (wish.action === 'up' && workers >= rules.max) {
    return { action: 'hold', rule: 'limits', reason: `${wish.reason}; ${workersText(workers)} are the most allowed` }
  }
  if (wish.action === 'down' && workers <= rules.min) {
    return { action: 'hold', rule: 'limits', reason: `${wish.reason}; ${workersText(workers)} are the fewest allowed` }
  }
  return wish
}

function cooldownLeftMs({ scaledUpAtMs, scaledDownAtMs }: ScalingState, atMs: number, { up, down }: ScalingRules) {
  const upMs = scaledUpAtMs === null ? 0 : scaledUpAtMs + up.cooldownMs - atMs
  const downMs = scaledDownAtMs === null ? 0 : scaledDownAtMs + down.cooldownMs - atMs
  if (upMs <= 0 && downMs <= 0) return undefined
  return upMs > downMs ? { ms: upMs, after: 'scaling up' } : { ms: downMs, after: 'scaling down' }
}

/** Up is rounded up, down is rounded down; both by one at least, and into the limits. */
function stepped(workers: number, action: 'up' | 'down', { up, down, min, max }: ScalingRules): number {
  const step =
    action === 'up'
      ? Math.max(1, Math.ceil((workers * up.stepPercent) / 100))
      : -Math.max(1, Math.floor((workers * down.stepPercent) / 100))
  return Math.min(max, Math.max(min, workers + step))
}
