import type { AttemptOutcome } from './outcome.ts'

/** How the deliveries of one endpoint are retried. */
export interface RetryPolicy {
  /** Delay before each retry, in milliseconds; a delivery has one attempt more than this has entries. */
  readonly scheduleMs: readonly number[]
  /** Upper bound of a `Retry-After` and of every delay, in milliseconds. */
  readonly maxDelayMs: number
  /** Share of the delay that jitter may add or take, 0 to 1. */
  readonly jitter: number
}

/** What a delay takes from an endpoint's recent history. */
export interface HealthForBackoff {
  /** 0 to 1 over the sliding window, or undefined while the window has too few attempts to judge. */
  readonly successRate: number | undefined
}

/** 1, 2, 4, 8, 16 s, 1 m, 5 m, 30 m, 2 h, 5 h, 10 h, 10 h (design section 3). */
export const DEFAULT_SCHEDULE_MS: readonly number[] = [1, 2, 4, 8, 16, 60, 300, 1800, 7200, 18_000, 36_000, 36_000].map((s) => s * 1000)

export const DEFAULT_JITTER = 0.2
const HEALTHY_ABOVE = 0.95
const UNHEALTHY_BELOW = 0.5

export interface BackoffInput {
  readonly policy: RetryPolicy
  /** Requests made so far for this delivery, the failed one included; at least 1. */
  readonly attempts: number
  readonly health: HealthForBackoff
  readonly outcome: AttemptOutcome
  /** Uniform in [0, 1). */
  readonly random: number
}

/**
 * The delay before the next attempt in milliseconds, or undefined where none is left (the delivery is dead-lettered).
 * Healthy endpoints (success rate > 0.95) are retried in half the time, failing ones (< 0.5) in twice the time; a
 * `Retry-After` is never undercut. Source: scaling considerations, "Intelligent Retry Scheduling"; Standard Webhooks.
 */
export function nextDelayMs(input: BackoffInput): number | undefined {
  const { policy, attempts, outcome } = input
  const base = policy.scheduleMs[attempts - 1]
  if (base === undefined) return undefined
  const spread = 1 + policy.jitter * (2 * input.random - 1)
  const delayMs = base * healthFactor(input.health) * spread
  const askedMs = outcome.retryAfterMs ?? 0
  return Math.round(Math.min(policy.maxDelayMs, Math.max(delayMs, askedMs)))
}

/**
 * A number in [0, 1) that is the same for the same names: what one endpoint failed of one fan-out is retried together, in one
 * request of a worker to Temporal, while other endpoints and fan-outs come at other times. FNV-1a of 32 bits, mixed as MurmurHash3 does at its end: alone it leaves names
 * that differ in their last characters close together.
 */
export function spreadOf(...names: readonly (string | number)[]): number {
  const text = names.join(' ')
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return ((hash ^ (hash >>> 16)) >>> 0) / 0x1_0000_0000
}

function healthFactor(health: HealthForBackoff): number {
  if (health.successRate === undefined) return 1
  if (health.successRate > HEALTHY_ABOVE) return 0.5
  return health.successRate < UNHEALTHY_BELOW ? 2 : 1
}

const MONTH = '(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)'
const CLOCK = '\\d{2}:\\d{2}:\\d{2}'
// The forms of RFC 9110, 5.6.7: the preferred one, and the two that every recipient has to understand.
const WITH_ZONE = new RegExp(`^[A-Z][a-z]{2,8}, \\d{2}[ -]${MONTH}[ -](?:\\d{4}|\\d{2}) ${CLOCK} GMT$`)
const ASCTIME = new RegExp(`^[A-Z][a-z]{2} ${MONTH} [ \\d]\\d ${CLOCK} \\d{4}$`)
// Thirty years: more than any policy's maximum, and still exact in milliseconds.
const LONGEST_ASKED_S = 1e9

/**
 * Reads a `Retry-After` header (RFC 9110: seconds or an HTTP date).
 * @returns milliseconds from `nowMs`, or undefined where the header is absent, past or not understood
 */
export function parseRetryAfter(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined
  const text = header.trim()
  if (/^\d+$/.test(text)) return Math.min(Number(text), LONGEST_ASKED_S) * 1000
  // Date.parse alone takes any word before a number for a date, and a date without a zone for local time.
  const isAsctime = ASCTIME.test(text)
  if (!isAsctime && !WITH_ZONE.test(text)) return undefined
  const atMs = Date.parse(isAsctime ? `${text} GMT` : text)
  return Number.isNaN(atMs) || atMs <= nowMs ? undefined : atMs - nowMs
}
