import type { Queryable } from '../pool.ts'
import { quoteName } from './rows.ts'

/** @returns the applications that have messages in a schema of `restoreArchive`; undefined where it has no table of messages */
export async function restoredApplications(db: Queryable, schema: string): Promise<string[] | undefined> {
  const table = `${quoteName(schema)}.message`
  const { rows: there } = await db.query<{ there: boolean }>('SELECT to_regclass($1) IS NOT NULL AS there', [table])
  if (!there[0]!.there) return undefined
  const { rows } = await db.query<{ app_id: string }>(`SELECT DISTINCT app_id FROM ${table} ORDER BY app_id`)
  return rows.map((row) => row.app_id)
}

export interface ReplayApplication {
  readonly id: string
  readonly orgId: string
}

/** Live applications with this id; else those with this uid, of which each organisation may have one. */
export async function findReplayApplications(db: Queryable, idOrUid: string): Promise<ReplayApplication[]> {
  const { rows } = await db.query<ReplayApplication>(
    `SELECT id, org_id AS "orgId" FROM application WHERE deleted_at IS NULL AND (id = $1 OR uid = $1) ORDER BY (id = $1) DESC, id`,
    [idOrUid],
  )
  return rows[0]?.id === idOrUid ? [rows[0]] : rows
}

export interface ReplayEndpoint {
  readonly id: string
  readonly uid: string | null
  readonly disabled: boolean
}

/** Live endpoints of an application. */
export async function listReplayEndpoints(db: Queryable, appId: string): Promise<ReplayEndpoint[]> {
  const { rows } = await db.query<ReplayEndpoint>(
    'SELECT id, uid, disabled FROM endpoint WHERE app_id = $1 AND deleted_at IS NULL ORDER BY id',
    [appId],
  )
  return rows
}
