import { Histogram, type Registry } from 'prom-client'
import type { AttemptInput, AttemptWatch } from '../activities/attempt.ts'
import { LATENCY_BOUNDS_MS } from '../domain/health.ts'
import { TRIGGER_SCHEDULED, type AttemptOutcome, type OutcomeKind } from '../domain/outcome.ts'
import type { DeliveryChange } from '../storage/records.ts'
import { readCounter } from './metrics-read.ts'

/** Upper bounds, in seconds, of how long publishing and the way to a first request take. */
const WAIT_BOUNDS_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]

type Ended = 'delivered' | 'dead' | 'failed' | 'skipped'

export interface AttemptMetrics {
  /** Counts what requests come to. */
  count(outcome: AttemptOutcome): void
  /** Counts what attempts make of deliveries. */
  readonly watch: AttemptWatch
}

export function createAttemptMetrics(registry: Registry): AttemptMetrics {
  const outcomes: Record<OutcomeKind, number> = { delivered: 0, rejected: 0, unreachable: 0, blocked: 0, interrupted: 0 }
  const deliveries: Record<Ended, number> = { delivered: 0, dead: 0, failed: 0, skipped: 0 }
  let [rateLimited, retries, willRetry] = [0, 0, 0]
  const registers = [registry]
  const outcomeText = 'Requests to endpoints by what came of them; `rate_limited` of the rejected were answered with 429'
  readCounter(registry, { name: 'tidings_attempts_total', help: outcomeText, labels: ['outcome'] }, (add) => {
    for (const [outcome, count] of Object.entries(outcomes)) add({ outcome }, count)
    add({ outcome: 'rate_limited' }, rateLimited)
  })
  const durations = new Histogram({
    name: 'tidings_attempt_duration_seconds',
    help: 'How long requests to endpoints took that were answered',
    buckets: LATENCY_BOUNDS_MS.map((ms) => ms / 1000),
    registers,
  })
  const deliveryText = 'Deliveries that have ended, by how: delivered; dead (a dead letter); failed (a single attempt that failed)'
  readCounter(registry, { name: 'tidings_deliveries_total', help: deliveryText, labels: ['result'] }, (add) => {
    for (const [result, count] of Object.entries(deliveries)) add({ result }, count)
  })
  readCounter(registry, { name: 'tidings_retries_total', help: 'Requests that were retries' }, (add) => add({}, retries))
  readCounter(registry, { name: 'tidings_retries_scheduled_total', help: 'Deliveries that failed and will be tried again' }, (add) =>
    add({}, willRetry),
  )
  readCounter(registry, { name: 'tidings_dead_letters_total', help: 'Deliveries that became dead letters' }, (add) =>
    add({}, deliveries.dead),
  )
  const firstRequests = new Histogram({
    name: 'tidings_first_request_seconds',
    help: 'From a publish, or the time that it was scheduled for, to the first request of a delivery that nothing held back',
    buckets: WAIT_BOUNDS_S,
    registers,
  })
  return {
    count(outcome) {
      outcomes[outcome.kind]++
      if (outcome.statusCode === 429) rateLimited++
      if (outcome.statusCode > 0) durations.observe(outcome.durationMs / 1000)
    },
    watch: {
      begin(input, startedAtMs) {
        if (input.attemptsBefore > 0) retries++
        else if (isFirst(input)) firstRequests.observe(Math.max(0, startedAtMs - dueAtMs(input)) / 1000)
        return {
          ended({ change }) {
            if (change === undefined) return
            const { events = 1, failed } = input.batch ?? {}
            const undelivered = change.state === 'delivered' ? 0 : (failed?.() ?? events)
            deliveries.delivered += events - undelivered
            const end = endOf(change)
            if (undelivered === 0) return
            if (end === undefined) willRetry += undelivered
            else deliveries[end] += undelivered
          },
        }
      },
    },
  }
}

/** What a breaker or a rate has held back has a row; what another region has handed over has waited for both regions. */
function isFirst({ trigger, hadRow, message }: AttemptInput): boolean {
  return trigger === TRIGGER_SCHEDULED && !hadRow && message.acceptedIn === undefined
}

function dueAtMs({ message }: AttemptInput): number {
  return message.deliverAtMs ?? message.createdAtMs
}

function endOf(change: DeliveryChange): Ended | undefined {
  switch (change.state) {
    case 'delivered':
    case 'dead':
    case 'skipped':
      return change.state
    case 'untracked':
      return 'failed'
    case 'retrying':
    case 'parked':
      return undefined
  }
}
