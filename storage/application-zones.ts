import { createHmac } from 'node:crypto'
import type { Pool, Queryable } from './pool.ts'

/** What every region knows of an application with a zone. */
export interface ApplicationZone {
  readonly id: string
  readonly orgId: string
  /** As `createUidHash` makes it; null without a uid. */
  readonly uidHash: Buffer | null
  readonly zone: string
  /** Grows with each change. */
  readonly version: number
}

/** Where something is, of what this region may not hold. */
export interface Elsewhere {
  readonly id: string
  readonly zone: string
}

/**
 * A uid may name a customer, and must not be known outside of its zone: it is found by its HMAC there.
 * @param secrets `TIDINGS_JWT_SECRET`, which all regions have; for looking up also the ones before it
 * @returns a hash by each secret, that by the current one first
 */
export function createUidHash(secrets: readonly string[]): (orgId: string, uid: string) => [Buffer, ...Buffer[]] {
  const [current, ...previous] = secrets.map((secret) => createHmac('sha256', secret).update('uid of an application with a zone').digest())
  const hash = (key: Buffer, orgId: string, uid: string) => createHmac('sha256', key).update(`${orgId} ${uid}`).digest()
  return (orgId, uid) => [hash(current!, orgId, uid), ...previous.map((key) => hash(key, orgId, uid))]
}

/**
 * An application of the organisation that is in another zone than this region. An id wins over a uid.
 * @param uidHashes of the same name, taken for a uid
 * @param ownZone of this region; null: none
 */
export async function findElsewhere(
  db: Queryable,
  { orgId, name, uidHashes, ownZone }: { orgId: string; name: string; uidHashes: readonly Buffer[]; ownZone: string | null },
): Promise<Elsewhere | undefined> {
  const { rows } = await db.query<Elsewhere>({
    name: 'application-zone-find',
    text: `SELECT id, zone FROM application_zone
      WHERE org_id = $1 AND (id = $2 OR uid_hash = ANY($3::bytea[])) AND ($4::text IS NULL OR zone <> $4)
      ORDER BY (id = $2) DESC LIMIT 1`,
    values: [orgId, name, uidHashes, ownZone],
  })
  return rows[0]
}

/** Other zones than this one that the organisation has applications in. */
export async function findOtherZones(db: Queryable, orgId: string, ownZone: string | null): Promise<string[]> {
  const { rows } = await db.query<{ zone: string }>(
    'SELECT DISTINCT zone FROM application_zone WHERE org_id = $1 AND ($2::text IS NULL OR zone <> $2) ORDER BY zone',
    [orgId, ownZone],
  )
  return rows.map(({ zone }) => zone)
}

/** What is told of an application, as it is in the transaction that changes it. Undefined: it has no zone. */
export async function readResident(db: Queryable, appId: string): Promise<{ orgId: string; uid: string | null; zone: string } | undefined> {
  const { rows } = await db.query<{ orgId: string; uid: string | null; zone: string }>(
    `SELECT org_id AS "orgId", CASE WHEN deleted_at IS NULL THEN uid END AS uid, residency AS zone
      FROM application WHERE id = $1 AND residency IS NOT NULL`,
    [appId],
  )
  return rows[0]
}

/** In the application's zone: writes what is known of it everywhere. The version is the time, so that it grows after a failover too. */
export async function writeZone(db: Queryable, { id, orgId, uidHash, zone }: Omit<ApplicationZone, 'version'>): Promise<void> {
  await db.query(
    `INSERT INTO application_zone AS z (id, org_id, uid_hash, zone, version)
      VALUES ($1, $2, $3, $4, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
      ON CONFLICT (id) DO UPDATE SET uid_hash = excluded.uid_hash, version = greatest(z.version + 1, excluded.version)`,
    [id, orgId, uidHash, zone],
  )
}

/** Anywhere: keeps what the application's zone tells of it, where it is newer than what is known. */
export async function keepZones(db: Queryable, zones: readonly ApplicationZone[]): Promise<void> {
  await db.query(
    `INSERT INTO application_zone AS z (id, org_id, uid_hash, zone, version)
      SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bigint[])
      ON CONFLICT (id) DO UPDATE SET uid_hash = excluded.uid_hash, version = excluded.version
        WHERE z.version < excluded.version AND z.zone = excluded.zone`,
    [
      zones.map((one) => one.id),
      zones.map((one) => one.orgId),
      zones.map((one) => one.uidHash),
      zones.map((one) => one.zone),
      zones.map((one) => one.version),
    ],
  )
}

