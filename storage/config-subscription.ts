import { setTimeout as pause } from 'node:timers/promises'
import pg, { type PoolClient } from 'pg'
import { QUORUM_SLOT } from './config-quorum.ts'
import { admitResidents, findForeignRows, protectCopy, refuseResidents } from './config-residents.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'

/** All that is configuration, with what tells of its changes. */
export const CONFIGURATION_TABLES = [
  'application',
  'endpoint',
  'endpoint_secret',
  'event_type',
  'token_expired',
  'application_tokens_expired',
  'audit_log',
  'config_effect',
  'config_clock',
] as const

const PUBLICATION = 'tidings_configuration'
export const SUBSCRIPTION = 'tidings_configuration'
// "subscribe" in ASCII, cut to 31 bits: processes of a region that start at once set it up once.
const LOCK_KEY = 0x73756273
/** The first version whose slots survive a change of leader by Postgres' own means. */
const FAILOVER_SLOTS_FROM = 170_000
const WORKER_STOPS_WITHIN_MS = 10_000
const POLL_MS = 20

// Of the database as it runs: that of the control file is older until the first checkpoint after a promotion.
export const TIMELINE = 'left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)'

/** A region's database cannot become a copy of the configuration as it is, or the cluster not its origin. */
export class ConfigurationSetUpError extends Error {
  readonly code = 'configuration_set_up'
  override readonly name = 'ConfigurationSetUpError'
}

/** The slot of a region at the cluster's leader. */
export const slotOf = (region: string): string => `tidings_${region.replaceAll('-', '_')}`

/**
 * Address for libpq of whichever member is writable. Members share user, password, database and parameters: those of the first.
 * A connection whose other end is gone is found dead within seconds.
 */
export function leaderConnection(urls: readonly string[]): string {
  const members = urls.map((url) => new URL(url))
  const [first] = members as [URL]
  const quoted = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
  const parts: Record<string, string> = {
    host: members.map(({ hostname }) => hostname.replaceAll(/[[\]]/g, '')).join(','),
    port: members.map(({ port }) => port || '5432').join(','),
    dbname: decodeURIComponent(first.pathname.slice(1)),
    user: decodeURIComponent(first.username),
    password: decodeURIComponent(first.password),
    ...Object.fromEntries(first.searchParams),
    target_session_attrs: 'read-write',
    connect_timeout: '3',
    keepalives_idle: '2',
    keepalives_interval: '1',
    keepalives_count: '3',
    tcp_user_timeout: '5000',
  }
  return Object.entries(parts)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}=${quoted(value)}`)
    .join(' ')
}

/**
 * Makes a migrated database the one that configuration is written to. Does nothing where it is already.
 * @throws {ConfigurationSetUpError} where it has applications with a zone
 */
export async function publishConfiguration(leader: Pool): Promise<void> {
  await inTransaction(leader, async (client) => {
    await client.query('SELECT pg_advisory_xact_lock($1)', [LOCK_KEY])
    if (!(await refuseResidents(client))) {
      const text = 'the cluster has applications with a zone, which are configured in their region: docs/regions.md says how'
      throw new ConfigurationSetUpError(text)
    }
    await client.query(`INSERT INTO config_clock (at) VALUES (to_timestamp(0)) ON CONFLICT DO NOTHING`)
    const { rows } = await client.query<{ name: string }>('SELECT tablename AS name FROM pg_publication_tables WHERE pubname = $1', [
      PUBLICATION,
    ])
    const published = new Set(rows.map(({ name }) => name))
    if (CONFIGURATION_TABLES.every((table) => published.has(table))) return
    const { rowCount } = await client.query('SELECT FROM pg_publication WHERE pubname = $1', [PUBLICATION])
    const tables = CONFIGURATION_TABLES.join(', ')
    await client.query(
      rowCount === 0
        ? // Each database has days of its own.
          `CREATE PUBLICATION ${PUBLICATION} FOR TABLE ${tables} WITH (publish_via_partition_root = true)`
        : `ALTER PUBLICATION ${PUBLICATION} SET TABLE ${tables}; ALTER PUBLICATION ${PUBLICATION} SET (publish_via_partition_root = true)`,
    )
  })
  await ensureQuorumSlot(leader)
}

/** Where the leader waits for it; a cluster manager may keep it instead. */
async function ensureQuorumSlot(leader: Queryable): Promise<void> {
  await leader.query(
    `SELECT pg_create_physical_replication_slot('${QUORUM_SLOT}', true)
     WHERE coalesce(current_setting('synchronized_standby_slots', true), '') LIKE '%${QUORUM_SLOT}%'
       AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '${QUORUM_SLOT}')`,
  )
}

export interface SubscriptionOptions {
  /** Members of the cluster, as the region's Postgres reaches them. */
  readonly urls: readonly string[]
  readonly region: string
  /** Of the region; null: none. Applications with this residency are configured in the region's database. */
  readonly zone: string | null
}

/**
 * Makes a region's migrated database a copy of what the cluster publishes; the first time all of it is copied. What is not
 * applied by replication can change the copied tables no more, but for what belongs to applications of the region's zone.
 * @throws {ConfigurationSetUpError} where it has other configuration of its own
 */
export function subscribeToConfiguration(pool: Pool, options: SubscriptionOptions): Promise<void> {
  return withSubscriptionLock(pool, (client) => subscribe(client, options))
}

/** Brings a database that is a copy up to what this version expects of one, without the cluster. */
export function prepareCopy(pool: Pool, zone: string | null): Promise<void> {
  return withSubscriptionLock(pool, (client) => prepare(client, zone))
}

/**
 * Whoever else does something with this database's subscription waits. Not in a transaction: CREATE SUBSCRIPTION makes a slot
 * at the other end.
 */
export async function withSubscriptionLock<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  try {
    await client.query('SELECT pg_advisory_lock($1)', [LOCK_KEY])
    return await work(client)
  } finally {
    await client.query('SELECT pg_advisory_unlock($1)', [LOCK_KEY]).catch(() => undefined)
    client.release()
  }
}

async function prepare(db: Queryable, zone: string | null): Promise<void> {
  if (zone !== null) await admitResidents(db, { renumber: false })
  await protectCopy(db, CONFIGURATION_TABLES, zone)
}

async function subscribe(db: Queryable, { urls, region, zone }: SubscriptionOptions): Promise<void> {
  const wanted = leaderConnection(urls)
  const { rows } = await db.query<{ tables: string[] }>(
    `SELECT array(SELECT srrelid::regclass::text FROM pg_subscription_rel WHERE srsubid = s.oid) AS tables
     FROM pg_subscription s WHERE subname = $1 AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    [SUBSCRIPTION],
  )
  const [existing] = rows
  if (existing === undefined) return create(db, wanted, { region, zone })
  // What it was is shown to superusers alone; the same again changes nothing.
  await db.query(`ALTER SUBSCRIPTION ${SUBSCRIPTION} CONNECTION ${pg.escapeLiteral(wanted)}`)
  // That of an audit log that has become another table is no copy to be made: config-audit-log.ts.
  if (!CONFIGURATION_TABLES.every((table) => table === 'audit_log' || existing.tables.includes(table))) {
    await db.query(`ALTER SUBSCRIPTION ${SUBSCRIPTION} REFRESH PUBLICATION`)
  }
  await prepare(db, zone)
}

