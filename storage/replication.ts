import type { Queryable } from './pool.ts'

/** How far behind one standby of a primary is, as the primary sees it. */
export interface StandbyLag {
  /** `application_name` of its connection. */
  readonly name: string
  /** `streaming` where it has caught up once; `catchup`, `startup` or `backup` before. */
  readonly state: string
  /** Written here and not applied there. */
  readonly bytes: number
  /** How long ago what was applied there last was written here; 0 while nothing is written. */
  readonly ms: number
}

/** Standbys that are connected. Without the rights of `pg_monitor` Postgres shows their names alone. */
export async function readStandbys(db: Queryable): Promise<StandbyLag[]> {
  const { rows } = await db.query<StandbyLag>({
    name: 'replication-standbys',
    text: `SELECT application_name AS name, state, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::float8 AS bytes,
        coalesce(extract(epoch FROM replay_lag) * 1000, 0)::float8 AS ms
      FROM pg_stat_replication WHERE state IS NOT NULL AND replay_lsn IS NOT NULL AND NOT pg_is_in_recovery() ORDER BY application_name`,
  })
  return rows
}

/** A server by itself: what it is, and of a standby how far behind it is as far as it can know. */
export interface ReplicationState {
  readonly isStandby: boolean
  /** Whether it hears of its primary. */
  readonly connected: boolean
  /** Received and not applied. */
  readonly bytes: number
  /** Since the last transaction that was applied; 0 where all is applied that was received, and more is heard of. */
  readonly ms: number
  readonly standbys: readonly StandbyLag[]
}

export async function readReplication(db: Queryable): Promise<ReplicationState> {
  const { rows } = await db.query<Omit<ReplicationState, 'standbys'>>({
    name: 'replication-state',
    text: `WITH here AS (
        SELECT pg_is_in_recovery() AS standby, EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') AS connected,
          CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) END AS bytes
      )
      SELECT standby AS "isStandby", standby AND connected AS connected, coalesce(bytes, 0)::float8 AS bytes,
        CASE WHEN NOT standby OR (connected AND coalesce(bytes, 0) = 0) THEN 0
          ELSE coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()) * 1000, 0) END::float8 AS ms
      FROM here`,
  })
  const state = rows[0]!
  return { ...state, standbys: state.isStandby ? [] : await readStandbys(db) }
}

/** Makes a standby a server of its own, at once. @returns whether it was one that did it within `withinS` */
export async function promoteStandby(db: Queryable, withinS: number): Promise<boolean> {
  const { rows } = await db.query<{ promoted: boolean }>(
    'SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote(true, $1::int) ELSE false END AS promoted',
    [withinS],
  )
  return rows[0]!.promoted
}

/** @returns whether a slot of that name is there, and whether a standby uses it */
export async function readSlot(db: Queryable, name: string): Promise<{ active: boolean } | undefined> {
  const { rows } = await db.query<{ active: boolean }>('SELECT active FROM pg_replication_slots WHERE slot_name = $1', [name])
  return rows[0]
}

/** How far a server has written its log, or a standby applied it. */
export interface LogPosition {
  /** Bytes; null where it is a standby and was asked as a primary, or the reverse. */
  readonly position: number | null
  /** Of the cluster: standbys have that of their primary. */
  readonly system: string
  /** Of a standby the one it receives; null where that is not known (it receives nothing, or its reader may not see it). */
  readonly timeline: number | null
}

/** How far a primary has written its log. @throws where it is a standby */
export async function readWrittenPosition(db: Queryable): Promise<LogPosition & { readonly position: number }> {
  const { rows } = await db.query<{ position: number; system: string; timeline: string }>({
    name: 'replication-written',
    text: `SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::float8 AS position,
      left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline, system_identifier::text AS system FROM pg_control_system()`,
  })
  const { position, system, timeline } = rows[0]!
  return { position, system, timeline: Number.parseInt(timeline, 16) }
}

/** How far a standby has applied its primary's log. */
export async function readAppliedPosition(db: Queryable): Promise<LogPosition> {
  const { rows } = await db.query<LogPosition>({
    name: 'replication-applied',
    text: `SELECT CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::float8 END AS position,
      (SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming') AS timeline, system_identifier::text AS system
      FROM pg_control_system()`,
  })
  return rows[0]!
}
