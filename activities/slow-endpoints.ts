import { afterRequest, isSlow, type Slowness } from '../domain/lanes.ts'
import type { EndpointStates } from '../storage/endpoint-states.ts'

/** The endpoints whose first attempts take the slow lane: by their shared health, and by what this process has seen. */
export interface SlowEndpoints {
  has(endpointId: string): boolean
  /** @param durationMs of a request; Infinity where it is not answered */
  observe(endpointId: string, durationMs: number): void
}

// Who is forgotten is tried in the fast lane again.
const REMEMBERED = 50_000

export function createSlowEndpoints(states: Pick<EndpointStates, 'get' | 'onForget'>): SlowEndpoints {
  const known = new Map<string, Slowness>()
  states.onForget((endpointId) => known.delete(endpointId))
  return {
    has(endpointId) {
      if ((states.get(endpointId)?.slowSinceMs ?? null) !== null) return true
      const slowness = known.get(endpointId)
      return slowness !== undefined && isSlow(slowness, Date.now())
    },
    observe(endpointId, durationMs) {
      const slowness = afterRequest(known.get(endpointId), durationMs, Date.now())
      known.delete(endpointId)
      if (slowness === undefined) return
      known.set(endpointId, slowness)
      if (known.size > REMEMBERED) known.delete(known.keys().next().value!)
    },
  }
}
