import { setTimeout as pause } from 'node:timers/promises'
import type { Pool } from './pool.ts'

/**
 * A physical replication slot that nobody streams from. Where the leader's `synchronized_standby_slots` names it, Postgres
 * sends regions nothing that lies behind it; it is moved to what enough standbys have written down. So a region never has a
 * change that a new leader may not know, and one standby that is away holds nothing up.
 */
export const QUORUM_SLOT = 'tidings_quorum'

// `ANY 2 (a, b, c)`, `FIRST 2 (a, b)`, `2 (a, b)`, `a, b` (one of them), or nothing.
const SYNCHRONOUS = `coalesce(substring(current_setting('synchronous_standby_names') FROM '(\\d+)\\s*\\(')::integer,
  CASE WHEN current_setting('synchronous_standby_names') = '' THEN 0 ELSE 1 END)`

/** How far enough standbys have written down the log; null where too few are there. */
const CONFIRMED = `CASE WHEN ${SYNCHRONOUS} = 0 THEN pg_current_wal_flush_lsn() ELSE (
  SELECT flush_lsn FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum') AND flush_lsn IS NOT NULL
  ORDER BY flush_lsn DESC OFFSET greatest(${SYNCHRONOUS} - 1, 0) LIMIT 1) END`

const MOVE = `SELECT pg_replication_slot_advance(slot_name, confirmed) FROM pg_replication_slots, LATERAL (SELECT ${CONFIRMED} AS confirmed) c
  WHERE slot_name = '${QUORUM_SLOT}' AND confirmed > restart_lsn`

// "replication slot is active": another process is moving it, maybe not as far.
const IN_USE = '55006'
const TRIES = 20
const AGAIN_AFTER_MS = 5

/** Lets regions have what enough standbys have. Where it fails the next turn of the clock does it. */
export async function releaseToRegions(leader: Pool): Promise<void> {
  for (let tries = TRIES; tries > 0; tries--) {
    try {
      await leader.query({ name: 'config-quorum', text: MOVE })
      return
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === IN_USE)) return
      await pause(AGAIN_AFTER_MS)
    }
  }
}
