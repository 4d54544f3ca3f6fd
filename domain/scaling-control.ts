import { decide, type MissingSample, type ScalingDecision, type ScalingSample, type ScalingState } from './scaling.ts'
import type { ScalingRules } from './scaling-rules.ts'
import { workersText } from './scaling-texts.ts'

/** What operators have said: plain JSON. */
export interface ScalingControl {
  /** The rules decide nothing; an override still counts. */
  readonly paused: boolean
  /** So many workers, whatever the rules say. `untilMs`: Unix milliseconds; null: until it is cleared. */
  readonly override: { readonly workers: number; readonly untilMs: number | null } | null
}

export const NO_CONTROL: ScalingControl = { paused: false, override: null }

/** How many workers an operator may ask for: 0 stops all, the least of the rules does not count. */
export function isOverride(workers: unknown, { max }: Pick<ScalingRules, 'max'>): workers is number {
  return typeof workers === 'number' && Number.isInteger(workers) && workers >= 0 && workers <= max
}

/** As `decide`, where operators may have paused the rules or set the number of workers. The windows go on meanwhile. */
export function decideUnder(
  control: ScalingControl,
  state: ScalingState,
  sample: ScalingSample | MissingSample,
  rules: ScalingRules,
): { readonly state: ScalingState; readonly decision: ScalingDecision } {
  const { atMs } = sample
  const free = decide(state, sample, rules)
  const override = activeOverride(control, atMs)
  if (override === null && !control.paused) return free
  const from = 'missing' in sample ? state.workers : sample.workers
  const held = { ...free.state, workers: from, scaledUpAtMs: state.scaledUpAtMs, scaledDownAtMs: state.scaledDownAtMs }
  if (override === null) {
    const reason = `paused by an operator; the rules say ${free.decision.action}: ${free.decision.reason}`
    return { state: held, decision: { atMs, action: 'hold', from, to: from, rule: 'paused', reason } }
  }
  const to = override.workers
  const until = override.untilMs === null ? 'it is cleared' : new Date(override.untilMs).toISOString()
  const reason = `${workersText(to)} by an operator until ${until}`
  const action = from === to ? 'hold' : to > (from ?? 0) ? 'up' : 'down'
  return {
    state: {
      ...held,
      workers: to,
      scaledUpAtMs: action === 'up' ? atMs : held.scaledUpAtMs,
      scaledDownAtMs: action === 'down' ? atMs : held.scaledDownAtMs,
    },
    decision: { atMs, action, from, to, rule: 'override', reason },
  }
}

/** The override that counts at this time; null where there is none, or it is over. */
export function activeOverride({ override }: ScalingControl, atMs: number): ScalingControl['override'] {
  return override !== null && (override.untilMs === null || override.untilMs > atMs) ? override : null
}
