import { LRUCache } from 'lru-cache'
import type { Logger } from 'pino'
import type { CloudEventFormat } from '../domain/cloud-event.ts'
import type { EndpointAccess } from '../domain/endpoint-access.ts'
import { hasQueue, type Batching, type Ordering } from '../domain/ordering.ts'
import type { Priority } from '../domain/priority.ts'
import { toPatterns, type PayloadFilter, type Subscription } from '../domain/routing.ts'
import type { Cipher } from './cipher.ts'
import { ACCESS_COLUMNS, readAccess, type AccessRow } from './endpoint-access.ts'
import { compileFilter } from './payload-filter.ts'
import type { Pool } from './pool.ts'

const APPLICATIONS_MAX = 20_000
const TTL_MS = 60_000

export interface CachedApplication {
  readonly id: string
  readonly orgId: string
  readonly uid: string | null
}

export interface CachedSecret {
  readonly secret: string
  /** Null for the current one. */
  readonly expiresAtMs: number | null
}

/** All that a delivery needs to know of an endpoint, secrets decrypted. */
export interface CachedEndpoint extends Subscription {
  readonly id: string
  readonly appId: string
  readonly url: string
  readonly host: string
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
  readonly secrets: readonly CachedSecret[]
  /** Null for an endpoint that is reached by its URL alone. */
  readonly access: EndpointAccess | null
}

/** Endpoints of one application, in the order of their ids. */
export interface CachedEndpoints {
  readonly list: readonly CachedEndpoint[]
  /** Those whose deliveries go through a queue: mostly none. */
  readonly queued: readonly CachedEndpoint[]
  /** The others, those without a filter first: whether any takes a message is mostly told by the first. */
  readonly unqueued: readonly CachedEndpoint[]
  readonly byId: ReadonlyMap<string, CachedEndpoint>
}

/**
 * Applications and endpoints in memory. A change is heard through LISTEN/NOTIFY (`config-feed.ts`); an entry lives 60 s at
 * most, should a notification be missed.
 */
export interface ConfigCache {
  /** The live application of this organisation by id or uid; undefined where there is none, or it is another's. */
  application(orgId: string, idOrUid: string): Promise<CachedApplication | undefined>
  /** The application's live endpoints. */
  endpoints(appId: string): Promise<CachedEndpoints>
  forget(appId: string): void
  forgetAll(): void
}

export interface ConfigCacheDependencies {
  readonly pool: Pool
  readonly cipher: Cipher
  readonly log: Logger
}

export function createConfigCache(deps: ConfigCacheDependencies): ConfigCache {
  const { pool } = deps
  // Promises are kept, not values: a notification that comes while a load is under way drops the entry, so that what the
  // load found is used by those who asked before the change, and by nobody after it.
  const applications = new LRUCache<string, Promise<CachedApplication | undefined>>({ max: APPLICATIONS_MAX, ttl: TTL_MS })
  const endpoints = new LRUCache<string, Promise<CachedEndpoints>>({ max: APPLICATIONS_MAX, ttl: TTL_MS })
  const keysOf = new Map<string, Set<string>>()
  let changes = 0

  return {
    application(orgId, idOrUid) {
      const key = `${orgId} ${idOrUid}`
      return cached(applications, key, async () => {
        const asOf = changes
        const application = await loadApplication(pool, orgId, idOrUid)
        // Which application a key is of is only known now: a change of any, meanwhile, may have been of this one.
        if (application === undefined || changes !== asOf) applications.delete(key)
        else remember(keysOf, application.id, key)
        return application
      })
    },
    endpoints: (appId) => cached(endpoints, appId, () => loadEndpoints(deps, appId)),
    forget(appId) {
      changes++
      endpoints.delete(appId)
      for (const key of keysOf.get(appId) ?? []) applications.delete(key)
      keysOf.delete(appId)
    },
    forgetAll() {
      changes++
      endpoints.clear()
      applications.clear()
      keysOf.clear()
    },
  }
}

