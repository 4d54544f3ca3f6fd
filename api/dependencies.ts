import type { Logger } from 'pino'
import type { Config } from '../config/index.ts'
import type { Handover, HandoverAnswer } from '../domain/handover.ts'
import type { NewMessage, Redelivery } from '../domain/message.ts'
import type { Regions } from '../domain/regions.ts'
import type { Shard } from '../domain/shards.ts'
import type { TaskRequest } from '../storage/background-tasks.ts'
import type { ArchiveLookup } from '../storage/archive/lookup.ts'
import type { Cipher } from '../storage/cipher.ts'
import type { ConfigCache } from '../storage/config-cache.ts'
import type { Configuration } from '../storage/configuration.ts'
import type { AddressGuard } from '../http/address-guard.ts'
import type { MeasureConnectTime } from '../http/connect-time.ts'
import type { RegionClient } from '../http/region-client.ts'
import type { HistoryReads } from '../storage/history/reads.ts'
import type { Pool } from '../storage/pool.ts'
import type { MailboxWake } from '../storage/records.ts'
import type { Revocations } from '../storage/revocations.ts'
import type { ApplicationZones } from './application-zones.ts'

/** The way in for messages: everything resolves after the commit that makes Tidings answerable for it. */
export interface Intake {
  /**
   * @throws {EventIdConflictError} where the application has a message with this `eventId`
   * @throws {RepeatedKeyError} where a message was published with the same idempotency key
   */
  accept(message: NewMessage): Promise<void>
  /** Accepts all messages or none. @returns the positions of those whose `eventId` is taken: empty where all are accepted */
  acceptAll(messages: readonly NewMessage[]): Promise<readonly number[]>
  /** Sends messages again, durably: through the outbox like a new one. */
  sendAgain(redeliveries: readonly Redelivery[]): Promise<void>
  /** Takes over what another region hands to this one. @param mayHold whether what belongs to a zone may be here */
  takeOver(handover: Handover, mayHold: (zone: string) => boolean): Promise<HandoverAnswer>
}

/** Starts the workflow of a registered background task. Where that fails the task is started later, by a sweep. */
export type LaunchTask = (task: TaskRequest) => Promise<void>

/** What `/readyz` reports of each part; the text is empty when the part works, else the reason it does not. */
export type ReadinessChecks = Readonly<Record<string, () => Promise<string>>>

/** What finds the fan-out of a message that has no attempt yet. */
export type FindFanOut = (messageId: string) => Promise<string | undefined>

/** What the API has where there are several regions. */
export interface Regional {
  readonly regions: Regions
  readonly client: RegionClient
  /** How long connecting to an endpoint's host takes from here. */
  readonly measure: MeasureConnectTime
  readonly zones: ApplicationZones
}

/** The databases that message data is in. */
export interface ApiShards {
  /** Without those of which nothing is kept any longer. */
  readonly all: readonly Shard[]
  /** @throws {ApiError} 503 while it has not been reached */
  at(shard: Pick<Shard, 'number'>): ApiDependencies
  /** Those that have been reached. */
  reached(): readonly ApiDependencies[]
}

export interface ApiDependencies {
  readonly config: Config & { readonly jwtSecret: string }
  readonly pool: Pool
  /** Where messages, attempts and what is made of them are read for those who look at them. */
  readonly history: HistoryReads
  readonly cipher: Cipher
  readonly configCache: ConfigCache
  readonly configuration: Configuration
  readonly revocations: Revocations
  /** Where deliveries may go. */
  readonly guard: Pick<AddressGuard, 'check'>
  readonly intake: Intake
  readonly launchTask: LaunchTask
  readonly findFanOut: FindFanOut
  /** Has what an endpoint's mailbox holds looked at now. Where that fails a sweep does it later. */
  readonly wakeMailbox: (wake: MailboxWake) => void
  readonly readiness: ReadinessChecks
  /** Undefined where nothing is archived. */
  readonly archive?: ArchiveLookup | undefined
  /** Undefined where there is no other region. */
  readonly regional?: Regional | undefined
  /** What `/readyz` tells besides, which makes nothing unready. */
  readonly details?: Readonly<Record<string, () => string>>
  /** Where message data is in several databases; then these dependencies are of the shard that this process serves. */
  readonly shards?: ApiShards | undefined
  /** Of dependencies of one shard: which it is. */
  readonly shard?: { readonly number: number; readonly all: readonly Shard[] } | undefined
  /** The id of a task that is begun. Absent: a new one. */
  readonly taskId?: string | undefined
  readonly log: Logger
}
