import type { ArchivePart } from '../../domain/archive.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { Pool, Queryable } from '../pool.ts'
import { ArchiveError } from './object-store.ts'
import { ARCHIVED, OUTCOME_SQL, type ArchiveRow } from './tables.ts'

/** Which rows are archived. */
export interface RowRange extends ArchivePart {
  /** The least id (inclusive), and the first that is not taken any more. */
  readonly fromId: string
  readonly toId: string
  /** The table that is read; absent: the one of the part's name. A partition spares Postgres the looking. */
  readonly source?: string | undefined
}

/** What was counted of a range: whether it is still as it was archived. */
export interface RangeCounts {
  readonly rows: number
  readonly payloads: number
}

const sourceOf = ({ source, table }: RowRange) => quoteName(source ?? table)

/** A name, perhaps with its schema before it, for SQL. */
export function quoteName(name: string): string {
  return name
    .split('.')
    .map((part) => `"${part.replaceAll('"', '""')}"`)
    .join('.')
}

const outcomeOf = ({ outcome }: RowRange) => (outcome === null ? 'true' : OUTCOME_SQL[outcome])

export async function countRange(db: Queryable, range: RowRange): Promise<RangeCounts> {
  const { rows } = await db.query<RangeCounts>(
    `SELECT count(*) AS rows, count(*) FILTER (WHERE ${ARCHIVED[range.table].hasPayload}) AS payloads
     FROM ${sourceOf(range)} r WHERE r.id >= $1 AND r.id < $2 AND ${outcomeOf(range)}`,
    [range.fromId, range.toId],
  )
  return rows[0]!
}

/** What sorts rows before their ids: an application, of attempts also an endpoint. */
type Group = readonly string[]

/**
 * The rows of a range in the order of application, of attempts endpoint, and id. Many short statements, each of its own
 * snapshot: nothing holds back vacuum, and whoever reads compares the counts afterwards.
 * @yields some rows at a time, `LIMITS.archiveReadBytes` of them about
 */
export async function* readRange(pool: Pool, range: RowRange, signal?: AbortSignal): AsyncIterable<readonly ArchiveRow[]> {
  for await (const groups of groupsOf(pool, range)) {
    let left: readonly Group[] = groups
    let after: string | undefined
    while (left.length > 0) {
      signal?.throwIfAborted()
      const keys = await readKeys(pool, range, left, after)
      for (const some of cutBySize(keys)) {
        signal?.throwIfAborted()
        yield await readRows(pool, range, some)
      }
      if (keys.length < LIMITS.archiveKeysPerRead) break
      const last = keys.at(-1)!
      left = left.slice(left.findIndex((group) => group.at(-1) === last.group))
      after = last.id
    }
  }
}

/** All groups of a range in their order, some at a time. */
async function* groupsOf(pool: Pool, range: RowRange): AsyncIterable<readonly Group[]> {
  const { groups } = ARCHIVED[range.table]
  const columns = groups.map((name) => `r.${name}`).join(', ')
  let after: Group = groups.map(() => '')
  for (;;) {
    const { rows } = await pool.query<string[]>({
      rowMode: 'array',
      text: `SELECT DISTINCT ${columns} FROM ${sourceOf(range)} r
        WHERE r.id >= $1 AND r.id < $2 AND ${outcomeOf(range)} AND (${columns}) > (${groups.map((_, i) => `$${i + 3}`).join(', ')})
        ORDER BY ${columns} LIMIT ${LIMITS.archiveGroupsPerRead}`,
      values: [range.fromId, range.toId, ...after],
    })
    for (let at = 0; at < rows.length; at += LIMITS.archiveGroupsTogether) yield rows.slice(at, at + LIMITS.archiveGroupsTogether)
    if (rows.length < LIMITS.archiveGroupsPerRead) return
    after = rows.at(-1)!
  }
}

interface RowKey {
  readonly group: string
  readonly id: string
  /** Of an attempt: its message. */
  readonly more: string
  readonly size: number
}

/**
 * Keys in the order of their groups, which come in theirs: one group after the other is looked up in the index that begins with
 * it. The comparison of pairs is what has that index chosen, and not the one of ids alone, in which others' rows are between.
 */
async function readKeys(db: Queryable, range: RowRange, groups: readonly Group[], after: string | undefined): Promise<RowKey[]> {
  const { groups: columns, size } = ARCHIVED[range.table]
  const last = columns.at(-1)!
  const more = range.table === 'attempt' ? 'r.message_id' : `''`
  const { rows } = await db.query<RowKey>(
    `SELECT k.* FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS g (app_id, last, place)
     CROSS JOIN LATERAL (
       SELECT r.${last} AS group, r.id, ${more} AS more, ${size} AS size FROM ${sourceOf(range)} r
       WHERE r.${last} = g.last AND r.app_id = g.app_id AND r.id >= $3 AND r.id < $4
         AND (r.${last}, r.id) > (g.last, CASE WHEN g.place = 1 THEN $5 ELSE '' END) AND ${outcomeOf(range)}
       ORDER BY r.id LIMIT ${LIMITS.archiveKeysPerRead}) k
     LIMIT ${LIMITS.archiveKeysPerRead}`,
    [groups.map(([app]) => app), groups.map((group) => group.at(-1)), range.fromId, range.toId, after ?? ''],
  )
  return rows
}