function cached<T>(cache: LRUCache<string, Promise<T>>, key: string, load: () => Promise<T>): Promise<T> {
  const known = cache.get(key)
  if (known !== undefined) return known
  const loading = load()
  cache.set(key, loading)
  loading.catch(() => {
    if (cache.peek(key) === loading) cache.delete(key)
  })
  return loading
}

function remember(keysOf: Map<string, Set<string>>, appId: string, key: string): void {
  const keys = keysOf.get(appId)
  if (keys === undefined) keysOf.set(appId, new Set([key]))
  else keys.add(key)
}

async function loadApplication(pool: Pool, orgId: string, idOrUid: string): Promise<CachedApplication | undefined> {
  const { rows } = await pool.query<{ id: string; uid: string | null }>({
    name: 'cache-application',
    text: 'SELECT id, uid FROM application WHERE org_id = $1 AND deleted_at IS NULL AND (id = $2 OR uid = $2) ORDER BY id = $2 DESC LIMIT 1',
    values: [orgId, idOrUid],
  })
  const row = rows[0]
  return row === undefined ? undefined : { id: row.id, orgId, uid: row.uid }
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
  secrets: Buffer[] | null
  expiries: (Date | null)[] | null
}

async function loadEndpoints(deps: ConfigCacheDependencies, appId: string): Promise<CachedEndpoints> {
  const { rows } = await deps.pool.query<EndpointRow>({
    name: 'cache-endpoints',
    text: `SELECT e.id, e.app_id, e.url, e.disabled, e.event_types, e.channels, e.headers_cipher, e.retry_schedule_ms, e.throttle_rate, e.circuit_breaker, e.timeout_ms, e.filter, e.priority, e.format, e.ordering, e.batching,
        (SELECT throttle_rate FROM application WHERE id = $1) AS app_throttle_rate, ${ACCESS_COLUMNS}, s.secrets, s.expiries
      FROM endpoint e
      LEFT JOIN (
        SELECT endpoint_id, array_agg(secret_cipher ORDER BY id DESC) AS secrets, array_agg(expires_at ORDER BY id DESC) AS expiries
        FROM endpoint_secret
        WHERE endpoint_id IN (SELECT id FROM endpoint WHERE app_id = $1) AND (expires_at IS NULL OR expires_at > now())
        GROUP BY endpoint_id
      ) s ON s.endpoint_id = e.id
      WHERE e.app_id = $1 AND e.deleted_at IS NULL
      ORDER BY e.id`,
    values: [appId],
  })
  const list = rows.map((row) => toEndpoint(row, deps))
  const unqueued = list.filter((endpoint) => !hasQueue(endpoint))
  unqueued.sort((a, b) => Number(a.filter !== null) - Number(b.filter !== null))
  return { list, queued: list.filter(hasQueue), unqueued, byId: new Map(list.map((endpoint) => [endpoint.id, endpoint])) }
}

function toEndpoint(row: EndpointRow, { cipher, log }: ConfigCacheDependencies): CachedEndpoint {
  return {
    id: row.id,
    appId: row.app_id,
    url: row.url,
    host: new URL(row.url).host,
    disabled: row.disabled,
    eventTypes: toPatterns(row.event_types),
    channels: row.channels,
    filter: row.filter === null ? null : filterOf(row.id, row.filter, log),
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
  }
}

/** Compiles an endpoint's filter. A failing one is told of once, until the endpoint is loaded again; of its reason nothing is. */
function filterOf(endpointId: string, text: string, log: Logger): PayloadFilter {
  let told = false
  const tell = () => {
    if (!told) log.info({ endpointId }, 'filter.failed')
    told = true
  }
  try {
    return compileFilter(text, tell)
  } catch {
    // It was valid when it was stored: another version of this program has other rules.
    log.error({ endpointId }, 'filter.refused')
    return () => false
  }
}
