/** What a planned failover does with the database that is left: nothing may be written there that the standby has not. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from '../../storage/pool.ts'
import {
  bytesUntil,
  endConnections,
  readDatabaseServer,
  readTidingsConnections,
  setFence,
  setSubscribed,
  writtenUpTo,
} from '../../storage/takeover.ts'
import { CommandFailure } from '../failure.ts'
import type { Progress } from '../progress.ts'

const POLL_MS = 200
const FENCED_WITHIN_MS = 10_000
/** No more often a line says who is connected still. */
const SAY_EVERY_MS = 5000

/**
 * Waits until no process of Tidings is connected to a primary.
 * @param force goes on with those that are left, which are cut off by `fence`
 * @throws {CommandFailure} `failover_refused` where some are left after `drainMs`, naming them
 */
export async function waitUntilDrained(primary: Pool, drainMs: number, force: boolean, { say }: Progress): Promise<void> {
  const endMs = performance.now() + drainMs
  let saidAtMs = -Infinity
  for (;;) {
    const left = await readTidingsConnections(primary)
    if (left.length === 0) return
    const names = [...new Set(left.map((one) => one.from))].join(', ')
    if (performance.now() > endMs) {
      if (force) return say(`${left.length} connections are left and will be ended: ${names}`)
      throw new CommandFailure(
        'failover_refused',
        `${left.length} connections of Tidings to the primary are left after ${drainMs / 1000} s (${names}): stop the region's processes, or go on with --force, which ends them`,
      )
    }
    if (performance.now() - saidAtMs > SAY_EVERY_MS) {
      saidAtMs = performance.now()
      say(`stop the region's processes: ${left.length} connections are left (${names})`)
    }
    await delay(POLL_MS)
  }
}

/**
 * Has a primary refuse to write, and receive no more configuration, and ends what connections of Tidings are left.
 * @throws {CommandFailure} `postgres_failed`
 */
export async function fence(primary: Pool): Promise<void> {
  if (!(await readDatabaseServer(primary)).isFenced) await setSubscribed(primary, false)
  await setFence(primary, true)
  await untilFenced(primary, true)
  const left = await readTidingsConnections(primary)
  if (left.length > 0)
    await endConnections(
      primary,
      left.map(({ pid }) => pid),
    )
}

/** Lets a server write and receive again, where it does not. @throws {CommandFailure} `postgres_failed` */
export async function liftFence(server: Pool): Promise<void> {
  if ((await readDatabaseServer(server)).isFenced) {
    await setFence(server, false)
    await untilFenced(server, false)
  }
  await setSubscribed(server, true)
}

async function untilFenced(server: Pool, wanted: boolean): Promise<void> {
  const endMs = performance.now() + FENCED_WITHIN_MS
  while ((await readDatabaseServer(server)).isFenced !== wanted) {
    if (performance.now() > endMs) {
      const why = 'is set elsewhere too (for the role or the database, or on the command line)?'
      throw new CommandFailure(
        'postgres_failed',
        `Postgres has not taken default_transaction_read_only in ${FENCED_WITHIN_MS / 1000} s: it ${why}`,
      )
    }
    await delay(POLL_MS)
  }
}

/** Waits until a standby has applied all that its fenced primary has written. @throws {CommandFailure} `failover_failed` */
export async function waitUntilReplayed(primary: Pool, standby: Pool, withinMs: number): Promise<void> {
  const lsn = await writtenUpTo(primary)
  const endMs = performance.now() + withinMs
  for (;;) {
    const bytes = await bytesUntil(standby, lsn)
    if (bytes <= 0) return
    if (performance.now() > endMs) {
      throw new CommandFailure('failover_failed', `the standby is ${bytes} bytes behind after ${withinMs / 1000} s`)
    }
    await delay(POLL_MS / 10)
  }
}
