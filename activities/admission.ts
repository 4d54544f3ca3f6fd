import type { CachedEndpoint } from '../storage/config-cache.ts'
import type { EndpointStates } from '../storage/endpoint-states.ts'

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
  /** @returns undefined at once, without any I/O, for an endpoint without a state and without a limit */
  check(endpoint: CachedEndpoint, purpose: Purpose): undefined | Promise<Held | undefined>
}

export function createAdmission(deps: { readonly states: EndpointStates }): Admission {
  return {
    check(endpoint, purpose) {
      const state = deps.states.get(endpoint.id)
      if (state === undefined) return undefined
      if (state.breaker === 'open' && state.untilMs !== null && state.untilMs > Date.now()) {
        return Promise.resolve({ untilMs: state.untilMs, reason: 'the circuit breaker is open' })
      }
      if (purpose === 'mailbox' || state.breaker === 'closed') return undefined
      return Promise.resolve({ untilMs: Date.now(), reason: 'the endpoint is recovering' })
    },
  }
}
