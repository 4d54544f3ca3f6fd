import type { CachedEndpoint, ConfigCache } from '../storage/config-cache.ts'
import type { MessageCache } from '../storage/messages.ts'
import type { OperationalEvents } from '../storage/operational-events.ts'
import type { Pool } from '../storage/pool.ts'
import type { AttemptDependencies } from './attempt.ts'
import type { Pace } from './pace.ts'
import type { QueueHints } from './queue-hints.ts'
import type { RequestSlots } from './request-slots.ts'
import type { HeldTurn } from './turn-keeper.ts'

export interface QueueDrainDependencies extends Omit<AttemptDependencies, 'recorder'> {
  readonly pool: Pool
  readonly messages: MessageCache
  readonly configCache: ConfigCache
  readonly pace: Pace
  readonly operational?: Pick<OperationalEvents, 'of'> | undefined
  readonly hints: QueueHints
  readonly slots: RequestSlots
  readonly stopping: AbortSignal
}

/** One drain of one endpoint's queue. */
export interface QueueRun {
  readonly deps: QueueDrainDependencies
  readonly held: HeldTurn
  readonly endpointId: string
  readonly runId: string
}

/**
 * What one look at a queue has come to: requests were made, or it was looked at for another reason; nothing is there; or
 * what is there waits, until `untilMs` where that is known.
 */
export type Step =
  | { readonly kind: 'went'; readonly sent: number }
  | { readonly kind: 'empty' }
  | { readonly kind: 'waits'; readonly untilMs?: number; readonly reason?: string }

/** Sends from a queue, step by step. */
export interface QueueSender {
  step(endpoint: CachedEndpoint): Promise<Step>
  /** After the last step: nothing is in flight and all is recorded. */
  finish(): Promise<void>
}
