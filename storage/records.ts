import type { AttemptStatus, AttemptTrigger } from '../domain/outcome.ts'

export interface AttemptRow {
  readonly id: string
  readonly messageId: string
  readonly endpointId: string
  readonly appId: string
  readonly eventType: string
  readonly url: string
  readonly status: AttemptStatus
  readonly responseCode: number
  readonly responseBody: string
  readonly durationMs: number
  readonly trigger: AttemptTrigger
  readonly groupId: string
  readonly runId: string
  readonly createdAtMs: number
}

/** What an attempt makes of its delivery. `delivered` removes the row, if there was one. */
export type DeliveryChange =
  | { readonly state: 'delivered'; readonly hadRow: boolean }
  | {
      readonly state: 'retrying' | 'parked'
      readonly attempts: number
      readonly nextAtMs: number
      /** False: a single attempt that waits. */
      readonly retried?: boolean
    }
  | { readonly state: 'dead' | 'skipped'; readonly attempts: number }
  | { readonly state: 'untracked' }

export interface Record {
  /** Absent where no request was made (dead-lettered without one, skipped). */
  readonly attempt?: AttemptRow
  readonly messageId: string
  readonly endpointId: string
  readonly appId: string
  readonly trigger: AttemptTrigger
  readonly groupId: string
  readonly change: DeliveryChange
}

/** The mailbox must be told: it sleeps, or sleeps longer than until `wakeAtMs`. */
export interface MailboxWake {
  readonly endpointId: string
  readonly wakeAtMs: number
}
