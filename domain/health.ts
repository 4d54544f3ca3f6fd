import type { BreakerState } from './breaker.ts'
import type { AttemptOutcome } from './outcome.ts'

/** Upper bounds of the classes that response times are counted in, in milliseconds; one more class has what is over the last. */
export const LATENCY_BOUNDS_MS = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000] as const

/** Window: 30 slots of ten seconds. */
export const SLOT_MS = 10_000
export const SLOTS = 30
/** Slots that say how an endpoint fares now. */
export const RECENT_SLOTS = 3

/** What all processes together have seen of an endpoint in the last five minutes. */
export interface HealthWindow {
  readonly successes: number
  readonly failures: number
  /** Of the failures: answered with 429. */
  readonly rateLimited: number
  /** Requests by response time, one number more than `LATENCY_BOUNDS_MS`. */
  readonly latencies: readonly number[]
  /** Requests on their way. */
  readonly inFlight: number
  /** The last half minute; `overloaded` are answers 429, 502, 503 and 504. */
  readonly recent: { readonly successes: number; readonly overloaded: number; readonly attempts: number }
  /** Failures since the last success, whenever it was. */
  readonly consecutiveFailures: number
  /** Unix milliseconds of the first of them. */
  readonly failingSinceMs: number | null
  /** When the owner was told that the endpoint is going to be disabled. */
  readonly toldOfDisablingMs: number | null
}

export interface HealthRules {
  /** Requests in the window below which nothing is judged. */
  readonly minAttempts: number
  /** Share of failures, 0 to 1, from which on the breaker opens. */
  readonly failureRate: number
  /** A p95 above it makes an endpoint slow. */
  readonly slowMs: number
  /** How long an endpoint may fail before it is disabled. */
  readonly disableAfterMs: number
}

/** A slow endpoint is fast again when its p95 is below this share of `slowMs`: 5 s and 1 s. */
const FAST_AGAIN = 0.2
/** Share of recent answers that say "too much" from which on an endpoint is slowed. */
const OVERLOADED_SHARE = 0.1
/** Share of the time to its disabling after which its owner is warned: 4 of 5 days. */
const WARN_AT = 0.8

/** Share of requests that succeeded, 0 to 1; undefined while they are too few to judge by. */
export function successRateOf(window: HealthWindow, { minAttempts }: Pick<HealthRules, 'minAttempts'>): number | undefined {
  const attempts = window.successes + window.failures
  return attempts === 0 || attempts < minAttempts ? undefined : window.successes / attempts
}

/** Whether answers that are not in the window yet open a breaker that the window alone leaves closed. */
export function tipsOver(
  window: Pick<HealthWindow, 'successes' | 'failures'> | undefined,
  newer: Pick<HealthWindow, 'successes' | 'failures'>,
  { minAttempts, failureRate }: Pick<HealthRules, 'minAttempts' | 'failureRate'>,
): boolean {
  const fails = (successes: number, failures: number) =>
    successes + failures >= minAttempts && failures >= failureRate * (successes + failures)
  const { successes, failures } = window ?? { successes: 0, failures: 0 }
  return fails(successes + newer.successes, failures + newer.failures) && !fails(successes, failures)
}

/**
 * The response time that a share of requests did not exceed, in milliseconds, as exact as the classes are; undefined without
 * requests. What is over the last bound counts as twice of it.
 */
export function percentileMs(latencies: readonly number[], share: number): number | undefined {
  const total = latencies.reduce((sum, count) => sum + count, 0)
  if (total === 0) return undefined
  let left = Math.max(share * total, Number.MIN_VALUE)
  for (const [i, count] of latencies.entries()) {
    const fromMs = LATENCY_BOUNDS_MS[i - 1] ?? 0
    const toMs = LATENCY_BOUNDS_MS[i] ?? 2 * fromMs
    if (left <= count) return fromMs + ((toMs - fromMs) * left) / count
    left -= count
  }
  return 2 * LATENCY_BOUNDS_MS.at(-1)!
}

/** The class that a response time is counted in. */
export function latencyClassOf(durationMs: number): number {
  const i = LATENCY_BOUNDS_MS.findIndex((boundMs) => durationMs <= boundMs)
  return i < 0 ? LATENCY_BOUNDS_MS.length : i
}

