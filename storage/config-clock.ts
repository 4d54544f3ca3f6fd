import { setTimeout as pause } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { PoolClient } from 'pg'
import { LIMITS } from '../domain/limits.ts'
import type { ConfigLeader } from './config-leader.ts'
import { releaseToRegions } from './config-quorum.ts'

// "clock" in ASCII, cut to 31 bits; the number of migrations is another.
const LOCK_KEY = 0x636c6f63
/** How long the clock may stand still when whoever winds it dies. */
const TRY_EVERY_MS = 300

/**
 * Winds the clock of the shared configuration: one process of all regions does, any other takes its place. A turn is a commit
 * that is confirmed as every change is, so the clock stands still where changes are not.
 */
export function keepConfigClock({ leader, log }: { leader: Pick<ConfigLeader, 'find' | 'lose'>; log: Pick<Logger, 'warn'> }): {
  stop(): Promise<void>
} {
  const stop = new AbortController()
  const sleep = (ms: number) => pause(ms, undefined, { signal: stop.signal }).catch(() => undefined)
  let told = false
  const run = async () => {
    while (!stop.signal.aborted) {
      try {
        await windWhileAllowed(leader, stop.signal, sleep)
        told = false
      } catch (error) {
        leader.lose()
        if (!told) log.warn({ err: error }, 'config-clock.not-wound')
        told = true
      }
      await sleep(TRY_EVERY_MS)
    }
  }
  const running = run()
  return {
    async stop() {
      stop.abort()
      await running
    },
  }
}

/** Winds until it fails, or returns at once where another does. */
async function windWhileAllowed(
  leader: Pick<ConfigLeader, 'find'>,
  stopped: AbortSignal,
  sleep: (ms: number) => Promise<void>,
): Promise<void> {
  const pool = await leader.find()
  const client = await pool.connect()
  let broken = true
  try {
    const { rows } = await client.query<{ mine: boolean }>('SELECT pg_try_advisory_lock($1) AS mine', [LOCK_KEY])
    if (rows[0]?.mine !== true) {
      broken = false
      return
    }
    while (!stopped.aborted) {
      await wind(client)
      await releaseToRegions(pool)
      await sleep(LIMITS.configClockEveryMs)
    }
  } finally {
    // A connection that holds the lock is closed, never given back.
    client.release(broken)
  }
}

async function wind(client: PoolClient): Promise<void> {
  await client.query('BEGIN; SET LOCAL synchronous_commit = remote_apply')
  await client.query('UPDATE config_clock SET at = clock_timestamp()')
  await client.query('COMMIT')
}
