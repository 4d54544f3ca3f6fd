/** What stored history costs where each part of it lies on what its age deserves: docs/storage.md. */
import type { UnitCosts } from './capacity-costs.ts'
import type { CapacityInput } from './capacity-input.ts'
import type { Prices } from './capacity-prices.ts'
import { LIMITS } from './limits.ts'

const GB = 1e9
/** As the service has it unless it is told otherwise: days in the tables they were made in, of attempts that succeeded, of all else. */
const HOT_DAYS = 7
const DELIVERED_DAYS = 30
const KEPT_DAYS = LIMITS.payloadRetentionMaxDays
const ARCHIVED_DAYS = 365
/** Bytes in the archive, of a byte of a message in its table, of an attempt: `npm run bench:archive`, GitHub's example payloads. */
const ARCHIVED_OF_MESSAGE = 329 / 3261
const ARCHIVED_PER_ATTEMPT = 55

/** One part of what is kept. */
export interface Tier {
  readonly gb: number
  /** USD a month, with the copies that a database has. */
  readonly monthly: number
}

export interface StorageTiers {
  /** The first 7 days, where they were written. */
  readonly hot: Tier
  /** What is older, on the warm tablespace: successes to 30 days, messages and failures to 90. */
  readonly warm: Tier
  /** What has left the database within a year. */
  readonly archive: Tier
  readonly monthly: number
  /** The same year kept in the database, without tiers. */
  readonly withoutTiers: Tier
}

/** @param load of a day */
export function tiersOf(
  load: { readonly eventsPerDay: number; readonly deliveriesPerDay: number },
  { failurePercent }: Pick<CapacityInput, 'failurePercent'>,
  { storedBytesPerEvent, storedBytesPerDelivery }: Pick<UnitCosts, 'storedBytesPerEvent' | 'storedBytesPerDelivery'>,
  prices: Pick<Prices, 'databaseGb' | 'warmGb' | 'archiveGb' | 'databaseCopies'>,
): StorageTiers {
  const events = (load.eventsPerDay * storedBytesPerEvent) / GB
  const delivered = (load.deliveriesPerDay * storedBytesPerDelivery) / GB
  const failed = (delivered * failurePercent) / 100
  const archivedAttempts = (load.deliveriesPerDay * (1 + failurePercent / 100) * ARCHIVED_PER_ATTEMPT) / GB
  const inDatabase = (gb: number, price: number): Tier => ({ gb, monthly: gb * price * prices.databaseCopies })
  const hot = inDatabase(HOT_DAYS * (events + delivered + failed), prices.databaseGb)
  const warm = inDatabase((KEPT_DAYS - HOT_DAYS) * (events + failed) + (DELIVERED_DAYS - HOT_DAYS) * delivered, prices.warmGb)
  const archivedGb = ARCHIVED_DAYS * (events * ARCHIVED_OF_MESSAGE + archivedAttempts)
  const archive = { gb: archivedGb, monthly: archivedGb * prices.archiveGb }
  return {
    hot,
    warm,
    archive,
    monthly: hot.monthly + warm.monthly + archive.monthly,
    withoutTiers: inDatabase(ARCHIVED_DAYS * (events + delivered + failed), prices.databaseGb),
  }
}