function* cutBySize(keys: readonly RowKey[]): Iterable<readonly RowKey[]> {
  let begin = 0
  let bytes = 0
  for (const [i, { size }] of keys.entries()) {
    if (bytes > 0 && bytes + size > LIMITS.archiveReadBytes) {
      yield keys.slice(begin, i)
      begin = i
      bytes = 0
    }
    bytes += size
  }
  if (begin < keys.length) yield keys.slice(begin)
}

/** The rows of these keys in their order, without those that have been deleted meanwhile. */
async function readRows(db: Queryable, range: RowRange, keys: readonly RowKey[]): Promise<ArchiveRow[]> {
  const columns = ARCHIVED[range.table].columns.map(({ name, read }) => `${read} AS ${name}`).join(', ')
  const byKey = range.table === 'attempt' ? 'r.message_id = k.more AND r.id = k.id' : 'r.id = k.id'
  // The limit has each key looked up by itself: joined otherwise, all of the day would be read for some of it.
  const { rows } = await db.query<Record<string, string | number | null>>(
    `SELECT f.* FROM unnest($1::text[], $2::text[]) AS k (id, more)
     CROSS JOIN LATERAL (
       SELECT ${columns} FROM ${sourceOf(range)} r WHERE ${byKey} AND r.id >= $3 AND r.id < $4 AND ${outcomeOf(range)} LIMIT 1) f`,
    [keys.map(({ id }) => id), keys.map(({ more }) => more), range.fromId, range.toId],
  )
  const byId = new Map(rows.map((row) => [row['id'] as string, row]))
  return keys.map(({ id }) => byId.get(id)).filter((row) => row !== undefined)
}

/**
 * Refuses what does not belong here: an application of a zone is archived in the region that holds it.
 * @param zone of this region; null: of none
 * @throws {ArchiveError} `wrong_region`
 */
export async function refuseStrangers(db: Queryable, appIds: readonly string[], zone: string | null): Promise<void> {
  const { rows } = await db.query<{ id: string; zone: string }>(
    `SELECT id, zone FROM (
       SELECT id, zone FROM application_zone WHERE id = ANY($1::text[])
       UNION ALL SELECT id, residency FROM application WHERE id = ANY($1::text[]) AND residency IS NOT NULL) a
     WHERE zone IS DISTINCT FROM $2 LIMIT 1`,
    [appIds, zone],
  )
  if (rows.length > 0) {
    throw new ArchiveError('wrong_region', `the application ${rows[0]!.id} belongs to the zone ${rows[0]!.zone}, and is not archived here`)
  }
}

/** An application whose erasure may have passed an archive while it was written. */
export interface OpenErasure {
  readonly taskId: string
  readonly appId: string
}

/** Erasures that were under way at or after an instant. */
export async function erasuresSince(db: Queryable, since: Date): Promise<OpenErasure[]> {
  const { rows } = await db.query<OpenErasure>(
    `SELECT id AS "taskId", input ->> 'applicationId' AS "appId" FROM background_task
     WHERE task = 'application.erase' AND (status = 'running' OR updated_at >= $1)`,
    [since],
  )
  return rows
}

/** What only the holder may change. */
export interface PartLock {
  /** @throws where the lock is lost, with the connection that had it */
  hold(): Promise<void>
}

/**
 * Runs `work` while no other process of the region does anything about the part. The transaction that has the lock reads no
 * table, so it holds back no vacuum.
 * @param name the key of its manifest
 * @throws {ArchiveError} `part_busy` where another one is at it
 */
export async function withPartLock<T>(pool: Pool, name: string, work: (lock: PartLock) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  const onError = (error: Error) => (broken = error)
  client.on('error', onError)
  try {
    await client.query('BEGIN')
    const { rows } = await client.query<{ locked: boolean }>(
      `SELECT pg_try_advisory_xact_lock(hashtextextended('tidings archive ' || $1, 0)) AS locked`,
      [name],
    )
    if (rows[0]?.locked !== true) throw new ArchiveError('part_busy', `${name} is being archived or erased by another process`)
    return await work({
      hold: async () => {
        if (broken !== undefined) throw broken
        await client.query('SELECT 1')
      },
    })
  } finally {
    await client.query('ROLLBACK').catch((error: unknown) => (broken = error instanceof Error ? error : new Error(String(error))))
    client.off('error', onError)
    client.release(broken)
  }
}

export async function databaseNow(db: Queryable): Promise<Date> {
  const { rows } = await db.query<{ now: Date }>('SELECT now() AS now')
  return rows[0]!.now
}
