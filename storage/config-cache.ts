import type { Logger } from 'pino'
import { LIMITS } from '../domain/limits.ts'
import type { EndpointAccess } from '../domain/endpoint-access.ts'
import { hasQueue } from '../domain/ordering.ts'
import { toPatterns, type PayloadFilter, type Subscription } from '../domain/routing.ts'
import type { Cipher } from './cipher.ts'
import { openRecords, readEndpointRecords, sealRecords, type EndpointRecord } from './endpoint-records.ts'
import { compileFilter } from './payload-filter.ts'
import { findApplications, readPopularApplications, type KnownApplication } from './popular-applications.ts'
import type { Pool } from './pool.ts'
import { createRefreshingCache, type CacheCounts } from './refreshing-cache.ts'
import type { SharedCache, SharedCounts } from './shared-cache.ts'

export type CachedApplication = KnownApplication

/** An endpoint, ready to be routed and delivered to. */
export interface CachedEndpoint extends Omit<EndpointRecord, keyof Subscription>, Subscription {
  readonly host: string
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
 * Applications and endpoints in memory, behind it Redis where there is one (endpoints alone), and Postgres. A change is heard
 * through LISTEN/NOTIFY; should a notification be missed, an entry lives 60 s at most here, and 300 s in Redis.
 */
export interface ConfigCache {
  /** The live application of this organisation by id or uid; undefined where there is none, or it is another's. */
  application(orgId: string, idOrUid: string): Promise<CachedApplication | undefined>
  /** The application's live endpoints. */
  endpoints(appId: string): Promise<CachedEndpoints>
  /** Loads the applications that published most of late, half of the room at most. @returns how many there were */
  warm(): Promise<number>
  forget(appId: string): void
  forgetAll(): void
  counts(): ConfigCacheCounts
}

export interface ConfigCacheCounts {
  readonly applications: CacheCounts
  readonly endpoints: CacheCounts
  /** Undefined without Redis. */
  readonly shared: SharedCounts | undefined
}

export interface ConfigCacheDependencies {
  readonly pool: Pool
  readonly cipher: Cipher
  readonly log: Logger
  readonly shared?: SharedCache | undefined
  /** Bytes of endpoints; 100 MB unless told. */
  readonly maxBytes?: number
  /** False: what will be used is left to expire too. */
  readonly predicts?: boolean
}

const MAX_BYTES = 100_000_000
/** Measured on Node 24: an application, an endpoint besides its texts; estimated: credentials besides theirs. */
const APPLICATION_BYTES = 700
const ENDPOINT_BYTES = 700
const ACCESS_BYTES = 700

export function createConfigCache(deps: ConfigCacheDependencies): ConfigCache {
  const { pool, shared, maxBytes = MAX_BYTES, predicts = true } = deps
  const keysOf = new Map<string, Set<string>>()
  const applications = createRefreshingCache<CachedApplication>({
    maxBytes: LIMITS.cacheApplicationsMaxBytes,
    bytesOf: () => APPLICATION_BYTES,
    load: (keys) => loadApplications(pool, keys),
    onKeep(key, { id }) {
      const keys = keysOf.get(id)
      if (keys === undefined) keysOf.set(id, new Set([key]))
      else keys.add(key)
    },
    onDrop(key, { id }) {
      const keys = keysOf.get(id)
      keys?.delete(key)
      if (keys?.size === 0) keysOf.delete(id)
    },
    predicts,
  })
  const endpoints = createRefreshingCache<CachedEndpoints>({
    maxBytes,
    bytesOf,
    load: (appIds) => loadEndpoints(deps, appIds),
    predicts,
  })

  return {
    application: (orgId, idOrUid) => applications.get(keyOf(orgId, idOrUid)),
    async endpoints(appId) {
      return (await endpoints.get(appId)) ?? NO_ENDPOINTS
    },
    async warm() {
      const popular = await readPopularApplications(pool, LIMITS.cacheWarmMessages, LIMITS.cacheWarmApplications)
      await applications.warm(popular.flatMap(({ id, orgId, uid }) => [id, ...(uid === null ? [] : [uid])].map((one) => keyOf(orgId, one))))
      for (let from = 0; from < popular.length; from += LIMITS.cacheLoadGroup) {
        if (endpoints.counts().bytes > maxBytes / 2) break
        await endpoints.warm(popular.slice(from, from + LIMITS.cacheLoadGroup).map(({ id }) => id))
      }
      return popular.length
    },
    forget(appId) {
      shared?.forget(appId)
      endpoints.delete(appId)
      for (const key of [...(keysOf.get(appId) ?? [])]) applications.delete(key)
      // Which application a key is of is only known when it is loaded.
      applications.deleteLoading()
    },
    forgetAll() {
      endpoints.clear()
      applications.clear()
    },
    counts: () => ({ applications: applications.counts(), endpoints: endpoints.counts(), shared: shared?.counts() }),
  }
}

const NO_ENDPOINTS = toCachedEndpoints([])

// An organisation's id has no space.
const keyOf = (orgId: string, idOrUid: string) => `${orgId} ${idOrUid}`

async function loadApplications(pool: Pool, keys: readonly string[]): Promise<Map<string, CachedApplication>> {
  const asked = keys.map((key) => {
    const space = key.indexOf(' ')
    return { orgId: key.slice(0, space), idOrUid: key.slice(space + 1) }
  })
  const found = await findApplications(pool, asked)
  return new Map(keys.flatMap((key, i) => (found[i] === undefined ? [] : [[key, found[i]] as const])))
}

async function loadEndpoints(deps: ConfigCacheDependencies, appIds: readonly string[]): Promise<Map<string, CachedEndpoints>> {
  const { pool, cipher, log, shared } = deps
  const records = new Map<string, readonly EndpointRecord[]>()
  const read = await shared?.read(appIds)
  for (const [appId, sealed] of read?.values ?? []) {
    const opened = openRecords(cipher, appId, sealed, LIMITS.sharedCacheLifeMs - LIMITS.sharedCacheRefreshBeforeMs)
    if (opened !== undefined) records.set(appId, opened)
  }
  const missing = appIds.filter((appId) => !records.has(appId))
  const fresh = missing.length === 0 ? new Map<string, EndpointRecord[]>() : await readEndpointRecords(pool, cipher, missing)
  if (read !== undefined) shared?.write(read, new Map([...fresh].map(([appId, some]) => [appId, sealRecords(cipher, appId, some)])))
  for (const [appId, some] of fresh) records.set(appId, some)
  return new Map([...records].map(([appId, some]) => [appId, toCachedEndpoints(some.map((one) => toEndpoint(one, log)))]))
}

function toCachedEndpoints(list: readonly CachedEndpoint[]): CachedEndpoints {
  const unqueued = list.filter((endpoint) => !hasQueue(endpoint))
  unqueued.sort((a, b) => Number(a.filter !== null) - Number(b.filter !== null))
  return { list, queued: list.filter(hasQueue), unqueued, byId: new Map(list.map((endpoint) => [endpoint.id, endpoint])) }
}

function toEndpoint(record: EndpointRecord, log: Logger): CachedEndpoint {
  return {
    ...record,
    host: new URL(record.url).host,
    eventTypes: toPatterns(record.eventTypes),
    filter: record.filter === null ? null : filterOf(record.id, record.filter, log),
  }
}

/** An estimate: texts take one byte a character. */
function bytesOf({ list }: CachedEndpoints): number {
  let bytes = APPLICATION_BYTES
  for (const { url, headers, secrets, access, channels, eventTypes } of list) {
    bytes += ENDPOINT_BYTES + url.length
    for (const [name, value] of Object.entries(headers)) bytes += 64 + name.length + value.length
    bytes += secrets.length * 128 + (channels?.length ?? 0) * 64 + (eventTypes?.names.size ?? 0) * 64
    if (access !== null) bytes += accessBytesOf(access)
  }
  return bytes
}

function accessBytesOf({ tls }: EndpointAccess): number {
  const texts = [tls?.certificate, tls?.privateKey, tls?.caCertificate]
  return texts.reduce((bytes, text) => bytes + (text?.length ?? 0), ACCESS_BYTES)
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
