import type { Logger } from 'pino'
import type { BreakerRules } from '../domain/breaker.ts'
import { disabledAtMs, judge, percentileMs, SLOT_MS, type HealthRules, type Standing, type Verdict } from '../domain/health.ts'
import { rampEndsMs, type RampRules } from '../domain/ramp.ts'
import type { Configuration } from '../storage/configuration.ts'
import type { EndpointWindow } from '../storage/endpoint-windows.ts'
import { beginSlowness, endSlowness, openBreaker, slowDown, warnOfDisabling } from '../storage/endpoint-state.ts'
import type { EndpointStates } from '../storage/endpoint-states.ts'
import type { Pool } from '../storage/pool.ts'

export interface HealthWatchDependencies {
  readonly pool: Pool
  readonly configuration: Pick<Configuration, 'disable'>
  readonly states: EndpointStates
  readonly health: HealthRules
  readonly breaker: BreakerRules
  readonly ramp: RampRules
  readonly log: Logger
}

/** Connections to Postgres that are taken for it, of the pool's. */
const AT_A_TIME = 3

/** Judges endpoints whenever their shared windows are known, and does what follows. Several processes may: the first does it. */
export function createHealthWatch(deps: HealthWatchDependencies): (windows: readonly EndpointWindow[]) => Promise<void> {
  return async (windows) => {
    const nowMs = Date.now()
    const left = windows.values()
    const actInTurn = async () => {
      for (const one of left) {
        for (const verdict of judge(one.window, standingOf(deps.states, one.endpointId), deps.health, nowMs)) {
          await act(deps, one, verdict, nowMs)
        }
      }
    }
    // Requests to endpoints that fail wait for it.
    await Promise.all(Array.from({ length: AT_A_TIME }, actInTurn))
  }
}

function standingOf(states: EndpointStates, endpointId: string): Standing {
  const state = states.get(endpointId)
  if (state === undefined) return { breaker: 'closed', slowSinceMs: null, slowedFromMs: null }
  // Its own pace starts at once, what it is slowed to is held for a slot.
  const slowedFromMs = state.breaker === 'closed' && state.ramp !== null ? state.ramp.fromMs - SLOT_MS : null
  return { breaker: state.breaker, slowSinceMs: state.slowSinceMs, slowedFromMs }
}

async function act(
  deps: HealthWatchDependencies,
  { endpointId, appId, window, countsFromMs }: EndpointWindow,
  verdict: Verdict,
  nowMs: number,
): Promise<void> {
  const { pool, log } = deps
  switch (verdict.kind) {
    case 'open': {
      const successRate = window.successes / (window.successes + window.failures)
      if (!(await openBreaker(pool, endpointId, deps.breaker.openMs, { successRate, countsFromMs }))) return
      log.warn({ endpointId, successRate }, 'breaker.opened')
      // This process sends to it just now, and need not wait for the notification.
      return deps.states.changed(endpointId)
    }
    case 'slow-down': {
      const ramp = { rate: verdict.perSecond, fromMs: nowMs + SLOT_MS }
      return slowDown(pool, endpointId, ramp, rampEndsMs(ramp, deps.ramp))
    }
    case 'slow':
      return beginSlowness(pool, endpointId, percentileMs(window.latencies, 0.95) ?? 0)
    case 'fast':
      return endSlowness(pool, endpointId)
    case 'warn':
      return warnOfDisabling(pool, endpointId, window.failingSinceMs!, disabledAtMs(window.failingSinceMs!, nowMs, deps.health))
    case 'disable':
      log.warn({ endpointId, appId, failingSince: window.failingSinceMs }, 'endpoint.disabled-for-failing')
      return deps.configuration.disable({ endpointId, appId, failingSinceMs: window.failingSinceMs! })
  }
}
