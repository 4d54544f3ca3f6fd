import type { Registry } from 'prom-client'
import type { BreakerState } from '../domain/breaker.ts'
import { createBusiest } from '../domain/busiest.ts'
import { tallyOf } from '../domain/health.ts'
import { LIMITS } from '../domain/limits.ts'
import type { AttemptOutcome } from '../domain/outcome.ts'
import type { EndpointStates } from '../storage/endpoint-states.ts'
import { readCounter, readGauge, type Add } from './metrics-read.ts'

export interface EndpointMetrics {
  count(endpointId: string, outcome: AttemptOutcome): void
  /** A rate limit of Tidings' own has held a delivery back. */
  held(endpointId: string): void
}

interface Counts {
  successes: number
  failures: number
  /** Of those that were answered. */
  durationMs: number
  answered: number
  /** Answers 429. */
  rateLimited: number
  held: number
}

const BREAKER_VALUES: Readonly<Record<BreakerState, number>> = { closed: 0, recovering: 1, 'half-open': 2, open: 3 }

/** Of the `max` endpoints with the most requests in the last minutes; all others are counted as the endpoint `other`. */
export function createEndpointMetrics(registry: Registry, states: Pick<EndpointStates, 'get'>, max: number): EndpointMetrics {
  const busiest = createBusiest<Counts>({
    max,
    countedMax: LIMITS.metricsEndpointsCounted,
    turnMs: LIMITS.metricsEndpointsTurnMs,
    create: () => ({ successes: 0, failures: 0, durationMs: 0, answered: 0, rateLimited: 0, held: 0 }),
  })
  const each = (read: (counts: Counts, add: (more: Readonly<Record<string, string>>, value: number) => void) => void) => (add: Add) => {
    for (const [endpoint, counts] of [...busiest.named, ['other', busiest.others] as const]) {
      read(counts, (more, value) => add({ endpoint, ...more }, value))
    }
  }
  const labels = ['endpoint']
  readCounter(
    registry,
    { name: 'tidings_endpoint_attempts_total', help: 'Requests of the busiest endpoints by result', labels: [...labels, 'result'] },
    each((counts, add) => {
      add({ result: 'success' }, counts.successes)
      add({ result: 'failure' }, counts.failures)
    }),
  )
  readCounter(
    registry,
    { name: 'tidings_endpoint_duration_seconds_total', help: 'Time that the answered requests of the busiest endpoints took', labels },
    each((counts, add) => add({}, counts.durationMs / 1000)),
  )
  readCounter(
    registry,
    { name: 'tidings_endpoint_answers_total', help: 'Requests of the busiest endpoints that were answered', labels },
    each((counts, add) => add({}, counts.answered)),
  )
  const limitText = 'Rate limits hit at the busiest endpoints: their own (answers 429), or those set for them in Tidings'
  readCounter(
    registry,
    { name: 'tidings_endpoint_rate_limit_hits_total', help: limitText, labels: [...labels, 'by'] },
    each((counts, add) => {
      add({ by: 'endpoint' }, counts.rateLimited)
      add({ by: 'tidings' }, counts.held)
    }),
  )
  const breakerText = 'Circuit breakers of the busiest endpoints: 0 closed, 1 recovering, 2 half-open, 3 open'
  readGauge(registry, { name: 'tidings_endpoint_breaker', help: breakerText, labels }, (add) => {
    for (const endpoint of busiest.named.keys()) add({ endpoint }, BREAKER_VALUES[states.get(endpoint)?.breaker ?? 'closed'])
  })
  return {
    count(endpointId, outcome) {
      const said = tallyOf(outcome)
      if (said === undefined) return
      const counts = busiest.of(endpointId, Date.now())
      if (said.success) counts.successes++
      else counts.failures++
      if (said.rateLimited) counts.rateLimited++
      if (outcome.statusCode === 0) return
      counts.durationMs += outcome.durationMs
      counts.answered++
    },
    held: (endpointId) => void busiest.of(endpointId, Date.now()).held++,
  }
}
