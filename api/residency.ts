import type { IncomingMessage, ServerResponse } from 'node:http'
import { PassThrough } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Request } from 'express'
import { LRUCache } from 'lru-cache'
import { LIMITS } from '../domain/limits.ts'
import { homeOf, type Region } from '../domain/regions.ts'
import { RegionCallError, type RegionAnswer } from '../http/region-client.ts'
import type { Caller } from './auth.ts'
import type { ApiDependencies } from './dependencies.ts'
import { ApiError } from './errors.ts'
import { NAME_PATTERN } from './schemas/names.ts'

/** Keeps what has a zone out of this region: requests about it are passed on before anything of them is stored. */
export interface Residency {
  /** The zone of the caller's application of this id or uid; undefined where it is not in another zone than this region. */
  zoneOf(caller: Caller, idOrUid: string | undefined): Promise<string | undefined>
  /**
   * The same of a uid that an application of this region has too: both may have been given it at the same moment. That there
   * is none is remembered for ten seconds, so that publishing costs no query.
   */
  zoneOfNamesake(caller: Caller, uid: string): Promise<string | undefined>
  /**
   * Passes the request on to the home of the first of these zones, and its answer back. While it is answered 404 and there are
   * more zones, to the next one's.
   * @param body where it has been read already
   * @throws {ApiError} misdirected where nothing is passed on, or it was passed on to here; region_unreachable, region_timeout
   */
  passOn(request: Request, response: ServerResponse, zones: readonly [string, ...string[]], body?: Buffer): Promise<void>
}

/** On a request that was passed on: by which region. Such a request is not passed on again. */
const PASSED_ON_BY = 'tidings-passed-on-by'

const NAMES_REMEMBERED = 20_000
const REMEMBERED_MS = 10_000

/** Undefined where there are no regions. */
export function createResidency({ config, regional }: Pick<ApiDependencies, 'config' | 'regional'>): Residency | undefined {
  if (regional === undefined) return undefined
  const { regions, client, zones: known } = regional

  const homeFor = (request: IncomingMessage, zone: string): Region => {
    const home = homeOf(regions, zone)
    if (request.headers[PASSED_ON_BY] !== undefined) {
      throw new ApiError('misdirected', `This was passed on to the region ${regions.own.name}, which is not in the zone ${zone}`)
    }
    if (home === undefined) throw new ApiError('unavailable', `No region of the zone ${zone} takes requests`)
    if (config.regionForwarding) return home
    throw new ApiError('misdirected', `This is kept in the zone ${zone}: send it to ${home.apiUrl}`, { home: home.apiUrl })
  }

  const ask = async (home: Region, request: Request, body: Buffer | undefined, signal: AbortSignal): Promise<RegionAnswer> => {
    try {
      const headers = { ...endToEnd(request.headers), [PASSED_ON_BY]: regions.own.name }
      return await client.passOn(home, {
        method: request.method,
        target: request.originalUrl,
        ...contentOf(request, headers, body),
        signal,
      })
    } catch (error) {
      if (!(error instanceof RegionCallError)) throw error
      throw new ApiError(error.code === 'timeout' ? 'region_timeout' : 'region_unreachable', sentence(error.message))
    }
  }

  const zoneOf: Residency['zoneOf'] = async (caller, idOrUid) => {
    if (idOrUid === undefined || idOrUid.length > LIMITS.nameMaxChars || !NAME_PATTERN.test(idOrUid)) return undefined
    const found = await known.elsewhere(caller.orgId, idOrUid)
    return found === undefined || (caller.appId !== null && caller.appId !== found.id) ? undefined : found.zone
  }
  const alone = new LRUCache<string, true>({ max: NAMES_REMEMBERED, ttl: REMEMBERED_MS })

  return {
    zoneOf,
    async zoneOfNamesake(caller, uid) {
      // An organisation's id has no space.
      const key = `${caller.orgId} ${uid}`
      if (alone.has(key)) return undefined
      const zone = await zoneOf(caller, uid)
      if (zone === undefined) alone.set(key, true)
      return zone
    },
    async passOn(request, response, zones, body) {
      const gone = new AbortController()
      response.once('close', () => gone.abort())
      for (const [i, zone] of zones.entries()) {
        const answer = await ask(homeFor(request, zone), request, body, gone.signal)
        if (answer.statusCode === 404 && i < zones.length - 1) {
          await answer.body.dump()
          continue
        }
        response.writeHead(answer.statusCode, endToEnd(answer.headers))
        await pipeline(answer.body, response)
        return
      }
    },
  }
}

const sentence = (text: string): string => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`

/** RFC 9110, section 7.6.1; and `expect`, which this server has answered itself. */
const HOP_BY_HOP = new Set([
  'connection',
  'expect',
  'host',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

type Fields = Record<string, string | string[]>

/** Header fields that are not for one connection alone. */
function endToEnd(headers: Readonly<Record<string, string | string[] | undefined>>): Fields {
  const named = new Set(
    [headers['connection'] ?? []]
      .flat()
      .join()
      .split(',')
      .map((name) => name.trim().toLowerCase()),
  )
  const kept: Fields = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined && !HOP_BY_HOP.has(name) && !named.has(name)) kept[name] = value
  }
  return kept
}

/** The body of a request with the headers that fit it: streamed where it has not been read. */
function contentOf(request: IncomingMessage, headers: Fields, read: Buffer | undefined) {
  const { 'content-length': length, ...others } = headers
  if (read !== undefined) return { headers: others, body: read }
  if (Number(length ?? 0) > LIMITS.requestBodyMaxBytes) {
    throw new ApiError('payload_too_large', `The body has over ${LIMITS.requestBodyMaxBytes} bytes`)
  }
  const hasBody = Number(length ?? 0) > 0 || request.headers['transfer-encoding'] !== undefined
  // Where the other region fails, what is sent to it is destroyed; the request itself is still to be answered.
  return hasBody ? { headers, body: request.pipe(new PassThrough()) } : { headers: others, body: null }
}
