import type { AttemptTrigger } from './outcome.ts'
import type { ReplayRequest } from './message.ts'

/** What a fan-out workflow is started with: ids and small facts, never payloads. */
export interface FanOutInput {
  readonly groupId: string
  readonly messageIds: readonly string[]
  /** Set: send to this endpoint alone, whatever its filters. */
  readonly endpointId?: string
  readonly trigger: AttemptTrigger
  /** False: a single attempt. */
  readonly retried: boolean
  /** Partitions of each lane: a setting, so it must be in the history. */
  readonly partitions: number
  /** Set where the group has few deliveries and its start knew them all: the first attempts need no routing. */
  readonly planned?: readonly PlannedEndpoint[]
  /** Set where the process that starts it has begun what is planned: its id. */
  readonly begunBy?: string
  /** Set in `fan-out/<group>/<n>`: what the first attempts of the group left over. */
  readonly remaining?: readonly Remaining[]
  /** Set with it: where the requests of `attach` are in flight. */
  readonly sentBy?: { readonly processId: string; readonly runId: string }
}

/**
 * How what a first attempt left over goes on:
 * - `attach`: the request is in flight in the process that sent it
 * - `retry`: it failed, or was interrupted
 * - `fast`: not sent yet, the endpoint is busy
 * - `slow`: not sent yet, the endpoint is slow
 */
export type Continuation = 'attach' | 'retry' | 'fast' | 'slow'

/** Deliveries of one endpoint that first attempts did not end. */
export interface Remaining {
  readonly endpointId: string
  /** For the summary that operators see; never path or query. */
  readonly host: string
  readonly how: Continuation
  readonly messageIds: readonly string[]
  /** Whose turn it is in the lane's task queue, and how much of it: a setting, so it must be in the history. */
  readonly turn?: { readonly fairnessKey: string; readonly fairnessWeight: number }
}

export interface FirstAttemptsInput {
  readonly groupId: string
  readonly messageIds: readonly string[]
  readonly endpointId?: string
  readonly trigger: AttemptTrigger
  readonly retried: boolean
  /** Endpoints up to this id are done: where the previous slice ended. */
  readonly afterEndpointId?: string
  /** The run that the group's start has begun; any other was reset. Absent in histories from before it. */
  readonly firstRunId?: string
}

export interface FirstAttemptsResult {
  /** Messages of the group whose rows are not in this region's database yet. */
  readonly absent?: number
  /** Few deliveries: each endpoint's are an activity of their own, not made yet. */
  readonly planned?: readonly PlannedEndpoint[]
  /** The plan of the group's start does not hold: nothing was sent, and the group has to be routed. */
  readonly routeAnew?: boolean
  readonly delivered: number
  readonly remaining: readonly Remaining[]
  /** The process that has the requests of `attach`. */
  readonly processId: string
  /**
   * Set where many endpoints failed: Unix milliseconds of when to look which of them are still to be retried, well before the
   * first retry is due.
   */
  readonly lookAtMs?: number
  /** Set where more endpoints follow. */
  readonly nextAfterEndpointId?: string
  /** Names of the other regions that deliveries of the group are handed to; told once. */
  readonly elsewhere?: readonly string[]
}

export interface PlannedEndpoint {
  readonly endpointId: string
  readonly host: string
  readonly messageIds: readonly string[]
}

export interface EndpointDeliveriesInput {
  readonly groupId: string
  readonly endpointId: string
  readonly messageIds: readonly string[]
  readonly trigger: AttemptTrigger
  readonly retried: boolean
  /** The run that sent what is attached to; absent: the caller's own. */
  readonly sentInRunId?: string
  /**
   * Set where the group's start planned these: the run that it started. A run that was reset routes anew, to the endpoints as
   * they are by then.
   */
  readonly plannedForRunId?: string
  /** As of the routing. */
  readonly firstRunId?: string
  /** Set where the requests may be on their way in the process of this id. */
  readonly begunBy?: string
}

/** Endpoints whose deliveries failed, with what waits for each. */
export interface HoldBackInput {
  readonly groupId: string
  readonly endpoints: readonly { readonly endpointId: string; readonly messageIds: readonly string[] }[]
}

/** What a fan-out tells of itself when it ends. */
export interface FanOutResult {
  readonly messages: number
  readonly deliveredAtFirst: number
  readonly continued: number
}

export interface MailboxInput {
  readonly endpointId: string
  /** Of the endpoint's delivery task queues. */
  readonly partition: number
  /** Unix milliseconds of the earliest delivery that waits. */
  readonly wakeAtMs: number
}

export interface MailboxDrain {
  readonly sent: number
  /** Null: nothing waits. */
  readonly nextAtMs: number | null
  /** Of the endpoint's delivery task queues: their number may have changed since the mailbox was started. */
  readonly partition?: number
  /** Why what is due waits: for operators. */
  readonly held?: string | undefined
}

export interface ReplayInput extends ReplayRequest {
  /** Absent where an operator has started the workflow by hand: its workflow and run id take the place. */
  readonly taskId?: string
  /** Set after continue-as-new. */
  readonly progress?: ReplayProgress
}

export interface ReplayProgress {
  readonly state: 'running' | 'paused' | 'cancelled' | 'completed'
  /** Deliveries put into the outbox so far. */
  readonly deliveries: number
  /** The last message looked at. */
  readonly afterMessageId?: string
}

export interface ReplayPageInput {
  readonly request: ReplayInput & { readonly taskId: string }
  readonly afterMessageId?: string
  readonly limit: number
}

export interface ReplayPage {
  readonly deliveries: number
  /** Absent at the end of the range. */
  readonly afterMessageId?: string
}
