import type { Ramp } from './ramp.ts'

/**
 * - `closed`: requests go
 * - `open`: none goes before `untilMs`
 * - `half-open`: the endpoint's mailbox probes, nobody else sends
 * - `recovering`: the mailbox sends along a ramp, what is new waits behind what waits already
 */
export type BreakerState = 'closed' | 'open' | 'half-open' | 'recovering'

/** What is unusual about an endpoint. Times are Unix milliseconds. */
export interface EndpointState {
  readonly endpointId: string
  readonly appId: string
  readonly breaker: BreakerState
  /** When the breaker came into its state. */
  readonly sinceMs: number
  /** Open: when it is probed. Closed: when its ramp holds nothing back any more. */
  readonly untilMs: number | null
  /** Half-open: requests that were answered well. */
  readonly probes: number
  /** Recovering, or slowed by its own answers. */
  readonly ramp: Ramp | null
  /** Since when it answers so slowly that its owner was told. */
  readonly slowSinceMs: number | null
  /** What was counted before says nothing of it any more. 0: everything counts. */
  readonly countsFromMs: number
}

/** Whether an endpoint begins to count anew between two states that a process has heard of; it may have missed those between. */
export function countsAnew(before: EndpointState | undefined, after: EndpointState | undefined): boolean {
  if ((after?.countsFromMs ?? 0) > (before?.countsFromMs ?? 0)) return true
  return isShut(before) && !isShut(after)
}

function isShut(state: EndpointState | undefined): boolean {
  return state?.breaker === 'open' || state?.breaker === 'half-open'
}

export interface BreakerRules {
  /** How long it stays open. */
  readonly openMs: number
  /** Share of what waits that a half-open one lets through at a time, 0 to 1. */
  readonly probeShare: number
  /** Requests that have to be answered well before it recovers. */
  readonly probes: number
  /** Share of failed probes, 0 to 1, from which on it opens again. */
  readonly failureRate: number
}

/** What the mailbox of an endpoint may do now, as far as the breaker goes. `probe` first makes it half-open where it is open. */
export type Release =
  { readonly kind: 'all' } | { readonly kind: 'none'; readonly untilMs: number } | { readonly kind: 'probe'; readonly count: number }

/** @param wanted what is due and could be sent */
export function releaseOf(state: EndpointState | undefined, wanted: number, nowMs: number, rules: BreakerRules): Release {
  switch (state?.breaker) {
    case undefined:
    case 'closed':
    case 'recovering':
      return { kind: 'all' }
    case 'open':
      return state.untilMs !== null && state.untilMs > nowMs ? { kind: 'none', untilMs: state.untilMs } : { kind: 'probe', count: 1 }
    case 'half-open':
      // The first goes alone.
      return { kind: 'probe', count: state.probes === 0 ? 1 : Math.max(1, Math.floor(wanted * rules.probeShare)) }
  }
}

/** What probes make of a half-open breaker. @param probes answered well before */
export function afterProbes(
  probes: number,
  answers: { readonly delivered: number; readonly failed: number },
  rules: BreakerRules,
): 'half-open' | 'open' | 'recovering' {
  const answered = answers.delivered + answers.failed
  if (answers.failed > 0 && answers.failed >= answered * rules.failureRate) return 'open'
  return probes + answers.delivered >= rules.probes ? 'recovering' : 'half-open'
}
