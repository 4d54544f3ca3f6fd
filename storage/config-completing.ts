import { randomBytes } from 'node:crypto'
import pg, { type PoolClient } from 'pg'
import { newId } from '../domain/ids.ts'
import type { ConfigEffect } from './config-effects.ts'
import type { ConfigLeader } from './config-leader.ts'
import { isForeign } from './config-residents.ts'
import {
  CONFIGURATION_TABLES,
  isCopied,
  noteComplete,
  SUBSCRIPTION,
  TIMELINE,
  untilWorkerHasStopped,
  withSubscriptionLock,
} from './config-subscription.ts'
import type { Pool, Queryable } from './pool.ts'

/**
 * Makes a copy of the shared configuration complete after its database was promoted. The cluster sends no copy a change twice:
 * what a primary had taken and its standby had not received is missing in the standby for good. So all is compared once,
 * with a snapshot whose place in the cluster's log is known, and replication goes on from there.
 */

/** Rows that are gone as soon as they are written, or that the next turn of the clock renews. */
const PASSING: ReadonlySet<string> = new Set(['config_effect', 'config_clock'])
/** Of the audit log, in which nothing is ever changed, what is older than this before the newest entry is not compared. */
const AUDIT_LOG_COMPARED = `interval '1 day'`
const ROWS_PER_PAGE = 1000

export interface CompletingOptions {
  readonly leader: ConfigLeader
  /** Of the region. */
  readonly region: string
  /** Of the region: rows of applications with this residency are no copy. Null: there are none. */
  readonly zone: string | null
}

/** How many rows were put, and how many were taken away or replaced, by table; those without are left out. */
export interface Completed {
  readonly put: Readonly<Record<string, number>>
  readonly removed: Readonly<Record<string, number>>
}

async function mayLackSomething(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ lacks: boolean }>(
    `SELECT NOT pg_is_in_recovery() AND NOT EXISTS (SELECT FROM config_copy WHERE timeline = ${TIMELINE}) AS lacks`,
  )
  return rows[0]!.lacks
}

/**
 * Compares the copy with the cluster where the database was promoted since that was last done, and mends it. Processes of a region
 * that start at once do it once. While it goes on nothing is applied: changes are seen some time later.
 * @returns undefined where there was no need, or not all has been copied a first time
 * @throws {ConfigurationUnavailableError} where the cluster cannot be reached or confirms nothing; where Postgres refuses
 * (`42501`: the role may not, see docs/regions.md) its error. Replication goes on then, and the next call tries again.
 */
export async function completeCopy(pool: Pool, options: CompletingOptions): Promise<Completed | undefined> {
  if (!(await mayLackSomething(pool)) || !(await isCopied(pool))) return undefined
  return withSubscriptionLock(pool, async (client) => ((await mayLackSomething(client)) ? complete(client, options) : undefined))
}

async function complete(client: PoolClient, options: CompletingOptions): Promise<Completed> {
  await client.query(`ALTER SUBSCRIPTION ${SUBSCRIPTION} DISABLE`)
  try {
    await untilWorkerHasStopped(client)
    const snapshot = await openSnapshot(options.leader)
    try {
      return await compare(client, snapshot, options)
    } finally {
      await snapshot.close()
    }
  } finally {
    await client.query(`ALTER SUBSCRIPTION ${SUBSCRIPTION} ENABLE`)
  }
}

interface Snapshot {
  /** Where in the cluster's log it was taken: all before it, and nothing after it, is seen. */
  readonly lsn: string
  /** A transaction that reads it. */
  readonly client: PoolClient
  close(): Promise<void>
}