async function create(db: Queryable, connection: string, { region, zone }: Pick<SubscriptionOptions, 'region' | 'zone'>): Promise<void> {
  const table = await findForeignRows(db, CONFIGURATION_TABLES, zone)
  if (table !== undefined) {
    const text = `${table} has rows of its own, and its content is to be a copy: docs/regions.md says how configuration is moved to a cluster`
    throw new ConfigurationSetUpError(text)
  }
  const { rows } = await db.query<{ version: number }>(`SELECT current_setting('server_version_num')::integer AS version`)
  const failover = (rows[0]?.version ?? 0) >= FAILOVER_SLOTS_FROM ? ', failover = true' : ''
  await noteComplete(db)
  // Before anything is copied: what is there already is in nobody's way then.
  if (zone !== null) await admitResidents(db, { renumber: true })
  await db.query(
    `CREATE SUBSCRIPTION ${SUBSCRIPTION} CONNECTION ${pg.escapeLiteral(connection)} PUBLICATION ${PUBLICATION}
     WITH (slot_name = ${pg.escapeLiteral(slotOf(region))}, copy_data = true${failover})`,
  )
  await protectCopy(db, CONFIGURATION_TABLES, zone)
}

/** That the copy, as far as it is made, lacks nothing while this database has the timeline that it has now. */
export async function noteComplete(db: Queryable): Promise<void> {
  await db.query(`INSERT INTO config_copy (timeline) VALUES (${TIMELINE}) ON CONFLICT (one) DO UPDATE SET timeline = excluded.timeline`)
}

/** Waits until nothing is applied. Call it when the subscription is disabled. */
export async function untilWorkerHasStopped(db: Queryable): Promise<void> {
  const untilMs = Date.now() + WORKER_STOPS_WITHIN_MS
  for (;;) {
    const { rowCount } = await db.query('SELECT FROM pg_stat_subscription WHERE subname = $1 AND pid IS NOT NULL', [SUBSCRIPTION])
    if (rowCount === 0) return
    if (Date.now() > untilMs) throw new Error('the subscription to shared configuration does not stop')
    await pause(POLL_MS)
  }
}

/** Whether all tables have been copied once, and are kept up to date from then on. */
export async function isCopied(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ copied: boolean }>(
    `SELECT count(*) > 0 AND bool_and(r.srsubstate = 'r') AS copied FROM pg_subscription s
     JOIN pg_subscription_rel r ON r.srsubid = s.oid
     WHERE s.subname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    [SUBSCRIPTION],
  )
  return rows[0]?.copied === true
}
