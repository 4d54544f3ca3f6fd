import { createParameters, cutPage, pageClause, type Page, type PageOf } from './page.ts'
import type { Queryable } from './pool.ts'

export interface EventType {
  readonly orgId: string
  readonly name: string
  readonly description: string
  readonly archived: boolean
  readonly deprecated: boolean
  /** Application tokens see the event type only when they carry this flag. */
  readonly featureFlag: string | null
  readonly groupName: string | null
  /** JSON schemas by version. */
  readonly schemas: Readonly<Record<string, unknown>> | null
  readonly createdAt: Date
  readonly updatedAt: Date
}

export type EventTypeFields = Omit<EventType, 'orgId' | 'name' | 'createdAt' | 'updatedAt'>

const COLUMNS = `org_id AS "orgId", name, description, archived, deprecated, feature_flag AS "featureFlag", group_name AS "groupName", schemas,
  created_at AS "createdAt", updated_at AS "updatedAt"`

/** Archived ones included. */
export async function findEventType(
  db: Queryable,
  orgId: string,
  name: string,
  options: { forUpdate?: boolean } = {},
): Promise<EventType | undefined> {
  const { rows } = await db.query<EventType>(
    `SELECT ${COLUMNS} FROM event_type WHERE org_id = $1 AND name = $2 ${options.forUpdate ? 'FOR UPDATE' : ''}`,
    [orgId, name],
  )
  return rows[0]
}

function values(orgId: string, name: string, fields: EventTypeFields): unknown[] {
  const schemas = fields.schemas === null ? null : JSON.stringify(fields.schemas)
  return [orgId, name, fields.description, fields.archived, fields.deprecated, fields.featureFlag, fields.groupName, schemas]
}

/**
 * Creates an event type, or brings an archived one back with these fields.
 * @returns undefined where a live one of this name exists
 */
export async function insertEventType(db: Queryable, orgId: string, name: string, fields: EventTypeFields): Promise<EventType | undefined> {
  const { rows } = await db.query<EventType>(
    `INSERT INTO event_type (org_id, name, description, archived, deprecated, feature_flag, group_name, schemas)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
     ON CONFLICT (org_id, name) DO UPDATE SET description = excluded.description, archived = excluded.archived,
       deprecated = excluded.deprecated, feature_flag = excluded.feature_flag, group_name = excluded.group_name,
       schemas = excluded.schemas, updated_at = now()
     WHERE event_type.archived RETURNING ${COLUMNS}`,
    values(orgId, name, fields),
  )
  return rows[0]
}

/** Sets every field of an existing event type. */
export async function updateEventType(db: Queryable, orgId: string, name: string, fields: EventTypeFields): Promise<EventType> {
  const { rows } = await db.query<EventType>(
    `UPDATE event_type SET description = $3, archived = $4, deprecated = $5, feature_flag = $6, group_name = $7, schemas = $8,
       updated_at = now() WHERE org_id = $1 AND name = $2 RETURNING ${COLUMNS}`,
    values(orgId, name, fields),
  )
  return rows[0]!
}

/** @returns false where there is none of this name */
export async function archiveEventType(db: Queryable, orgId: string, name: string): Promise<boolean> {
  const result = await db.query('UPDATE event_type SET archived = true, updated_at = now() WHERE org_id = $1 AND name = $2', [orgId, name])
  return result.rowCount === 1
}

/** Removes the row itself. @returns false where there is none of this name */
export async function expungeEventType(db: Queryable, orgId: string, name: string): Promise<boolean> {
  const result = await db.query('DELETE FROM event_type WHERE org_id = $1 AND name = $2', [orgId, name])
  return result.rowCount === 1
}

/** @returns those of `names` that do not exist or are archived */
export async function missingEventTypes(db: Queryable, orgId: string, names: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    'SELECT name FROM event_type WHERE org_id = $1 AND name = ANY($2::text[]) AND NOT archived',
    [orgId, names],
  )
  const known = new Set(rows.map((row) => row.name))
  return names.filter((name) => !known.has(name))
}

export interface EventTypeFilter {
  readonly includeArchived: boolean
  /** Set: only those without a feature flag or with one of these. Undefined: all. */
  readonly featureFlags?: readonly string[] | undefined
}

export async function listEventTypes(db: Queryable, orgId: string, filter: EventTypeFilter, page: Page): Promise<PageOf<EventType>> {
  const parameters = createParameters()
  const where = [`org_id = ${parameters.add(orgId)}`]
  if (!filter.includeArchived) where.push('NOT archived')
  if (filter.featureFlags !== undefined) {
    where.push(`(feature_flag IS NULL OR feature_flag = ANY(${parameters.add(filter.featureFlags)}::text[]))`)
  }
  const { rows } = await db.query<EventType>(
    `SELECT ${COLUMNS} FROM event_type WHERE ${where.join(' AND ')} AND ${pageClause(page, 'name', parameters)}`,
    parameters.values,
  )
  return cutPage(rows, page)
}

/** @returns how many event types the organisation has, archived ones among them */
export async function countEventTypes(db: Queryable, orgId: string): Promise<number> {
  const { rows } = await db.query<{ count: number }>('SELECT count(*) AS count FROM event_type WHERE org_id = $1', [orgId])
  return rows[0]!.count
}
