import { createParameters, cutPage, pageClause, type Page, type PageOf } from './page.ts'
import type { Queryable } from './pool.ts'

/** A tenant of an organisation: owns endpoints and messages. */
export interface Application {
  readonly id: string
  readonly orgId: string
  /** The owner's own name for it, unique among the organisation's live applications. */
  readonly uid: string | null
  readonly name: string
  readonly throttleRate: number | null
  readonly metadata: Readonly<Record<string, string>>
  /** The zone that its data may not leave; null: none. Set when it is created and never changed. */
  readonly residency: string | null
  readonly createdAt: Date
  readonly updatedAt: Date
}

/** What a caller may set of an application. */
export type ApplicationFields = Pick<Application, 'uid' | 'name' | 'throttleRate' | 'metadata'>

/** What a new one has besides. */
export type NewApplication = ApplicationFields & Pick<Application, 'residency'>

const COLUMNS = `id, org_id AS "orgId", uid, name, throttle_rate AS "throttleRate", metadata, residency, created_at AS "createdAt", updated_at AS "updatedAt"`

/**
 * The live application of this organisation by id or uid. An id wins over a uid of the same text; of two with one uid, which a
 * region with a zone may know, the one with a residency.
 */
export async function findApplication(
  db: Queryable,
  orgId: string,
  idOrUid: string,
  options: { forUpdate?: boolean } = {},
): Promise<Application | undefined> {
  const { rows } = await db.query<Application>({
    name: options.forUpdate ? 'application-lock' : 'application-find',
    text: `SELECT ${COLUMNS} FROM application WHERE org_id = $1 AND (id = $2 OR uid = $2) AND deleted_at IS NULL
           ORDER BY (id = $2) DESC, residency NULLS LAST LIMIT 1 ${options.forUpdate ? 'FOR UPDATE' : ''}`,
    values: [orgId, idOrUid],
  })
  return rows[0]
}

/** The application that is to be erased, locked: a live one by id or uid, a deleted one by its id. */
export async function findErasableApplication(db: Queryable, orgId: string, idOrUid: string): Promise<Application | undefined> {
  const { rows } = await db.query<Application>(
    `SELECT ${COLUMNS} FROM application WHERE org_id = $1 AND (id = $2 OR (uid = $2 AND deleted_at IS NULL))
     ORDER BY (id = $2) DESC, residency NULLS LAST LIMIT 1 FOR UPDATE`,
    [orgId, idOrUid],
  )
  return rows[0]
}

/** @returns undefined where the organisation has a live application of this uid */
export async function insertApplication(
  db: Queryable,
  id: string,
  orgId: string,
  fields: NewApplication,
): Promise<Application | undefined> {
  const { rows } = await db.query<Application>(
    `INSERT INTO application (id, org_id, uid, name, throttle_rate, metadata, residency) VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT DO NOTHING RETURNING ${COLUMNS}`,
    [id, orgId, fields.uid, fields.name, fields.throttleRate, JSON.stringify(fields.metadata), fields.residency],
  )
  return rows[0]
}

/** Sets every field but the residency, which stays. A uid that another application has ends in Postgres's unique violation (23505). */
export async function updateApplication(db: Queryable, id: string, fields: ApplicationFields): Promise<Application> {
  const { rows } = await db.query<Application>(
    `UPDATE application SET uid = $2, name = $3, throttle_rate = $4, metadata = $5, updated_at = now() WHERE id = $1 RETURNING ${COLUMNS}`,
    [id, fields.uid, fields.name, fields.throttleRate, JSON.stringify(fields.metadata)],
  )
  return rows[0]!
}

/** Deletes an application and its endpoints (their rows stay for history); frees the uids. */
export async function deleteApplication(db: Queryable, id: string): Promise<void> {
  await db.query('UPDATE application SET deleted_at = now(), updated_at = now() WHERE id = $1', [id])
  await db.query('UPDATE endpoint SET deleted_at = now(), updated_at = now() WHERE app_id = $1 AND deleted_at IS NULL', [id])
}

/** @param zone those with this residency alone; undefined: all */
export async function listApplications(db: Queryable, orgId: string, page: Page, zone?: string): Promise<PageOf<Application>> {
  const parameters = createParameters()
  const residents = zone === undefined ? '' : `AND residency = ${parameters.add(zone)}`
  const where = `org_id = ${parameters.add(orgId)} AND deleted_at IS NULL ${residents}`
  const { rows } = await db.query<Application>(
    `SELECT ${COLUMNS} FROM application WHERE ${where} AND ${pageClause(page, 'id', parameters)}`,
    parameters.values,
  )
  return cutPage(rows, page)
}

/** The organisation's live applications by the names that they were asked for: ids or uids. */
export async function findApplicationIds(db: Queryable, orgId: string, names: readonly string[]): Promise<Map<string, string>> {
  const { rows } = await db.query<{ name: string; id: string }>(
    `SELECT DISTINCT ON (asked) asked AS name, a.id FROM unnest($2::text[]) AS asked
      JOIN application a ON a.org_id = $1 AND a.deleted_at IS NULL AND (a.id = asked OR a.uid = asked)
      ORDER BY asked, a.id = asked DESC, a.residency NULLS LAST`,
    [orgId, names],
  )
  return new Map(rows.map((row) => [row.name, row.id]))
}
