import { z } from 'zod'
import type { EndpointState } from '../../domain/breaker.ts'
import { percentileMs, successRateOf, type HealthRules, type HealthWindow } from '../../domain/health.ts'
import { shownInteger, shownTime } from './replies.ts'

const count = shownInteger('int64')
const durationMs = z.number().meta({ description: 'Milliseconds, as exact as the classes that response times are counted in' })

export const endpointHealth = z
  .object({
    breaker: z.object({
      state: z.enum(['closed', 'open', 'half-open', 'recovering']),
      since: shownTime.nullable(),
      until: shownTime.nullable().meta({ description: 'When an open breaker is probed' }),
    }),
    successRate: z.number().min(0).max(1).nullable().meta({ description: 'Of the last five minutes; null below the minimum of requests' }),
    successes: count,
    failures: count,
    rateLimited: count.meta({ description: 'Of the failures: answered with 429' }),
    inFlight: count,
    responseMs: z.object({ p50: durationMs, p95: durationMs, p99: durationMs }).nullable(),
    consecutiveFailures: count,
    failingSince: shownTime.nullable(),
    slowSince: shownTime.nullable(),
    lane: z
      .enum(['fast', 'slow'])
      .meta({ description: 'Which lane its first attempts take; a worker that has seen it slow itself is up to half a second ahead' }),
    slowed: z.boolean().meta({ description: 'Whether it gets fewer requests for a while, because it said that it has too many' }),
  })
  .meta({ id: 'EndpointHealthOut' })

const time = (ms: number | null | undefined) => (ms === null || ms === undefined ? null : new Date(ms).toISOString())

const laneOf = (slowSinceMs: number | null) => ({
  slowSince: time(slowSinceMs),
  lane: slowSinceMs === null ? ('fast' as const) : ('slow' as const),
})

export function showHealth(window: HealthWindow, state: EndpointState | undefined, rules: HealthRules): z.output<typeof endpointHealth> {
  const percentile = (share: number) => Math.round(percentileMs(window.latencies, share) ?? 0)
  const breaker = state?.breaker ?? 'closed'
  return {
    breaker: {
      state: breaker,
      since: breaker === 'closed' ? null : time(state?.sinceMs),
      until: breaker === 'open' ? time(state?.untilMs) : null,
    },
    successRate: successRateOf(window, rules) ?? null,
    successes: window.successes,
    failures: window.failures,
    rateLimited: window.rateLimited,
    inFlight: window.inFlight,
    responseMs: window.successes + window.failures === 0 ? null : { p50: percentile(0.5), p95: percentile(0.95), p99: percentile(0.99) },
    consecutiveFailures: window.consecutiveFailures,
    failingSince: time(window.failingSinceMs),
    ...laneOf(state?.slowSinceMs ?? null),
    slowed: breaker === 'closed' && state !== undefined && state.ramp !== null && (state.untilMs ?? 0) > Date.now(),
  }
}
