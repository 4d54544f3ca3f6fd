import type { EndpointState } from '../domain/breaker.ts'
import { rampRate, type RampRules } from '../domain/ramp.ts'
import type { Rate } from '../domain/token-bucket.ts'
import type { CachedEndpoint } from '../storage/config-cache.ts'
import type { EndpointStates } from '../storage/endpoint-states.ts'
import type { TokenBuckets } from '../storage/token-buckets.ts'

/** Why nothing is sent now, and until when not. */
export interface Held {
  /** Unix milliseconds. */
  readonly untilMs: number
  /** For operators: no names, no secrets. */
  readonly reason: string
}

/** `first`: a delivery's first request; `retry`: a later one; `mailbox`: the endpoint's mailbox asks, which alone probes and releases. */
export type Purpose = 'first' | 'retry' | 'mailbox'

/** Whether a request may be made now, asked before it takes a slot. */
export interface Admission {
  /** @returns undefined at once, without any I/O, for a first request to an endpoint without a state and without a limit */
  check(endpoint: CachedEndpoint, purpose: Purpose): undefined | Promise<Held | undefined>
  /** As `check`, of what this process knows of the endpoint's state alone: asked when a request has waited for its slot. */
  look(endpoint: Pick<CachedEndpoint, 'id'>, purpose: Purpose): Held | undefined
  /** A token of every rate of the endpoint, for its mailbox. @param retry whether it is not the delivery's first request */
  take(endpoint: CachedEndpoint, state: EndpointState | undefined, retry: boolean): undefined | Promise<Held | undefined>
}

export interface AdmissionDependencies {
  readonly states: EndpointStates
  readonly buckets: TokenBuckets
  readonly ramp: RampRules
  readonly retryBudget: { readonly perSecond: number; readonly burst: number }
}

// A rate's bucket holds what comes in this time: what may leave at once beyond the rate.
const BURST_S = 0.2
// Where no limit was set but the ramp holds back, a mailbox wakes once a second.
const RAMP_BURST_S = 1

/** As `Held` says it. */
export const RATE_LIMITED = 'a rate limit is reached'

export function createAdmission(deps: AdmissionDependencies): Admission {
  const { states, buckets } = deps
  const take = async (rates: readonly Rate[], behind?: string): Promise<Held | undefined> => {
    const waitMs = await buckets.take(rates, behind)
    return waitMs === undefined ? undefined : { untilMs: Date.now() + waitMs, reason: RATE_LIMITED }
  }
  const release = async (rates: readonly Rate[]): Promise<Held | undefined> => {
    const held = await take(rates)
    return held === undefined ? undefined : { ...held, untilMs: Math.max(held.untilMs, Date.now() + fillMs(rates)) }
  }
  return {
    check(endpoint, purpose) {
      const state = states.get(endpoint.id)
      if (state === undefined && endpoint.throttleRate === null && endpoint.appThrottleRate === null && purpose !== 'retry')
        return undefined
      const held = heldBack(state, purpose)
      if (held !== undefined) return Promise.resolve(held)
      const rates = ratesOf(deps, endpoint, state)
      const limited = rates.length > 0
      if (purpose === 'retry') rates.push(retryRate(deps, endpoint))
      if (rates.length === 0) return undefined
      return take(rates, limited && purpose !== 'mailbox' ? endpoint.id : undefined)
    },
    look: (endpoint, purpose) => heldBack(states.get(endpoint.id), purpose),
    take(endpoint, state, retry) {
      const rates = ratesOf(deps, endpoint, state)
      if (retry) rates.push(retryRate(deps, endpoint))
      return rates.length === 0 ? undefined : release(rates)
    },
  }
}

function heldBack(state: EndpointState | undefined, purpose: Purpose): Held | undefined {
  if (state === undefined || state.breaker === 'closed') return undefined
  if (state.breaker === 'open' && state.untilMs !== null && state.untilMs > Date.now()) {
    return { untilMs: state.untilMs, reason: 'the circuit breaker is open' }
  }
  return purpose === 'mailbox' ? undefined : { untilMs: Date.now(), reason: 'the endpoint is recovering' }
}

function ratesOf({ ramp }: AdmissionDependencies, endpoint: CachedEndpoint, state: EndpointState | undefined): Rate[] {
  const rates: Rate[] = []
  const rising = state === undefined || state.ramp === null ? Infinity : rampRate(state.ramp, Date.now(), ramp)
  const limit = endpoint.throttleRate ?? Infinity
  const held = rising < ramp.free ? Math.min(rising, limit) : limit
  if (held < Infinity) rates.push(rateOf(`endpoint ${endpoint.id}`, held, held < limit ? RAMP_BURST_S : BURST_S))
  if (endpoint.appThrottleRate !== null) rates.push(rateOf(`application ${endpoint.appId}`, endpoint.appThrottleRate, BURST_S))
  return rates
}

/** How long the smallest bucket takes to fill: who releases many waits for that, rather than for each token. */
function fillMs(rates: readonly Rate[]): number {
  return Math.min(...rates.map(({ burst, perSecond }) => (burst / perSecond) * 900))
}

function rateOf(key: string, perSecond: number, burstS: number): Rate {
  return { key, perSecond, burst: Math.max(1, perSecond * burstS) }
}

function retryRate({ retryBudget }: AdmissionDependencies, endpoint: CachedEndpoint): Rate {
  return { key: `retry ${endpoint.id}`, ...retryBudget }
}
