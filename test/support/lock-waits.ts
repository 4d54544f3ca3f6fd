import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'

const EVERY_MS = 5

/**
 * Looks on at who waits for a lock on a table or an index of a database, on a connection of its own.
 * @returns what ends it, and tells the longest that anybody was seen waiting (ms), and how often somebody was
 */
export async function watchLockWaits(url: string): Promise<() => Promise<{ longestMs: number; seen: number }>> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  let stopped = false
  const found = { longestMs: 0, seen: 0 }
  const watching = (async () => {
    while (!stopped) {
      const { rows } = await client.query<{ ms: number | null }>(
        `SELECT extract(epoch FROM max(clock_timestamp() - l.waitstart))::float8 * 1000 AS ms FROM pg_locks l
         WHERE NOT l.granted AND l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      )
      const ms = rows[0]!.ms
      if (ms !== null) {
        found.seen++
        found.longestMs = Math.max(found.longestMs, ms)
      }
      await pause(EVERY_MS)
    }
  })()
  return async () => {
    stopped = true
    await watching.finally(() => client.end())
    return found
  }
}
