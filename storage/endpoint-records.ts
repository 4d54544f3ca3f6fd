import type { CloudEventFormat } from '../domain/cloud-event.ts'
import type { EndpointAccess } from '../domain/endpoint-access.ts'
import type { Batching, Ordering } from '../domain/ordering.ts'
import type { Priority } from '../domain/priority.ts'
import type { Cipher } from './cipher.ts'
import { ACCESS_COLUMNS, readAccess, type AccessRow } from './endpoint-access.ts'
import type { Pool } from './pool.ts'

export interface EndpointSecret {
  readonly secret: string
  /** Null for the current one. */
  readonly expiresAtMs: number | null
}

/** All that a delivery needs to know of an endpoint, secrets decrypted, as it goes into JSON. */
export interface EndpointRecord {
  readonly id: string
  readonly appId: string
  readonly url: string
  readonly disabled: boolean
  readonly eventTypes: readonly string[] | null
  readonly channels: readonly string[] | null
  /** Source text. */
  readonly filter: string | null
  readonly timeoutMs: number | null
  readonly priority: Priority
  readonly format: CloudEventFormat | null
  readonly ordering: Ordering
  /** Null: every event in a request of its own. */
  readonly batching: Batching | null
  readonly retryScheduleMs: readonly number[] | null
  /** Requests a second: of the endpoint, and of all of its application's together. Null: no limit. */
  readonly throttleRate: number | null
  readonly appThrottleRate: number | null
  /** Whether it is held back while most of its requests fail. */
  readonly circuitBreaker: boolean
  readonly headers: Readonly<Record<string, string>>
  readonly secrets: readonly EndpointSecret[]
  /** Null for an endpoint that is reached by its URL alone. */
  readonly access: EndpointAccess | null
  /** The region that delivers to it. Null: the one that accepted the message. */
  readonly region: string | null
}

interface EndpointRow extends AccessRow {
  app_id: string
  url: string
  disabled: boolean
  event_types: string[] | null
  channels: string[] | null
  headers_cipher: Buffer | null
  retry_schedule_ms: number[] | null
  throttle_rate: number | null
  app_throttle_rate: number | null
  circuit_breaker: boolean
  timeout_ms: number | null
  filter: string | null
  format: CloudEventFormat | null
  priority: Priority
  ordering: Ordering
  batching: Batching | null
  region: string | null
  secrets: Buffer[] | null
  expiries: (Date | null)[] | null
}

/**
 * The live endpoints of applications, in the order of their ids, in one statement.
 * @returns a list for every application, also where it has none
 * @throws {CipherError}
 */
export async function readEndpointRecords(pool: Pool, cipher: Cipher, appIds: readonly string[]): Promise<Map<string, EndpointRecord[]>> {
  const { rows } = await pool.query<EndpointRow>({
    name: 'cache-endpoints',
    text: `SELECT e.id, e.app_id, e.url, e.disabled, e.event_types, e.channels, e.headers_cipher, e.retry_schedule_ms, e.throttle_rate, e.circuit_breaker, e.timeout_ms, e.filter, e.priority, e.format, e.ordering, e.batching, e.region,
        (SELECT throttle_rate FROM application WHERE id = e.app_id) AS app_throttle_rate, ${ACCESS_COLUMNS}, s.secrets, s.expiries
      FROM endpoint e
      LEFT JOIN LATERAL (
        SELECT array_agg(secret_cipher ORDER BY id DESC) AS secrets, array_agg(expires_at ORDER BY id DESC) AS expiries
        FROM endpoint_secret
        WHERE endpoint_id = e.id AND (expires_at IS NULL OR expires_at > now())
      ) s ON true
      WHERE e.app_id = ANY($1::text[]) AND e.deleted_at IS NULL
      ORDER BY e.app_id, e.id`,
    values: [appIds],
  })
  const records = new Map<string, EndpointRecord[]>(appIds.map((appId) => [appId, []]))
  for (const row of rows) records.get(row.app_id)!.push(toRecord(row, cipher))
  return records
}

function toRecord(row: EndpointRow, cipher: Cipher): EndpointRecord {
  return {
    id: row.id,
    appId: row.app_id,
    url: row.url,
    disabled: row.disabled,
    eventTypes: row.event_types,
    channels: row.channels,
    filter: row.filter,
    timeoutMs: row.timeout_ms,
    format: row.format,
    priority: row.priority,
    ordering: row.ordering,
    batching: row.batching,
    retryScheduleMs: row.retry_schedule_ms,
    throttleRate: row.throttle_rate,
    appThrottleRate: row.app_throttle_rate,
    circuitBreaker: row.circuit_breaker,
    headers: row.headers_cipher === null ? {} : (JSON.parse(cipher.decrypt(row.headers_cipher)) as Record<string, string>),
    secrets: (row.secrets ?? []).map((secret, i) => ({
      secret: cipher.decrypt(secret),
      expiresAtMs: row.expiries?.[i]?.getTime() ?? null,
    })),
    access: readAccess(row, cipher),
    region: row.region,
  }
}

/** What Redis has of an application: encrypted as a whole, so that it shows nothing and cannot be altered. */
interface Sealed {
  readonly appId: string
  readonly readAtMs: number
  readonly endpoints: readonly EndpointRecord[]
}

export function sealRecords(cipher: Cipher, appId: string, endpoints: readonly EndpointRecord[]): Buffer {
  return cipher.encrypt(JSON.stringify({ appId, readAtMs: Date.now(), endpoints } satisfies Sealed))
}

/** @returns undefined where it was sealed with another key, is of another application, or was read longer than `maxAgeMs` ago */
export function openRecords(cipher: Cipher, appId: string, sealed: Buffer, maxAgeMs: number): readonly EndpointRecord[] | undefined {
  try {
    const opened = JSON.parse(cipher.decrypt(sealed)) as Sealed
    return opened.appId === appId && Date.now() - opened.readAtMs <= maxAgeMs ? opened.endpoints : undefined
  } catch {
    return undefined
  }
}