/** As Postgres makes the first copy of a table: the place of a new slot comes with a snapshot of the same moment. */
async function openSnapshot(leader: ConfigLeader): Promise<Snapshot> {
  const pool = await leader.find()
  const slots = new pg.Client({ ...pool.options, replication: 'database' } as pg.ClientConfig)
  slots.on('error', () => undefined)
  try {
    await slots.connect()
    const { rows } = await slots.query<{ consistent_point: string; snapshot_name: string }>(
      `CREATE_REPLICATION_SLOT "tidings_completing_${randomBytes(8).toString('hex')}" TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')`,
    )
    const { consistent_point: lsn, snapshot_name: name } = rows[0]!
    // A commit that is confirmed confirms all before it. Without it a copy could have what a new leader does not know.
    await leader.transaction((client) => client.query('UPDATE config_clock SET at = clock_timestamp()'))
    const client = await pool.connect()
    try {
      await client.query(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT ${pg.escapeLiteral(name)}`)
    } catch (error) {
      client.release(true)
      throw error
    }
    const close = async () => {
      // Also where a statement has failed or is not answered: the connection is not used again.
      client.release(true)
      await slots.end()
    }
    return { lsn, client, close }
  } catch (error) {
    await slots.end().catch(() => undefined)
    throw error
  }
}

async function compare(client: PoolClient, snapshot: Snapshot, { region, zone }: CompletingOptions): Promise<Completed> {
  const put: Record<string, number> = {}
  const removed: Record<string, number> = {}
  await client.query('BEGIN')
  try {
    // As what is applied by replication: the copy takes it, and triggers tell of it.
    await client.query('SET LOCAL session_replication_role = replica')
    const tables = CONFIGURATION_TABLES.filter((table) => !PASSING.has(table))
    for (const table of tables) await fetchTable(client, snapshot, table)
    await queueEffects(client, region)
    for (const table of tables) {
      const counts = await mend(client, table, zone)
      if (counts.put > 0) put[table] = counts.put
      if (counts.removed > 0) removed[table] = counts.removed
    }
    await client.query(
      `SELECT pg_replication_origin_advance('pg_' || oid, $1) FROM pg_subscription
       WHERE subname = $2 AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      [snapshot.lsn, SUBSCRIPTION],
    )
    await noteComplete(client)
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined)
    throw error
  }
  return { put, removed }
}

const freshOf = (table: string) => `fresh_${table}`

/** What is compared of the audit log: it only ever grows. */
const comparedOf = (table: string, newest: string) => (table === 'audit_log' ? `created_at > ${newest} - ${AUDIT_LOG_COMPARED}` : 'true')

/** Reads a table at the cluster into a temporary one, in pages: it may be larger than memory. */
async function fetchTable(client: PoolClient, snapshot: Snapshot, table: string): Promise<void> {
  const columns = await columnsOf(snapshot.client, table)
  const fresh = freshOf(table)
  await client.query(`CREATE TEMPORARY TABLE ${fresh} ON COMMIT DROP AS SELECT ${columns} FROM ${table} WITH NO DATA`)
  const { rows } = await client.query<{ newest: string }>(
    table === 'audit_log' ? `SELECT coalesce(max(created_at), '-infinity')::text AS newest FROM audit_log` : `SELECT '' AS newest`,
  )
  const compared = comparedOf(table, `${pg.escapeLiteral(rows[0]!.newest)}::timestamptz`)
  await snapshot.client.query(`DECLARE rows NO SCROLL CURSOR FOR SELECT to_jsonb(t)::text AS row FROM ${table} t WHERE ${compared}`)
  for (;;) {
    const page = await snapshot.client.query<{ row: string }>(`FETCH ${ROWS_PER_PAGE} FROM rows`)
    if (page.rows.length === 0) break
    await client.query(`INSERT INTO ${fresh} SELECT ${columns} FROM jsonb_populate_recordset(NULL::${table}, $1::jsonb)`, [
      `[${page.rows.map(({ row }) => row).join(',')}]`,
    ])
  }
  await snapshot.client.query('CLOSE rows')
  await client.query(`CREATE INDEX ON ${fresh} (${(await keyOf(client, table)).join(', ')}); ANALYZE ${fresh}`)
}

