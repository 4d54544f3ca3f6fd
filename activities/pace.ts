import { afterProbes, releaseOf, type BreakerRules } from '../domain/breaker.ts'
import type { AttemptOutcome } from '../domain/outcome.ts'
import { tallyOf } from '../domain/health.ts'
import type { RampRules } from '../domain/ramp.ts'
import type { CachedEndpoint } from '../storage/config-cache.ts'
import { beginProbing, beginRecovery, countProbes, readEndpointState, reopenBreaker } from '../storage/endpoint-state.ts'
import type { EndpointStates } from '../storage/endpoint-states.ts'
import type { Pool } from '../storage/pool.ts'
import type { Admission, Held } from './admission.ts'

/** What a mailbox may send now. */
export interface Turn<T> {
  readonly now: readonly T[]
  /** Set where not all may go: when to ask again. */
  readonly held?: Held
}

/** How fast a mailbox sends: the only place that probes a broken endpoint, and that releases what waits. */
export interface Pace {
  /** @param due in the order to be sent in; each with the requests made for it */
  ask<T extends { readonly attempts: number }>(endpoint: CachedEndpoint, due: readonly T[]): Promise<Turn<T>>
  /** What came of a turn's requests, before the next turn is asked for. */
  answered(endpointId: string, outcomes: readonly AttemptOutcome[]): Promise<void>
}

export interface PaceDependencies {
  readonly pool: Pool
  readonly states: EndpointStates
  readonly admission: Admission
  readonly breaker: BreakerRules
  readonly ramp: RampRules
}

export function createPace(deps: PaceDependencies): Pace {
  // Where memory knows of nothing unusual nothing is asked; else Postgres, which knows of what this mailbox has just changed.
  const current = async (endpointId: string) =>
    deps.states.get(endpointId) === undefined ? undefined : readEndpointState(deps.pool, endpointId)
  return {
    async ask(endpoint, due) {
      const state = await current(endpoint.id)
      const release = releaseOf(state, due.length, Date.now(), deps.breaker)
      if (release.kind === 'none') return { now: [], held: { untilMs: release.untilMs, reason: 'the circuit breaker is open' } }
      if (release.kind === 'probe' && state?.breaker === 'open') await beginProbing(deps.pool, endpoint.id)
      const wanted = release.kind === 'probe' ? due.slice(0, release.count) : due
      const answers = await Promise.all(wanted.map(async (one) => deps.admission.take(endpoint, state, one.attempts > 0)))
      const now = wanted.filter((_, i) => answers[i] === undefined)
      const [held] = answers.filter((answer) => answer !== undefined).sort((a, b) => a.untilMs - b.untilMs)
      return { now, ...(held === undefined ? {} : { held }) }
    },
    async answered(endpointId, outcomes) {
      const state = await current(endpointId)
      if (state?.breaker !== 'half-open') return
      const said = outcomes.map(tallyOf).filter((one) => one !== undefined)
      const delivered = said.filter((one) => one.success).length
      if (said.length === 0) return
      switch (afterProbes(state.probes, { delivered, failed: said.length - delivered }, deps.breaker)) {
        case 'open':
          return reopenBreaker(deps.pool, endpointId, deps.breaker.openMs)
        case 'recovering':
          return beginRecovery(deps.pool, endpointId, deps.ramp.start)
        case 'half-open':
          return countProbes(deps.pool, endpointId, delivered)
      }
    },
  }
}
