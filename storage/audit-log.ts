import { timeOfId } from '../domain/archive.ts'
import { lowestIdAt, newId } from '../domain/ids.ts'
import { createParameters, cutPage, pageClause, type Page, type PageOf } from './page.ts'
import type { Queryable } from './pool.ts'

/** One change of the configuration. It names what was changed, never to what. */
export interface AuditEntry {
  /** `audit_…` */
  readonly id: string
  readonly orgId: string
  /** Null: of the organisation's own. */
  readonly appId: string | null
  /** The token's subject, or `tidings` where the service changed something by itself. */
  readonly actor: string
  /** The token's `jti`. */
  readonly tokenId: string | null
  /** What was done, such as `endpoint.updated`. */
  readonly operation: string
  readonly objectId: string
  /** Names of the fields that changed. */
  readonly fields: readonly string[]
  readonly createdAt: Date
}

export interface AuditFilter {
  readonly orgId: string
  readonly appId?: string | undefined
  /** Ids below this one (exclusive). */
  readonly beforeId?: string | undefined
  /** Ids above this one (exclusive). */
  readonly afterId?: string | undefined
}

const ID_TICK_MS = 4
let lastMs = 0

/** Ids of one process rise with every entry: several of one request are listed in the order of what they tell. */
function nextId(): string {
  lastMs = Math.max(Date.now(), lastMs + ID_TICK_MS)
  return newId('audit', lastMs)
}

export type NewAuditEntry = Omit<AuditEntry, 'id' | 'createdAt'>

/** Call it in the transaction of the change. @returns its id */
export async function insertAuditEntry(db: Queryable, entry: NewAuditEntry): Promise<string> {
  const id = nextId()
  await db.query({
    name: 'audit-insert',
    text: `INSERT INTO audit_log (id, org_id, app_id, actor, token_id, operation, object_id, fields) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
    values: [id, entry.orgId, entry.appId, entry.actor, entry.tokenId, entry.operation, entry.objectId, entry.fields],
  })
  return id
}

const DAY_MS = 86_400_000
/** A list plans with every table of a day that it may read. It rarely reads many: it asks for some, then for more, then for all. */
const DAYS_AT_A_TIME = [14, 60] as const

/** Ids from one (inclusive) to another (exclusive); undefined: no bound. */
interface IdRange {
  readonly fromId?: string | undefined
  readonly toId?: string | undefined
}

/** Ranges that have all entries together, in the order of a page. */
function rangesOf({ beforeId, afterId }: AuditFilter, page: Page): IdRange[] {
  const rises = (page.order === 'ascending') !== (page.backwards === true)
  const start = page.from ?? (rises ? afterId : beforeId)
  const startMs = start === undefined ? (rises ? undefined : Date.now()) : timeOfId(start)
  if (startMs === undefined) return [{}]
  const ranges: IdRange[] = []
  let edge: string | undefined
  for (const days of DAYS_AT_A_TIME) {
    const next = lowestIdAt('audit', startMs + (rises ? days : -days) * DAY_MS)
    ranges.push(rises ? { fromId: edge, toId: next } : { fromId: next, toId: edge })
    edge = next
  }
  return [...ranges, rises ? { fromId: edge } : { toId: edge }]
}

export async function listAuditEntries(db: Queryable, filter: AuditFilter, page: Page): Promise<PageOf<AuditEntry>> {
  const rows: AuditEntry[] = []
  for (const range of rangesOf(filter, page)) {
    rows.push(...(await readRange(db, filter, range, { ...page, limit: page.limit - rows.length })))
    if (rows.length > page.limit) break
  }
  return cutPage(rows, page)
}

async function readRange(db: Queryable, filter: AuditFilter, { fromId, toId }: IdRange, page: Page): Promise<AuditEntry[]> {
  const parameters = createParameters()
  const add = parameters.add
  const where = [`org_id = ${add(filter.orgId)}`]
  if (filter.appId !== undefined) where.push(`app_id = ${add(filter.appId)}`)
  if (filter.beforeId !== undefined) where.push(`id < ${add(filter.beforeId)}`)
  if (filter.afterId !== undefined) where.push(`id > ${add(filter.afterId)}`)
  if (fromId !== undefined) where.push(`id >= ${add(fromId)}`)
  if (toId !== undefined) where.push(`id < ${add(toId)}`)
  const { rows } = await db.query<AuditEntry>(
    `SELECT id, org_id AS "orgId", app_id AS "appId", actor, token_id AS "tokenId", operation, object_id AS "objectId", fields,
       created_at AS "createdAt"
     FROM audit_log WHERE ${where.join(' AND ')} AND ${pageClause(page, 'id', parameters)}`,
    parameters.values,
  )
  return rows
}
