/** What taking over a region's database needs to know of its servers, and to change at them. */
import type { Queryable } from './pool.ts'

export interface DatabaseServer {
  readonly isStandby: boolean
  /** Whether it receives from its primary. */
  readonly isReceiving: boolean
  /** Equal of a primary and its standbys. */
  readonly systemId: string
  /** Counts promotions; undefined of a standby. */
  readonly timeline: number | undefined
  /** Whether it is fenced: new transactions are read-only. */
  readonly isFenced: boolean
}

export async function readDatabaseServer(db: Queryable): Promise<DatabaseServer> {
  const { rows } = await db.query<Omit<DatabaseServer, 'timeline'> & { walFile: string | null }>({
    name: 'takeover-server',
    text: `SELECT pg_is_in_recovery() AS "isStandby", EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') AS "isReceiving",
        (SELECT system_identifier::text FROM pg_control_system()) AS "systemId",
        CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END AS "walFile",
        current_setting('default_transaction_read_only') = 'on' AS "isFenced"`,
  })
  const { walFile, ...server } = rows[0]!
  return { ...server, timeline: walFile === null ? undefined : Number.parseInt(walFile.slice(0, 8), 16) }
}

export async function isStandby(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ standby: boolean }>('SELECT pg_is_in_recovery() AS standby')
  return rows[0]!.standby
}

/** A connection of Tidings, other than the one that asks. */
export interface TidingsConnection {
  readonly pid: number
  /** `application_name`, and where it comes from. */
  readonly from: string
}

/** By their `application_name`. Of other roles they are shown to `pg_read_all_stats` alone. */
export async function readTidingsConnections(db: Queryable): Promise<TidingsConnection[]> {
  const { rows } = await db.query<TidingsConnection>(
    `SELECT pid, application_name || coalesce(' from ' || host(client_addr), '') AS from FROM pg_stat_activity
     WHERE datname = current_database() AND backend_type = 'client backend' AND application_name LIKE 'tidings%' AND pid <> pg_backend_pid()
     ORDER BY pid`,
  )
  return rows
}

export async function endConnections(db: Queryable, pids: readonly number[]): Promise<void> {
  await db.query('SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid', [pids])
}

/**
 * Makes a server read-only for every transaction that begins from now on, or ends that. It is a setting of this server
 * alone: its standbys have it not. Needs a superuser, or `ALTER SYSTEM` on the parameter and `pg_reload_conf`.
 */
export async function setFence(db: Queryable, on: boolean): Promise<void> {
  await db.query(on ? 'ALTER SYSTEM SET default_transaction_read_only = on' : 'ALTER SYSTEM RESET default_transaction_read_only')
  await db.query('SELECT pg_reload_conf()')
}

/**
 * Where everything ends that this primary has written, an LSN. At the beginning of a page Postgres says where the next
 * record begins, behind the page's header of 24 or 40 bytes; no record ends there.
 */
export async function writtenUpTo(db: Queryable): Promise<string> {
  const { rows } = await db.query<{ lsn: string }>(
    `SELECT CASE WHEN page.at IN (24, 40) THEN lsn - page.at ELSE lsn END::text AS lsn
     FROM (SELECT pg_current_wal_insert_lsn() AS lsn) here,
       LATERAL (SELECT mod(lsn - '0/0'::pg_lsn, current_setting('wal_block_size')::numeric) AS at) page`,
  )
  return rows[0]!.lsn
}

/** Bytes that a standby has to apply until it has everything up to an LSN; 0 or less: it has. */
export async function bytesUntil(db: Queryable, lsn: string): Promise<number> {
  const { rows } = await db.query<{ bytes: number }>('SELECT pg_wal_lsn_diff($1::pg_lsn, pg_last_wal_replay_lsn())::float8 AS bytes', [lsn])
  return rows[0]!.bytes
}

/** When the newest message was accepted, by the clock of who accepted it; undefined: there is none. */
export async function newestMessageAt(db: Queryable): Promise<Date | undefined> {
  const { rows } = await db.query<{ at: Date }>('SELECT created_at AS at FROM message ORDER BY id DESC LIMIT 1')
  return rows[0]?.at
}

/**
 * Has this server receive shared configuration, or no longer. Two servers of one region have one slot at the cluster, and each
 * would miss what the other was given. Not in a transaction that is read-only. Needs the owner of the subscription, or a superuser.
 */
export async function setSubscribed(db: Queryable, on: boolean): Promise<void> {
  const { rows } = await db.query<{ name: string }>(
    `SELECT quote_ident(subname) AS name FROM pg_subscription WHERE subname LIKE 'tidings\\_configuration%' AND subenabled <> $1
       AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    [on],
  )
  for (const { name } of rows) await db.query(`ALTER SUBSCRIPTION ${name} ${on ? 'ENABLE' : 'DISABLE'}`)
}