const OVERLOADED = new Set([429, 502, 503, 504])

/** What an answer says about its endpoint; undefined where it says nothing (nothing was sent, or the answer did not come). */
export function tallyOf(outcome: AttemptOutcome): { success: boolean; rateLimited: boolean; overloaded: boolean } | undefined {
  switch (outcome.kind) {
    case 'delivered':
    case 'rejected':
    case 'unreachable':
      return {
        success: outcome.kind === 'delivered' || outcome.partly === true,
        rateLimited: outcome.statusCode === 429,
        overloaded: OVERLOADED.has(outcome.statusCode),
      }
    case 'blocked':
    case 'interrupted':
      return undefined
  }
}

/** What is known of an endpoint besides its window. */
export interface Standing {
  readonly breaker: BreakerState
  readonly slowSinceMs: number | null
  /** Since when it is slowed, if it is. */
  readonly slowedFromMs: number | null
}

/**
 * - `open`: the breaker opens
 * - `slow-down`: sends no more than the endpoint has taken well, requests a second
 * - `slow`, `fast`: an episode of slow answers begins, ends
 * - `warn`, `disable`: it has failed for long
 */
export type Verdict =
  { readonly kind: 'open' | 'slow' | 'fast' | 'warn' | 'disable' } | { readonly kind: 'slow-down'; readonly perSecond: number }

/** Judges an endpoint by its window. An endpoint that is probed is judged by its probes alone. */
export function judge(window: HealthWindow, standing: Standing, rules: HealthRules, nowMs: number): Verdict[] {
  const verdicts: Verdict[] = []
  const rate = successRateOf(window, rules)
  const judged = standing.breaker === 'closed' || standing.breaker === 'recovering'
  const opens = judged && rate !== undefined && 1 - rate >= rules.failureRate
  if (opens) verdicts.push({ kind: 'open' })
  else if (judged && isOverloaded(window) && (standing.slowedFromMs ?? -Infinity) <= nowMs - SLOT_MS) {
    verdicts.push({ kind: 'slow-down', perSecond: Math.max(1, window.recent.successes / (RECENT_SLOTS * (SLOT_MS / 1000))) })
  }
  const pace = paceOf(window, standing, rules)
  if (pace !== undefined) verdicts.push({ kind: pace })
  const end = endOf(window, rules, nowMs)
  if (end !== undefined) verdicts.push({ kind: end })
  return verdicts
}

function isOverloaded({ recent }: HealthWindow): boolean {
  return recent.overloaded > 0 && recent.overloaded >= OVERLOADED_SHARE * recent.attempts
}

function paceOf(window: HealthWindow, { slowSinceMs }: Standing, rules: HealthRules): 'slow' | 'fast' | undefined {
  if (window.successes + window.failures < rules.minAttempts) return undefined
  const p95 = percentileMs(window.latencies, 0.95)
  if (p95 === undefined) return undefined
  if (slowSinceMs === null) return p95 > rules.slowMs ? 'slow' : undefined
  return p95 < rules.slowMs * FAST_AGAIN ? 'fast' : undefined
}

/** Who was not warned, or only just, is not disabled: an endpoint without traffic does not fail. */
function endOf(window: HealthWindow, rules: HealthRules, nowMs: number): 'warn' | 'disable' | undefined {
  const { failingSinceMs, toldOfDisablingMs } = window
  if (failingSinceMs === null) return undefined
  const warnAfterMs = rules.disableAfterMs * WARN_AT
  if (toldOfDisablingMs === null) return nowMs - failingSinceMs >= warnAfterMs ? 'warn' : undefined
  const noticeMs = rules.disableAfterMs - warnAfterMs
  return nowMs - failingSinceMs >= rules.disableAfterMs && nowMs - toldOfDisablingMs >= noticeMs ? 'disable' : undefined
}

/** When an endpoint that the owner was warned of at `toldMs` is disabled at the earliest, if nothing succeeds. */
export function disabledAtMs(failingSinceMs: number, toldMs: number, rules: HealthRules): number {
  return Math.max(failingSinceMs + rules.disableAfterMs, toldMs + rules.disableAfterMs * (1 - WARN_AT))
}