/** Those that the cluster has: a copy of a later version may have more. */
async function columnsOf(db: Queryable, table: string): Promise<string> {
  const { rows } = await db.query<{ columns: string }>(
    `SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS columns FROM pg_attribute
     WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped`,
    [table],
  )
  return rows[0]!.columns
}

/** Columns of the primary key. */
async function keyOf(db: Queryable, table: string): Promise<readonly string[]> {
  const { rows } = await db.query<{ name: string }>(
    `SELECT quote_ident(attname) AS name FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)
     WHERE indrelid = $1::regclass AND indisprimary`,
    [table],
  )
  return rows.map(({ name }) => name)
}

/**
 * Makes a table what the cluster has. What differs is taken away before anything is put: rows that have exchanged what is to be
 * unique would be in each other's way.
 */
async function mend(client: PoolClient, table: string, zone: string | null): Promise<{ put: number; removed: number }> {
  const fresh = freshOf(table)
  const { rows: names } = await client.query<{ name: string }>(
    `SELECT quote_ident(attname) AS name FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 ORDER BY attnum`,
    [fresh],
  )
  const row = (alias: string) => `ROW(${names.map(({ name }) => `${alias}.${name}`).join(', ')})`
  const key = await keyOf(client, table)
  const sameKey = key.map((name) => `f.${name} = t.${name}`).join(' AND ')
  const foreign = isForeign(table, zone)
  const gone = `DELETE FROM ${table} t WHERE NOT EXISTS (
      SELECT FROM ${fresh} f WHERE ${sameKey} AND ${row('f')} IS NOT DISTINCT FROM ${row('t')})
    AND ${comparedOf(table, '(SELECT max(created_at) FROM audit_log)')} AND ${foreign.condition}`
  const removed = await client.query(gone, [...foreign.values])
  const columns = names.map(({ name }) => name).join(', ')
  const put = await client.query(
    `INSERT INTO ${table} (${columns}) OVERRIDING SYSTEM VALUE SELECT ${columns} FROM ${fresh} f
     WHERE NOT EXISTS (SELECT FROM ${table} t WHERE ${sameKey})`,
  )
  return { put: put.rowCount ?? 0, removed: removed.rowCount ?? 0 }
}

/**
 * What the changes lead to in message data had come with them. What can be told from the rows is done again, all of it harmless
 * where it was done: data of erased applications goes, endpoints that are disabled are forgotten, mailboxes of changed ones look
 * at what they hold. Call it before rows are mended.
 */
async function queueEffects(client: PoolClient, region: string): Promise<void> {
  const { rows: endpoints } = await client.query<{ id: string; disabled: boolean }>(
    `SELECT f.id, f.disabled AND NOT t.disabled AS disabled FROM fresh_endpoint f JOIN endpoint t ON t.id = f.id
     WHERE f.updated_at IS DISTINCT FROM t.updated_at OR f.disabled <> t.disabled`,
  )
  const { rows: erased } = await client.query<{ orgId: string; appId: string; endpointIds: string[] }>(
    `SELECT f.org_id AS "orgId", f.object_id AS "appId", array(SELECT id FROM endpoint WHERE app_id = f.object_id) AS "endpointIds"
     FROM fresh_audit_log f WHERE f.operation = 'application.erased' AND NOT EXISTS (SELECT FROM audit_log t WHERE t.id = f.id)`,
  )
  const effects: ConfigEffect[] = [
    ...endpoints.map(({ id, disabled }): ConfigEffect => ({ kind: disabled ? 'endpoint-disabled' : 'queue-due', endpointId: id })),
    ...erased.map(({ orgId, appId, endpointIds }): ConfigEffect => {
      const input = { applicationId: appId, endpointIds }
      return { kind: 'application-erased', task: { id: newId('qtask'), orgId, appId, task: 'application.erase', input } }
    }),
  ]
  for (const effect of effects) {
    await client.query('INSERT INTO config_effect_due (region, effect) VALUES ($1, $2)', [region, JSON.stringify(effect)])
  }
}
