/**
 * What became of one attempt: an expected result is data, never an exception.
 * - `delivered`: 2xx
 * - `rejected`: any other status; 410 means that the endpoint asks to be disabled
 * - `unreachable`: no status: DNS, connection, TLS, timeout, a broken answer
 * - `blocked`: the address guard refused the target, nothing was sent
 * - `interrupted`: this process stopped before the answer came
 */
export type OutcomeKind = 'delivered' | 'rejected' | 'unreachable' | 'blocked' | 'interrupted'

export interface AttemptOutcome {
  readonly kind: OutcomeKind
  /** HTTP status, 0 without one. */
  readonly statusCode: number
  /** The answer's body, capped, or a short reason that names no path, query or secret. */
  readonly body: string
  readonly durationMs: number
  /** From `Retry-After`, in milliseconds. */
  readonly retryAfterMs?: number | undefined
  /** Of a batch that was `rejected`: the endpoint took some of its events. It works, though not all is delivered. */
  readonly partly?: boolean
}

export const STATUS_SUCCESS = 0
export const STATUS_PENDING = 1
export const STATUS_FAIL = 2
export const STATUS_SENDING = 3
export type AttemptStatus = typeof STATUS_SUCCESS | typeof STATUS_FAIL

/** Stands for the run of attempts that were recorded before their fan-out had one. */
export const NO_RUN = '00000000-0000-0000-0000-000000000000'

export const TRIGGER_SCHEDULED = 0
export const TRIGGER_MANUAL = 1
export type AttemptTrigger = typeof TRIGGER_SCHEDULED | typeof TRIGGER_MANUAL

/** 410 Gone: the endpoint wants no more webhooks (Standard Webhooks 1.0). */
export function asksToBeDisabled(outcome: AttemptOutcome): boolean {
  return outcome.statusCode === 410
}