/** Forgets erased applications of a zone. */
export async function forgetZones(db: Queryable, ids: readonly string[], zone: string): Promise<void> {
  await db.query('DELETE FROM application_zone WHERE id = ANY($1::text[]) AND zone = $2', [ids, zone])
}

/** Has regions told of an application, in the transaction that changes it. */
export async function tellOfZone(db: Queryable, appId: string, regions: readonly string[]): Promise<void> {
  await db.query(
    `INSERT INTO application_zone_untold AS u (app_id, region) SELECT $1, unnest($2::text[])
      ON CONFLICT (app_id, region) DO UPDATE SET version = u.version + 1, next_at = now()`,
    [appId, regions],
  )
}

/** One thing that one region is to be told. */
export interface Untold {
  readonly appId: string
  readonly region: string
  readonly version: number
  /** Null: the application was erased. */
  readonly zone: ApplicationZone | null
}

/**
 * Takes what is due, so that no other process takes it for `leaseMs`; what is not told by then is due again.
 * @param appIds of these applications alone; null: of any
 */
export async function claimUntold(pool: Pool, appIds: readonly string[] | null, max: number, leaseMs: number): Promise<Untold[]> {
  type Row = Pick<Untold, 'appId' | 'region' | 'version'> & {
    org_id: string | null
    uid_hash: Buffer | null
    zone: string
    zone_version: number
  }
  const { rows } = await pool.query<Row>(
    `WITH due AS (
        SELECT u.app_id, u.region FROM application_zone_untold u
        WHERE u.next_at <= now() AND ($1::text[] IS NULL OR u.app_id = ANY($1))
        ORDER BY u.next_at LIMIT $2 FOR UPDATE SKIP LOCKED
      ), taken AS (
        UPDATE application_zone_untold u SET next_at = now() + $3 * interval '1 ms' FROM due
        WHERE u.app_id = due.app_id AND u.region = due.region RETURNING u.app_id, u.region, u.version
      )
      SELECT t.app_id AS "appId", t.region, t.version, z.org_id, z.uid_hash, z.zone, z.version AS zone_version
      FROM taken t LEFT JOIN application_zone z ON z.id = t.app_id`,
    [appIds, max, leaseMs],
  )
  return rows.map(({ org_id: orgId, uid_hash: uidHash, zone, zone_version: zoneVersion, ...untold }) => ({
    ...untold,
    zone: orgId === null ? null : { id: untold.appId, orgId, uidHash, zone, version: zoneVersion },
  }))
}

/** A region has heard it; what has changed since is told again. */
export async function markTold(db: Queryable, told: readonly Untold[]): Promise<void> {
  await db.query(
    `DELETE FROM application_zone_untold u USING unnest($1::text[], $2::text[], $3::bigint[]) AS told (app_id, region, version)
      WHERE u.app_id = told.app_id AND u.region = told.region AND u.version = told.version`,
    [told.map((one) => one.appId), told.map((one) => one.region), told.map((one) => one.version)],
  )
}

/** Has regions that were not there before told of every application of the zone, and forgets those that are there no more. */
export async function welcomeRegions(db: Queryable, zone: string, regions: readonly string[]): Promise<void> {
  await db.query(
    `WITH gone AS (
        DELETE FROM application_zone_listener WHERE region <> ALL($2::text[]) RETURNING region
      ), unheard AS (
        DELETE FROM application_zone_untold WHERE region <> ALL($2::text[])
      ), fresh AS (
        INSERT INTO application_zone_listener (region) SELECT unnest($2::text[]) ON CONFLICT DO NOTHING RETURNING region
      )
      INSERT INTO application_zone_untold (app_id, region) SELECT z.id, fresh.region FROM fresh, application_zone z WHERE z.zone = $1
      ON CONFLICT DO NOTHING`,
    [zone, regions],
  )
}

/** Applications of this region with a zone and a uid, in the order of their ids, and the hash that is told of them. */
export async function listResidents(
  db: Queryable,
  afterId: string,
  max: number,
): Promise<{ id: string; orgId: string; uid: string; uidHash: Buffer | null }[]> {
  const { rows } = await db.query<{ id: string; orgId: string; uid: string; uidHash: Buffer | null }>(
    `SELECT a.id, a.org_id AS "orgId", a.uid, z.uid_hash AS "uidHash" FROM application a LEFT JOIN application_zone z ON z.id = a.id
      WHERE a.residency IS NOT NULL AND a.uid IS NOT NULL AND a.deleted_at IS NULL AND a.id > $1 ORDER BY a.id LIMIT $2`,
    [afterId, max],
  )
  return rows
}
