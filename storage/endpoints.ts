import type { CloudEventFormat } from '../domain/cloud-event.ts'
import type { OAuth2Settings } from '../domain/endpoint-access.ts'
import type { Batching, Ordering } from '../domain/ordering.ts'
import type { Priority } from '../domain/priority.ts'
import { createParameters, cutPage, pageClause, type Page, type PageOf } from './page.ts'
import type { Queryable } from './pool.ts'

/** The certificate that Tidings shows to an endpoint's server: what may be read of it, and all of it encrypted (base64). */
export interface Mtls {
  readonly subject: string
  /** ISO 8601. */
  readonly expiresAt: string
  readonly sealed: string
}

/** `sealed` is the client's secret, encrypted (base64). */
export interface OAuth2 extends OAuth2Settings {
  readonly sealed: string
}

/** A registered webhook. */
export interface Endpoint {
  readonly id: string
  readonly appId: string
  /** The owner's own name for it, unique among the application's live endpoints. */
  readonly uid: string | null
  readonly url: string
  readonly description: string
  readonly version: number
  readonly disabled: boolean
  /** Null subscribes to every event type. */
  readonly eventTypes: readonly string[] | null
  /** Null takes every channel. */
  readonly channels: readonly string[] | null
  readonly throttleRate: number | null
  readonly metadata: Readonly<Record<string, string>>
  /** Null takes the service's schedule. */
  readonly retryScheduleMs: readonly number[] | null
  readonly timeoutMs: number | null
  /** A CEL expression (`payload-filter.ts`). Null takes every payload. */
  readonly filter: string | null
  readonly ordering: Ordering
  readonly priority: Priority
  /** False: however much fails, nothing is held back. */
  readonly circuitBreaker: boolean
  /** Null sends every event in a request of its own. */
  readonly batching: Batching | null
  /** Null sends the payload as it is. */
  readonly format: CloudEventFormat | null
  readonly mtls: Mtls | null
  /** PEM. Null trusts the authorities that everybody trusts. */
  readonly caCertificate: string | null
  readonly oauth2: OAuth2 | null
  readonly handshake: boolean
  /** The region that delivers to it. Null: the one that accepted the message. */
  readonly region: string | null
  readonly createdAt: Date
  readonly updatedAt: Date
}

/** What a caller may set of an endpoint; secret and headers have operations of their own. */
export type EndpointFields = Omit<Endpoint, 'id' | 'appId' | 'createdAt' | 'updatedAt'>

/** The columns of an endpoint under the alias e. */
export const ENDPOINT_COLUMNS = `e.id, e.app_id AS "appId", e.uid, e.url, e.description, e.version, e.disabled,
  e.event_types AS "eventTypes", e.channels, e.throttle_rate AS "throttleRate", e.metadata, e.retry_schedule_ms AS "retryScheduleMs",
  e.timeout_ms AS "timeoutMs", e.filter, e.ordering, e.priority, e.batching, e.format,
  e.mtls || jsonb_build_object('sealed', encode(e.mtls_cipher, 'base64')) AS mtls, e.ca_certificate AS "caCertificate",
  e.oauth2 || jsonb_build_object('sealed', encode(e.oauth2_cipher, 'base64')) AS oauth2, e.handshake, e.circuit_breaker AS "circuitBreaker", e.region, e.created_at AS "createdAt", e.updated_at AS "updatedAt"`

/** The live endpoint of this application by id or uid. */
export async function findEndpoint(
  db: Queryable,
  appId: string,
  idOrUid: string,
  options: { forUpdate?: boolean } = {},
): Promise<Endpoint | undefined> {
  const { rows } = await db.query<Endpoint>({
    name: options.forUpdate ? 'endpoint-lock' : 'endpoint-find',
    text: `SELECT ${ENDPOINT_COLUMNS} FROM endpoint e WHERE app_id = $1 AND (id = $2 OR uid = $2) AND deleted_at IS NULL
           ORDER BY (id = $2) DESC LIMIT 1 ${options.forUpdate ? 'FOR UPDATE' : ''}`,
    values: [appId, idOrUid],
  })
  return rows[0]
}

function fieldValues(fields: EndpointFields): unknown[] {
  return [
    fields.uid,
    fields.url,
    fields.description,
    fields.version,
    fields.disabled,
    fields.eventTypes,
    fields.channels,
    fields.throttleRate,
    JSON.stringify(fields.metadata),
    fields.retryScheduleMs,
    fields.timeoutMs,
    fields.filter,
    fields.ordering,
    fields.priority,
    fields.batching === null ? null : JSON.stringify(fields.batching),
    fields.format,
    fields.mtls === null ? null : JSON.stringify(fields.mtls),
    fields.caCertificate,
    fields.oauth2 === null ? null : JSON.stringify(fields.oauth2),
    fields.handshake,
    fields.circuitBreaker,
    fields.region,
  ]
}

