import type { Pool } from './pool.ts'

/** What publishing needs to know of an application. */
export interface KnownApplication {
  readonly id: string
  readonly orgId: string
  readonly uid: string | null
  /** The zone that its data may not leave; null: none. */
  readonly residency: string | null
}

interface Row {
  id: string
  org_id: string
  uid: string | null
  residency: string | null
}

const toKnown = ({ id, org_id: orgId, uid, residency }: Row): KnownApplication => ({ id, orgId, uid, residency })

/**
 * Live applications by id or uid, each in its organisation alone; an id goes before a uid that is equal to it.
 * @returns in the order of what was asked for; undefined where there is none
 */
export async function findApplications(
  pool: Pool,
  asked: readonly { readonly orgId: string; readonly idOrUid: string }[],
): Promise<(KnownApplication | undefined)[]> {
  const { rows } = await pool.query<Row & { n: number }>({
    name: 'cache-applications',
    text: `SELECT asked.n, a.id, a.org_id, a.uid, a.residency
      FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (org_id, id_or_uid, n)
      CROSS JOIN LATERAL (
        SELECT id, org_id, uid, residency FROM application
        WHERE org_id = asked.org_id AND deleted_at IS NULL AND (id = asked.id_or_uid OR uid = asked.id_or_uid)
        ORDER BY id = asked.id_or_uid DESC, residency NULLS LAST LIMIT 1
      ) a`,
    values: [asked.map(({ orgId }) => orgId), asked.map(({ idOrUid }) => idOrUid)],
  })
  const found: (KnownApplication | undefined)[] = asked.map(() => undefined)
  for (const row of rows) found[row.n - 1] = toKnown(row)
  return found
}

/**
 * The live applications with most messages among the newest ones, the most popular first.
 * @param messages so many of the newest are looked at
 * @param max applications
 */
export async function readPopularApplications(pool: Pool, messages: number, max: number): Promise<KnownApplication[]> {
  const { rows } = await pool.query<Row>({
    text: `SELECT a.id, a.org_id, a.uid, a.residency
      FROM (SELECT app_id, count(*) AS messages FROM (SELECT app_id FROM message ORDER BY id DESC LIMIT $1) newest GROUP BY app_id) popular
      JOIN application a ON a.id = popular.app_id AND a.deleted_at IS NULL
      ORDER BY popular.messages DESC LIMIT $2`,
    values: [messages, max],
  })
  return rows.map(toKnown)
}
