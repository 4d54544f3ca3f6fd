import type { Ramp } from './ramp.ts'

/**
 * - `closed`: requests go
 * - `open`: none goes before `untilMs`
 * - `half-open`: the endpoint's mailbox probes, nobody else sends
 * - `recovering`: the mailbox sends along a ramp, what is new waits behind what waits already
 */
export type BreakerState = 'closed' | 'open' | 'half-open' | 'recovering'

/** What is unusual about an endpoint. Times are Unix milliseconds. */
export interface EndpointState {
  readonly endpointId: string
  readonly appId: string
  readonly breaker: BreakerState
  /** When the breaker came into its state. */
  readonly sinceMs: number
  /** Open: when it is probed. */
  readonly untilMs: number | null
  /** Half-open: requests that were answered well. */
  readonly probes: number
  /** Recovering, or slowed by its own answers. */
  readonly ramp: Ramp | null
  /** Since when it answers so slowly that its owner was told. */
  readonly slowSinceMs: number | null
}
