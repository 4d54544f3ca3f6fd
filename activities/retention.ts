import { ApplicationFailure, Context } from '@temporalio/activity'
import { ConfigurationUnavailableError, ConfigurationUnconfirmedError } from '../domain/errors.ts'
import { lowestIdAt } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import {
  archivedRanges,
  CONFIGURATION_BY_DAYS,
  daysAhead,
  dueTables,
  isArchived,
  keptSince,
  PARTITIONED,
  type DayTable,
  type DueTable,
  type Retention,
} from '../domain/retention.ts'
import type { ArchiveRangeResult } from '../storage/archive/archive-range.ts'
import type { RowRange } from '../storage/archive/rows.ts'
import type { Configuration } from '../storage/configuration.ts'
import {
  createDays,
  dropDay,
  isLocked,
  listDayTables,
  oldestDay,
  removeOld,
  removeOldAudit,
  sharedDays,
  type DayDatabase,
  type Dropped,
} from '../storage/partitions.ts'
import type { Pool } from '../storage/pool.ts'

/** Archives rows of a table as `archiveRange` of storage/archive. @throws {ArchiveError} */
export interface TableArchiver {
  archiveRange(range: RowRange, options?: { readonly signal?: AbortSignal | undefined }): Promise<Pick<ArchiveRangeResult, 'manifest'>>
}

export interface RetentionDependencies {
  readonly pool: Pool
  readonly retention: Retention
  /** Where it is shared, its days are made and dropped where it is written, too. Absent: it is this database's own. */
  readonly configuration?: Pick<Configuration, 'places'> | undefined
  /** Where rows go that leave the database; undefined: nowhere. */
  readonly archiver?: TableArchiver | undefined
  /** The activity's own unless given. */
  readonly context?: () => Pick<Context, 'heartbeat' | 'cancellationSignal'>
}

const HEARTBEAT_MS = 2000

/** What a region keeps waits for no cluster: the next run, or that of another region, does it. */
async function orAway<T>(work: () => Promise<T>, away: T): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof ConfigurationUnavailableError || error instanceof ConfigurationUnconfirmedError) return away
    throw error
  }
}

function sharedOf(configuration: RetentionDependencies['configuration']): DayDatabase | undefined {
  const place = configuration?.places.find((one) => one.place.shared)?.place
  return place === undefined ? undefined : sharedDays(place)
}

async function dropNamed(db: Pool | DayDatabase, name: string, atMs: number): Promise<Dropped> {
  const now = (await listDayTables(db)).find((table) => table.name === name)
  return now === undefined ? { dropped: true, kept: 0 } : dropDay(db, now, atMs)
}

const isConfiguration = ({ parent }: DayTable) => parent === CONFIGURATION_BY_DAYS

/** All take the time (Unix milliseconds) by which they tell what is old. */
export function createRetention({ pool, retention, configuration, archiver, context = () => Context.current() }: RetentionDependencies) {
  const shared = sharedOf(configuration)
  const working = async <T>(work: () => Promise<T>): Promise<T> => {
    const { heartbeat } = context()
    const beat = setInterval(heartbeat, HEARTBEAT_MS)
    try {
      return await work()
    } catch (error) {
      if (isLocked(error)) throw ApplicationFailure.retryable('the table is in use for longer than 100 ms', 'Locked')
      throw error
    } finally {
      clearInterval(beat)
    }
  }
  return {
    /** Makes tables ahead. @returns how many */
    createDayTables: ({ atMs }: { atMs: number }): Promise<number> =>
      working(async () => {
        let created = 0
        for (const parent of PARTITIONED) created += await createDays(pool, parent, daysAhead(parent, atMs))
        if (shared === undefined) return created
        return created + (await orAway(() => createDays(shared, CONFIGURATION_BY_DAYS, daysAhead(CONFIGURATION_BY_DAYS, atMs)), 0))
      }),

    /** Tables of which nothing is kept any longer, and whether their rows are to be archived first. */
    async dueDayTables({ atMs }: { atMs: number }): Promise<DueTable[]> {
      const due = dueTables(await listDayTables(pool), atMs, retention)
      const ofCluster = shared === undefined ? [] : await orAway(() => listDayTables(shared), [])
      const dueThere = dueTables(ofCluster.filter(isConfiguration), atMs, retention)
      return [
        ...due.map((table) => ({ ...table, ...(archiver !== undefined && isArchived(table) ? { archived: true as const } : {}) })),
        ...dueThere.map((table) => ({ ...table, shared: true as const })),
      ]
    },

    /** Archives the rows of one of them, which are read back and compared. What is archived already is left as it is. @returns rows */
    archiveDayTable: ({ table }: { table: DayTable }): Promise<number> =>
      working(async () => {
        if (archiver === undefined || !(await listDayTables(pool)).some(({ name }) => name === table.name)) return 0
        let rows = 0
        for (const range of archivedRanges(table, await oldestDay(pool, table))) {
          const { manifest } = await archiver.archiveRange({ ...range, source: table.name }, { signal: context().cancellationSignal })
          rows += manifest.rows
        }
        return rows
      }),

    /**
     * Drops one of them; it is tried again where others use what it belongs to. Dropping it again does nothing. One of a cluster
     * that cannot be reached stays.
     */
    dropDayTable: ({ table, atMs }: { table: DayTable; atMs: number }): Promise<Dropped> =>
      working(async () => {
        if (table.shared !== true) return dropNamed(pool, table.name, atMs)
        const stays: Dropped = { dropped: false, keeps: 0 }
        return shared === undefined ? stays : orAway(() => dropNamed(shared, table.name, atMs), stays)
      }),

    /** Removes some of the old rows of the other tables. @returns how many of each, and whether there may be more */
    async removeOldRows({ atMs }: { atMs: number }): Promise<{ removed: Record<string, number>; more: boolean }> {
      const { messagesMs, deliveredMs, failedMs, auditMs } = keptSince(atMs, retention)
      const bounds = {
        nowMs: atMs,
        messageId: lowestIdAt('msg', messagesMs),
        failedSinceMs: failedMs,
        deliveredAttemptId: lowestIdAt('atmpt', deliveredMs),
        failedAttemptId: lowestIdAt('atmpt', failedMs),
        auditId: auditMs === undefined ? '' : lowestIdAt('audit', auditMs),
      }
      const most = LIMITS.retentionRemovedRows
      const removed = await working(() => removeOld(pool, bounds, most))
      const there = shared === undefined ? 0 : await working(() => orAway(() => removeOldAudit(shared, bounds.auditId, most), 0))
      return { removed, more: [...Object.values(removed), there].some((rows) => rows === most) }
    },
  }
}
