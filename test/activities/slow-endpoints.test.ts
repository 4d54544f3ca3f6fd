import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createSlowEndpoints } from '../../activities/slow-endpoints.ts'
import type { EndpointState } from '../../domain/breaker.ts'
import { afterRequest, type Slowness } from '../../domain/lanes.ts'

/** The states of endpoints as a process has them in memory. */
function memory() {
  const slow = new Set<string>()
  const listeners: ((endpointId: string) => void)[] = []
  const stateOf = (endpointId: string): EndpointState => ({
    endpointId,
    appId: 'app_1',
    breaker: 'closed',
    sinceMs: 0,
    untilMs: null,
    probes: 0,
    ramp: null,
    slowSinceMs: slow.has(endpointId) ? 1 : null,
    countsFromMs: 0,
  })
  return {
    slow,
    forget: (endpointId: string) => listeners.forEach((listen) => listen(endpointId)),
    states: { get: stateOf, onForget: (listen: (endpointId: string) => void) => void listeners.push(listen) },
  }
}

const endpointId = fc.constantFrom('ep_1', 'ep_2')
const steps = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant('request' as const),
      endpointId,
      durationMs: fc.oneof(fc.nat(999), fc.nat(30_000), fc.constant(Infinity)),
    }),
    fc.record({ kind: fc.constantFrom('shared-slow' as const, 'shared-fast' as const, 'forget' as const), endpointId }),
  ),
  { maxLength: 80 },
)

test('an endpoint takes the slow lane while its shared state or what this process has seen says so, and else the fast one', () => {
  fc.assert(
    fc.property(steps, (given) => {
      const { slow, forget, states } = memory()
      const lanes = createSlowEndpoints(states)
      const seen = new Map<string, Slowness | undefined>()
      for (const step of given) {
        switch (step.kind) {
          case 'request':
            seen.set(step.endpointId, afterRequest(seen.get(step.endpointId), step.durationMs, Date.now()))
            lanes.observe(step.endpointId, step.durationMs)
            break
          case 'shared-slow':
            slow.add(step.endpointId)
            break
          case 'shared-fast':
            slow.delete(step.endpointId)
            break
          case 'forget':
            seen.delete(step.endpointId)
            forget(step.endpointId)
        }
        for (const id of ['ep_1', 'ep_2']) assert.equal(lanes.has(id), slow.has(id) || seen.get(id) !== undefined, id)
      }
    }),
  )
})
