import { setTimeout as pause } from 'node:timers/promises'
import { ConfigurationUnavailableError } from '../domain/errors.ts'
import { partitionCopiedAuditLog } from './config-audit-log.ts'
import { keepConfigClock } from './config-clock.ts'
import { completeCopy, type Completed, type CompletingOptions } from './config-completing.ts'
import { createConfigLeader, type ConfigLeader } from './config-leader.ts'
import {
  ConfigurationSetUpError,
  isCopied,
  prepareCopy,
  publishConfiguration,
  subscribeToConfiguration,
  type SubscriptionOptions,
} from './config-subscription.ts'
import { migrate } from './migrate.ts'
import type { Pool } from './pool.ts'

const STATEMENT_MS = 60_000
const COPIED_WITHIN_MS = 600_000
const POLL_MS = 100

/** Told of a copy whose database was promoted: what it lacked, or why that could not be found out. */
export type OnCompleted = (outcome: { readonly completed: Completed } | { readonly failure: unknown }) => void

/**
 * Sees to it that the cluster has the schema and publishes, and that this region's migrated database is a copy that lacks nothing;
 * resolves when it is. A copy that cannot be made complete is used as it is. Safe under concurrent starts. Where the cluster cannot be reached a database that is a copy already stays as it is.
 * @returns whether the cluster was reached
 * @throws {ConfigurationUnavailableError} where it cannot be reached and there is no copy yet
 * @throws {ConfigurationSetUpError} where the database has configuration of its own, the cluster has applications with a zone, or not all is copied in ten minutes
 * @throws {SchemaTooNewError}
 */
export async function setUpSharedConfiguration(
  pool: Pool,
  options: SubscriptionOptions,
  onCompleted: OnCompleted = () => undefined,
): Promise<boolean> {
  const leader = createConfigLeader(options.urls, STATEMENT_MS)
  try {
    const cluster = await leader.find()
    await migrate(cluster)
    await publishConfiguration(cluster)
    await copyAll(pool, leader, options, onCompleted)
    return true
  } catch (error) {
    if (!(error instanceof ConfigurationUnavailableError) || !(await isCopied(pool))) throw error
    await prepareCopy(pool, options.zone)
    return false
  } finally {
    await leader.stop()
  }
}

async function copyAll(pool: Pool, leader: ConfigLeader, options: SubscriptionOptions, onCompleted: OnCompleted): Promise<void> {
  await subscribeToConfiguration(pool, options)
  await partitionCopiedAuditLog(pool, options)
  if (await isCopied(pool)) return completeAtStart(pool, { ...options, leader }, onCompleted)
  // The first region of all has nobody yet who winds the clock, and lets it have what a quorum has.
  const clock = keepConfigClock({ leader, log: { warn: () => undefined } })
  try {
    const untilMs = Date.now() + COPIED_WITHIN_MS
    while (!(await isCopied(pool))) {
      if (Date.now() > untilMs) throw new ConfigurationSetUpError('configuration is not copied: the log of this Postgres says why')
      await pause(POLL_MS)
    }
  } finally {
    await clock.stop()
  }
}

async function completeAtStart(pool: Pool, options: CompletingOptions, onCompleted: OnCompleted): Promise<void> {
  // The cluster confirms nothing where nobody winds its clock: all regions may have been away.
  const clock = keepConfigClock({ leader: options.leader, log: { warn: () => undefined } })
  try {
    const completed = await completeCopy(pool, options)
    if (completed !== undefined) onCompleted({ completed })
  } catch (failure) {
    onCompleted({ failure })
  } finally {
    await clock.stop()
  }
}
