import type { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { constants, gzip } from 'node:zlib'
import { Agent, type Dispatcher } from 'undici'
import { LIMITS } from '../domain/limits.ts'
import type { Region } from '../domain/regions.ts'
import { createRegionToken } from './region-token.ts'

/**
 * What kept a region from doing what it was asked for. `unreachable`: there was no answer, and it may have done it;
 * `timeout`: the same, for there was no answer in time; `refused`: it answered with another status than 2xx; `invalid`: the
 * answer is not JSON, or too long.
 */
export type RegionCallFailure = 'unreachable' | 'timeout' | 'refused' | 'invalid'

/** A call of another region has failed. The message names the region and the reason, nothing of what was sent or answered. */
export class RegionCallError extends Error {
  override readonly name = 'RegionCallError'
  readonly code: RegionCallFailure
  readonly region: string
  /** Where it was refused. */
  readonly statusCode: number | undefined

  constructor(code: RegionCallFailure, region: string, why: string, statusCode?: number) {
    super(`the region ${region} ${why}`)
    this.code = code
    this.region = region
    this.statusCode = statusCode
  }
}

/** A region as it is called. */
export type Called = Pick<Region, 'name' | 'apiUrl'>

export interface RegionCall {
  /** Below `/internal/v1`, with a slash in front. */
  readonly path: string
  /** Goes as JSON. */
  readonly body: unknown
  /** Over everything: connecting, sending, and the whole answer. Default: `regionCallTimeoutMs`. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal | undefined
}

/** A request that goes to another region as it came. */
export interface PassedOn {
  readonly method: string
  /** With its query, as the client asked for it. */
  readonly target: string
  readonly headers: Readonly<Record<string, string | string[]>>
  /** Null: there is none. */
  readonly body: Readable | Buffer | null
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal
}

export type RegionAnswer = Pick<Dispatcher.ResponseData, 'statusCode' | 'headers' | 'body'>

/** Calls other regions. Nothing is repeated, redirects are not followed. */
export interface RegionClient {
  /**
   * Posts JSON to the internal API of a region, with a token of this region.
   * @returns what it answers, parsed; undefined for an empty answer
   * @throws {RegionCallError}
   */
  call(region: Called, call: RegionCall): Promise<unknown>
  /**
   * Sends a client's request to a region, with whatever token it carries, and gives the answer as it begins: the time limit
   * is on that, and on each pause afterwards.
   * @throws {RegionCallError}
   */
  passOn(region: Called, request: PassedOn): Promise<RegionAnswer>
  /** Breaks all connections. */
  close(): Promise<void>
}

export interface RegionClientOptions {
  /** `TIDINGS_JWT_SECRET`. */
  readonly secret: string
  /** The name of the region that calls. */
  readonly own: string
}

const INTERNAL = '/internal/v1'
const compress = promisify(gzip)

/** Addresses of regions are the operator's own: the address guard of deliveries does not look at them. */
export function createRegionClient({ secret, own }: RegionClientOptions): RegionClient {
  const agent = new Agent({
    connectTimeout: LIMITS.connectTimeoutMs,
    allowH2: false,
    pipelining: 1,
    // `call` has a timer over everything, `passOn` one until the answer begins.
    headersTimeout: 0,
    bodyTimeout: LIMITS.regionForwardTimeoutMs,
  })
  return {
    async call(region, { path, body, timeoutMs = LIMITS.regionCallTimeoutMs, signal }) {
      const token = await createRegionToken(secret, own)
      const packed = await pack(JSON.stringify(body))
      const timeout = AbortSignal.timeout(timeoutMs)
      try {
        const answer = await agent.request({
          ...placeOf(region, `${INTERNAL}${path}`),
          method: 'POST',
          headers: { authorization: `Bearer ${token}`, ...packed.headers, accept: 'application/json' },
          body: packed.bytes,
          signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
        })
        return await readAnswer(region, answer)
      } catch (error) {
        throw describe(region, error, timeout.aborted ? timeoutMs : undefined)
      }
    },
    async passOn(region, { method, target, headers, body, signal }) {
      const late = new AbortController()
      const timer = setTimeout(() => late.abort(), LIMITS.regionForwardTimeoutMs)
      try {
        return await agent.request({
          ...placeOf(region, target),
          method,
          headers: { ...headers },
          body,
          signal: AbortSignal.any([late.signal, signal]),
        })
      } catch (error) {
        throw describe(region, error, late.signal.aborted ? LIMITS.regionForwardTimeoutMs : undefined)
      } finally {
        clearTimeout(timer)
      }
    },
    close: () => agent.destroy(),
  }
}

/** Most of JSON is worth the time that it takes to compress it: it goes far. */
async function pack(json: string): Promise<{ bytes: Buffer; headers: Record<string, string> }> {
  const bytes = Buffer.from(json, 'utf8')
  const headers = { 'content-type': 'application/json' }
  if (bytes.length < LIMITS.handOverGzipFromBytes) return { bytes, headers }
  return { bytes: await compress(bytes, { level: constants.Z_BEST_SPEED }), headers: { ...headers, 'content-encoding': 'gzip' } }
}

/** A region's URL may have a path of its own. */
function placeOf({ apiUrl }: Called, path: string): { origin: string; path: string } {
  const { origin, pathname } = new URL(apiUrl)
  return { origin, path: `${pathname.replace(/\/$/, '')}${path}` }
}

async function readAnswer({ name }: Called, { statusCode, body }: RegionAnswer): Promise<unknown> {
  if (statusCode < 200 || statusCode > 299) {
    await body.dump()
    throw new RegionCallError('refused', name, `answered ${statusCode}`, statusCode)
  }
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > LIMITS.regionAnswerMaxBytes)
      throw new RegionCallError('invalid', name, `answered with over ${LIMITS.regionAnswerMaxBytes} bytes`)
    chunks.push(chunk)
  }
  if (bytes === 0) return undefined
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch {
    throw new RegionCallError('invalid', name, 'answered with what is not JSON')
  }
}

/** @param lateMs set where the time was over */
function describe({ name }: Called, error: unknown, lateMs: number | undefined): RegionCallError {
  if (error instanceof RegionCallError) return error
  if (lateMs !== undefined) return new RegionCallError('timeout', name, `did not answer within ${lateMs} ms`)
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
  return new RegionCallError('unreachable', name, `cannot be reached${code === '' ? '' : ` (${code})`}`)
}