/** A uid that another endpoint has ends in Postgres's unique violation (23505). */
export async function insertEndpoint(
  db: Queryable,
  id: string,
  appId: string,
  fields: EndpointFields,
  headersCipher: Buffer | null,
): Promise<Endpoint> {
  const { rows } = await db.query<Endpoint>(
    `INSERT INTO endpoint AS e (id, app_id, uid, url, description, version, disabled, event_types, channels, throttle_rate, metadata,
       retry_schedule_ms, timeout_ms, filter, ordering, priority, batching, format,
       mtls, mtls_cipher, ca_certificate, oauth2, oauth2_cipher, handshake, circuit_breaker, region, headers_cipher, disabled_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
       $19::jsonb - 'sealed', decode($19::jsonb ->> 'sealed', 'base64'), $20, $21::jsonb - 'sealed', decode($21::jsonb ->> 'sealed', 'base64'), $22,
       $23, $24, $25, CASE WHEN $7 THEN now() END)
     RETURNING ${ENDPOINT_COLUMNS}`,
    [id, appId, ...fieldValues(fields), headersCipher],
  )
  return rows[0]!
}

/** Sets every field. `disabled_at` moves when `disabled` changes, in either direction: routing compares it with a message's time. */
export async function updateEndpoint(db: Queryable, id: string, fields: EndpointFields): Promise<Endpoint> {
  const { rows } = await db.query<Endpoint>(
    `UPDATE endpoint e SET uid = $2, url = $3, description = $4, version = $5, disabled = $6, event_types = $7, channels = $8,
       throttle_rate = $9, metadata = $10, retry_schedule_ms = $11, timeout_ms = $12, filter = $13, ordering = $14, priority = $15, batching = $16, format = $17,
       mtls = $18::jsonb - 'sealed', mtls_cipher = decode($18::jsonb ->> 'sealed', 'base64'), ca_certificate = $19,
       oauth2 = $20::jsonb - 'sealed', oauth2_cipher = decode($20::jsonb ->> 'sealed', 'base64'), handshake = $21, circuit_breaker = $22, region = $23,
       disabled_at = CASE WHEN disabled = $6 THEN disabled_at ELSE now() END, updated_at = now()
     WHERE id = $1 RETURNING ${ENDPOINT_COLUMNS}`,
    [id, ...fieldValues(fields)],
  )
  return rows[0]!
}

/** The row stays for history; its uid is free again. */
export async function deleteEndpoint(db: Queryable, id: string): Promise<void> {
  await db.query('UPDATE endpoint SET deleted_at = now(), updated_at = now() WHERE id = $1', [id])
}

export async function countEndpoints(db: Queryable, appId: string): Promise<number> {
  const { rows } = await db.query<{ count: number }>('SELECT count(*) AS count FROM endpoint WHERE app_id = $1 AND deleted_at IS NULL', [
    appId,
  ])
  return rows[0]!.count
}

export async function listEndpoints(db: Queryable, appId: string, page: Page): Promise<PageOf<Endpoint>> {
  const parameters = createParameters()
  const where = `app_id = ${parameters.add(appId)} AND deleted_at IS NULL`
  const { rows } = await db.query<Endpoint>(
    `SELECT ${ENDPOINT_COLUMNS} FROM endpoint e WHERE ${where} AND ${pageClause(page, 'id', parameters)}`,
    parameters.values,
  )
  return cutPage(rows, page)
}

/** @returns the encrypted custom headers, null without any */
export async function readHeadersCipher(db: Queryable, endpointId: string): Promise<Buffer | null> {
  const { rows } = await db.query<{ cipher: Buffer | null }>('SELECT headers_cipher AS cipher FROM endpoint WHERE id = $1', [endpointId])
  return rows[0]?.cipher ?? null
}

export async function writeHeadersCipher(db: Queryable, endpointId: string, cipher: Buffer | null): Promise<void> {
  await db.query('UPDATE endpoint SET headers_cipher = $2, updated_at = now() WHERE id = $1', [endpointId, cipher])
}

/**
 * Live endpoints whose URL has this path, with every secret that signs: what the development inbox verifies with.
 * @returns encrypted secrets
 */
export async function findSecretsByUrlPath(db: Queryable, path: string): Promise<Buffer[]> {
  const { rows } = await db.query<{ cipher: Buffer }>(
    `SELECT s.secret_cipher AS cipher FROM endpoint e JOIN endpoint_secret s ON s.endpoint_id = e.id
     WHERE e.deleted_at IS NULL AND substring(e.url FROM '^https?://[^/?#]+([^?#]*)') = $1 AND (s.expires_at IS NULL OR s.expires_at > now())
     LIMIT 1000`,
    [path],
  )
  return rows.map((row) => row.cipher)
}

/** Of all endpoints of an application, deleted ones too. */
export async function readEndpointIds(db: Queryable, appId: string): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>('SELECT id FROM endpoint WHERE app_id = $1 ORDER BY id', [appId])
  return rows.map(({ id }) => id)
}
