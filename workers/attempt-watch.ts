import type { Logger } from 'pino'
import type { AttemptEnd, AttemptInput, AttemptWatch } from '../activities/attempt.ts'
import type { Config } from '../config/index.ts'
import { TRIGGER_MANUAL } from '../domain/outcome.ts'
import type { Tracing } from './tracing.ts'

export interface AttemptWatchDependencies {
  readonly metrics: AttemptWatch
  readonly tracing: Pick<Tracing, 'attempt'> | undefined
  readonly log: Logger
  /** Which attempts have a line in the log. */
  readonly logged: Config['attemptLog']
}

/** Has attempts counted, traced and logged. */
export function createAttemptWatch({ metrics, tracing, log, logged }: AttemptWatchDependencies): AttemptWatch {
  if (tracing === undefined && logged === 'none') return metrics
  return {
    begin(input, startedAtMs) {
      const counted = metrics.begin(input, startedAtMs)
      const traced = tracing?.attempt(input, startedAtMs)
      return {
        headers: traced?.headers,
        ended(end) {
          counted.ended(end)
          traced?.ended(end)
          if (logged === 'all' || (logged === 'failures' && end.outcome.kind !== 'delivered')) {
            log.info(lineOf(input, startedAtMs, end, traced?.traceId), 'attempt')
          }
        },
      }
    },
  }
}

/** All that is known of an attempt in one line: ids and figures, never a payload, a header, a path or what the endpoint answered. */
function lineOf(input: AttemptInput, startedAtMs: number, { outcome, change, attemptId }: AttemptEnd, traceId: string | undefined) {
  const { message, endpoint, batch } = input
  return {
    attemptId,
    messageId: message.id,
    appId: message.appId,
    endpointId: endpoint.id,
    host: endpoint.host,
    eventType: message.eventType,
    groupId: input.groupId,
    runId: input.runId,
    lane: input.lane,
    trigger: input.trigger === TRIGGER_MANUAL ? 'manual' : 'scheduled',
    number: input.attemptsBefore + 1,
    events: batch?.events,
    failedEvents: change === undefined || change.state === 'delivered' ? undefined : batch?.failed(),
    outcome: outcome.kind,
    status: outcome.statusCode,
    // Without a status it is a reason of our own.
    reason: outcome.statusCode === 0 ? outcome.body : undefined,
    durationMs: Math.round(outcome.durationMs),
    sincePublishMs: startedAtMs - (message.deliverAtMs ?? message.createdAtMs),
    bytes: message.payload === null ? 0 : Buffer.byteLength(message.payload),
    delivery: change?.state,
    nextAt: change !== undefined && 'nextAtMs' in change ? new Date(change.nextAtMs).toISOString() : undefined,
    traceId,
  }
}
