import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { UnitCosts } from '../../domain/capacity-costs.ts'
import { adviseOnEndpoints, type EndpointUse } from '../../domain/endpoint-advice.ts'

const COSTS = { singleCpuMsPerEvent: 0.47, batchedCpuMsPerEvent: 0.074 } as UnitCosts
const INPUT = { costs: COSTS, worker: 70, inFlight: 100, slowSlots: 20 }

const use = (changes: Partial<EndpointUse>): EndpointUse => ({
  ...{ endpointId: 'ep_1', appId: 'app_1', attempts: 100, perS: 1, meanMs: 100, p95Ms: 200, slow: false, queued: false },
  ...changes,
})

test('which endpoints are advised on, and what that saves', () => {
  const cases: readonly [name: string, use: Partial<EndpointUse>, expected: readonly (readonly [kind: string, saving: number])[]][] = [
    ['as it should be', {}, []],
    // 10 a second for 6 s are 60 places, of 70 that a worker of $70 has.
    ['slow in the fast lane', { perS: 10, meanMs: 6000, p95Ms: 5001 }, [['slow-lane', 60]]],
    ['between a second and five it stays', { perS: 10, meanMs: 3000, p95Ms: 5000 }, []],
    // 10 places cost $50 where a worker has 14, and $10 where it has 70.
    ['fast in the slow lane', { perS: 100 / 7, meanMs: 700, p95Ms: 999, slow: true }, [['fast-lane', 40]]],
    ['still slow', { perS: 10, meanMs: 700, p95Ms: 1000, slow: true }, []],
    // 1,000 a second are 100 in 100 ms: 0.396 ms of each are saved, of 0.7 that a worker has.
    ['many messages one by one', { perS: 1000, meanMs: 50 }, [['batching', 39.6]]],
    // A batch fills while the one before is under way.
    ['many messages of a slow endpoint', { perS: 25, meanMs: 4000, p95Ms: 4500 }, [['batching', 0.99]]],
    ['batched or ordered already', { perS: 1000, p95Ms: 9000, queued: true }, []],
    ['too few messages to fill a batch', { perS: 19.9 }, []],
    ['hardly known', { perS: 1000, p95Ms: 9000, attempts: 19 }, []],
  ]
  for (const [name, changes, expected] of cases) {
    const advice = adviseOnEndpoints([use(changes)], INPUT).map(({ kind, saving }) => [kind, Number(saving.toFixed(2))])
    assert.deepEqual(advice, expected, name)
  }
})

test('what saves most comes first', () => {
  const uses = [
    use({ endpointId: 'ep_a', perS: 100 }),
    use({ endpointId: 'ep_b', perS: 1000 }),
    use({ endpointId: 'ep_c', perS: 2, meanMs: 6000, p95Ms: 9000 }),
  ]
  assert.deepEqual(
    adviseOnEndpoints(uses, INPUT).map(({ endpointId }) => endpointId),
    ['ep_b', 'ep_c', 'ep_a'],
  )
})
