import type { Envelope } from './cloud-event.ts'
import type { AttemptTrigger } from './outcome.ts'
import type { Priority } from './priority.ts'

/** A message that has passed validation and waits to be committed. */
export interface NewMessage {
  readonly id: string
  readonly appId: string
  readonly eventType: string
  /** The publisher's own id, unique within the application; null without one. */
  readonly eventId: string | null
  readonly channels: readonly string[] | null
  /** The exact JSON text that is sent and signed. */
  readonly payload: string
  readonly createdAtMs: number
  readonly expiresAtMs: number
  /** Hash of the request's idempotency key: a message with the same one is stored once. */
  readonly idempotencyKey?: string | undefined
  /** When it is to be delivered; absent: at once. */
  readonly deliverAtMs?: number | undefined
  readonly envelope?: Envelope | undefined
  /** W3C trace context that what is done with the message continues; absent: it is not traced. */
  readonly traceparent?: string | undefined
  /** Absent: medium, which is not said. */
  readonly priority?: Priority | undefined
  /** Kept in order with others that have the same, at endpoints that ask for it. */
  readonly orderingKey?: string | undefined
}

/** One message to be sent (again) to one endpoint, its filters bypassed. */
export interface Redelivery {
  readonly messageId: string
  readonly appId: string
  readonly eventType: string
  readonly endpointId: string
  readonly trigger: AttemptTrigger
  /** False: a single attempt. True: the endpoint's whole retry schedule. */
  readonly retried: boolean
}

/** Which messages a replay sends again. */
export interface ReplayRequest {
  readonly applicationId: string
  /** ISO 8601; the first instant included. */
  readonly since: string
  /** ISO 8601; the first instant no longer included. */
  readonly until: string
  /** Absent: every endpoint of the application that is enabled. */
  readonly endpointId?: string
  /** Absent: every event type. */
  readonly eventTypes?: readonly string[]
  /** Absent: with and without channels. */
  readonly channel?: string
  /** Which deliveries. Default `failed`. */
  readonly status?: ReplayStatus
  /** Only where the last attempt's status code is in this hundred; 0 is no answer. */
  readonly statusCodeClass?: number
  /** Deliveries a second, 1 to 1000. Default 100. */
  readonly ratePerSecond?: number
  /** False: a single attempt each, as the Svix API's recover. Default true. */
  readonly retried?: boolean
}

/**
 * - `failed`: attempted, never delivered, not waiting for a retry
 * - `missing`: never attempted, though subscribed
 * - `attempted`: attempted, with whatever result
 * - `delivered`: the last attempt succeeded
 * - `waiting`: failed, with a retry to come
 * - `all`: subscribed, whether attempted or not
 */
export const REPLAY_STATUSES = ['failed', 'missing', 'attempted', 'delivered', 'waiting', 'all'] as const
export type ReplayStatus = (typeof REPLAY_STATUSES)[number]
