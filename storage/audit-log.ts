import { newId } from '../domain/ids.ts'
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

export async function listAuditEntries(db: Queryable, filter: AuditFilter, page: Page): Promise<PageOf<AuditEntry>> {
  const parameters = createParameters()
  const add = parameters.add
  const where = [`org_id = ${add(filter.orgId)}`]
  if (filter.appId !== undefined) where.push(`app_id = ${add(filter.appId)}`)
  if (filter.beforeId !== undefined) where.push(`id < ${add(filter.beforeId)}`)
  if (filter.afterId !== undefined) where.push(`id > ${add(filter.afterId)}`)
  const { rows } = await db.query<AuditEntry>(
    `SELECT id, org_id AS "orgId", app_id AS "appId", actor, token_id AS "tokenId", operation, object_id AS "objectId", fields,
       created_at AS "createdAt"
     FROM audit_log WHERE ${where.join(' AND ')} AND ${pageClause(page, 'id', parameters)}`,
    parameters.values,
  )
  return cutPage(rows, page)
}
