import { setTimeout as pause } from 'node:timers/promises'
import { ConfigurationUnavailableError } from '../domain/errors.ts'
import { keepConfigClock } from './config-clock.ts'
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

/**
 * Sees to it that the cluster has the schema and publishes, and that this region's migrated database is a copy; resolves when
 * it is. Safe under concurrent starts. Where the cluster cannot be reached a database that is a copy already stays as it is.
 * @returns whether the cluster was reached
 * @throws {ConfigurationUnavailableError} where it cannot be reached and there is no copy yet
 * @throws {ConfigurationSetUpError} where the database has configuration of its own, the cluster has applications with a zone, or not all is copied in ten minutes
 * @throws {SchemaTooNewError}
 */
export async function setUpSharedConfiguration(pool: Pool, options: SubscriptionOptions): Promise<boolean> {
  const leader = createConfigLeader(options.urls, STATEMENT_MS)
  try {
    const cluster = await leader.find()
    await migrate(cluster)
    await publishConfiguration(cluster)
    await copyAll(pool, leader, options)
    return true
  } catch (error) {
    if (!(error instanceof ConfigurationUnavailableError) || !(await isCopied(pool))) throw error
    await prepareCopy(pool, options.zone)
    return false
  } finally {
    await leader.stop()
  }
}

async function copyAll(pool: Pool, leader: ConfigLeader, options: SubscriptionOptions): Promise<void> {
  await subscribeToConfiguration(pool, options)
  if (await isCopied(pool)) return
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
