/** Deliveries that another region makes. Design: docs/regions.md, docs/adr/0025. */
import type { Envelope } from './cloud-event.ts'
import type { Remaining } from './fan-out.ts'
import { hasQueue, type QueueWay } from './ordering.ts'
import type { AttemptTrigger } from './outcome.ts'
import type { Priority } from './priority.ts'
import type { Regions } from './regions.ts'

/** What of an endpoint says which region delivers to it. */
export interface Placed extends QueueWay {
  /** Null: the region that accepted the message. */
  readonly region: string | null
}

/** What of a message says whether it may be handed to another region. */
export interface Handable {
  /** The region that handed it to this one; absent: it was accepted here. */
  readonly acceptedIn?: string | undefined
  /** Null once expunged or expired. */
  readonly payload: string | null
}

/**
 * The region that a delivery is handed to; undefined: this one makes it. A message is handed over once at most, and only to a
 * region that delivers. What goes through a queue stays: each region keeps the order of what was published in it.
 * @param regions undefined where there is no other region
 */
export function handedTo(regions: Regions | undefined, endpoint: Placed, message: Handable): string | undefined {
  const { region } = endpoint
  if (regions === undefined || region === null || region === regions.own.name) return undefined
  if (message.acceptedIn !== undefined || message.payload === null || hasQueue(endpoint)) return undefined
  return regions.has(region) && regions.get(region).role === 'active' ? region : undefined
}

/** What a fan-out asks of the activity that hands its deliveries to a region: which they are is in Postgres. */
export interface HandOverInput {
  readonly groupId: string
  readonly region: string
  /** Endpoints up to this id are back in the fan-out's hands. */
  readonly afterEndpointId?: string
  /** An operator has ended the activity that waited: what it waited with is attempted here. */
  readonly giveUp?: boolean
}

export interface HandOverResult {
  /** What the region does not take, which is attempted here after all. */
  readonly here: readonly Remaining[]
  /** Set where more of that follows. */
  readonly afterEndpointId?: string
  /** Why something waits for the region still; only of a first try, which waits for nothing. */
  readonly waits?: string
}

/** A message as a region hands it to another. */
export interface HandedMessage {
  readonly id: string
  readonly appId: string
  readonly eventType: string
  readonly eventId: string | null
  readonly channels: readonly string[] | null
  readonly payload: string
  readonly createdAtMs: number
  readonly expiresAtMs: number
  readonly deliverAtMs: number | null
  readonly envelope: Envelope | null
  readonly priority: Priority
  readonly orderingKey: string | null
  readonly traceparent: string | null
  /** Where it is to be sent: the sender has routed it. */
  readonly endpointIds: readonly string[]
}

/** One call: messages of one group, for one region. */
export interface Handover {
  /** The sender's, made unrecognisable: the same group again is known by it. */
  readonly groupId: string
  /** The region that hands them over. */
  readonly from: string
  readonly trigger: AttemptTrigger
  /** False: a single attempt. */
  readonly retried: boolean
  /** Whether the endpoints were named by whoever had the messages sent to them. */
  readonly chosen: boolean
  readonly messages: readonly HandedMessage[]
}

/** What a region answers: ids of the messages that it has not taken. The others it has. */
export interface HandoverAnswer {
  /** Not yet: its configuration does not have all of their endpoints. */
  readonly unknown: readonly string[]
  /** Never: it may not have what belongs to their applications. */
  readonly refused: readonly string[]
}
