import { LRUCache } from 'lru-cache'
import type { EndpointAccess, TlsCredentials } from '../domain/endpoint-access.ts'
import { LANES, type Lane } from '../domain/names.ts'
import type { AttemptOutcome } from '../domain/outcome.ts'
import { INVALID_URL, type AddressGuard } from './address-guard.ts'
import { createConnector, createGuardedConnector, createProxiedConnector, createTlsSessions } from './connector.ts'
import { Exchange, type ResponseHeaders, type Settle } from './exchange.ts'
import type { ConnectionUsage } from './idle-connections.ts'
import { createInterruptions } from './interruptions.ts'
import { createLanePools, type ConnectorWith, type LanePools, type Pool } from './pools.ts'

export interface OutgoingRequest {
  readonly url: string
  /** Already signed; names are sent in the case they have here. */
  readonly headers: Record<string, string>
  readonly body: string | Buffer
  /** Over waiting for a connection, connecting, headers and body together. */
  readonly timeoutMs: number
  /** Aborted when the process stops: the outcome is then `interrupted`. */
  readonly signal?: AbortSignal | undefined
  /** Asked right before the request is written: where it may not be any more, the outcome is `interrupted`. */
  readonly mayStart?: (() => boolean) | undefined
  /** Of an endpoint that asks for more than its URL. */
  readonly access?: EndpointAccess | null | undefined
}

/** An answer with its headers, names in lower case. */
export interface Answer {
  readonly outcome: AttemptOutcome
  readonly headers: ResponseHeaders
}

export interface OutgoingClient {
  /** Makes one request. Whatever the endpoint does is an outcome; this never rejects for it. Redirects are not followed. */
  post(lane: Lane, request: OutgoingRequest): Promise<AttemptOutcome>
  /** The same with `OPTIONS`. */
  options(lane: Lane, request: OutgoingRequest): Promise<Answer>
  /** Of each lane; without what went to exempt URLs. */
  usage(): Readonly<Record<Lane, ConnectionUsage>>
  /** Ends every request in flight as `interrupted` and closes all connections. */
  close(): Promise<void>
}

export interface HttpClientOptions {
  readonly guard: AddressGuard
  /** Upper bound of every request's own timeout. */
  readonly requestTimeoutMs: number
  /** Guarded requests go through this HTTP proxy. */
  readonly egressProxy?: URL | undefined
}

/** A client with connections of their own for each lane, so that slow endpoints hold none that fast ones want. */
export function createHttpClient(options: HttpClientOptions): OutgoingClient {
  const { guard, requestTimeoutMs, egressProxy } = options
  const sessions = createTlsSessions()
  const connectorWith: ConnectorWith = (secureContext) => {
    const parts = { guard, secureContext, hold: sessions.holder() }
    return egressProxy === undefined ? createGuardedConnector(parts) : createProxiedConnector(egressProxy, parts)
  }
  const lanes = Object.fromEntries(LANES.map((lane) => [lane, createLanePools(connectorWith)])) as Record<Lane, LanePools>
  // Exempt URLs have connections of their own: one that was opened without the guard never carries a guarded request.
  const exempt = createLanePools((secureContext) => createConnector({ secureContext, hold: sessions.holder() }))
  const interruptions = createInterruptions()
  const places = new LRUCache<string, Place>({ max: PLACES_REMEMBERED })
  const placeOf = (text: string): Place => {
    const known = places.get(text)
    if (known !== undefined) return known
    const place = lookAt(text, guard)
    places.set(text, place)
    return place
  }

  function send(method: 'POST' | 'OPTIONS', lane: Lane, request: OutgoingRequest, settle: Settle): void {
    const { refusal, isExempt, origin, path } = placeOf(request.url)
    if (refusal !== undefined) return settle(blocked(refusal), {})
    const pool = poolOf(isExempt ? exempt : lanes[lane], request.access?.tls ?? null)
    if (pool === undefined) return settle(blocked('the certificates of the endpoint cannot be used'), {})
    const place = `${pool.prefix}${origin}`
    const exchange = new Exchange(
      Math.min(request.timeoutMs, requestTimeoutMs),
      (outcome, headers) => {
        pool.idle.end(place)
        interruptions.forget(exchange, request.signal)
        settle(outcome, headers)
      },
      request.mayStart,
    )
    pool.idle.begin(place)
    pool.warm.begin(place)
    interruptions.watch(exchange, request.signal)
    if (request.signal?.aborted === true) return exchange.interrupt()
    pool.agent.dispatch({ origin, path, method, headers: request.headers, body: request.body }, exchange)
  }

  return {
    post: (lane, request) => new Promise((resolve) => send('POST', lane, request, resolve)),
    options: (lane, request) =>
      new Promise((resolve) => send('OPTIONS', lane, request, (outcome, headers) => resolve({ outcome, headers }))),
    usage: () => Object.fromEntries(LANES.map((lane) => [lane, lanes[lane].usage()])) as Record<Lane, ConnectionUsage>,
    close: async () => {
      await Promise.all([...Object.values(lanes), exempt].map((pools) => pools.destroy()))
    },
  }
}

/** What a URL says by itself, and the guard of it without DNS: the same every time. */
interface Place {
  readonly refusal: string | undefined
  readonly isExempt: boolean
  readonly origin: string
  readonly path: string
}

const PLACES_REMEMBERED = 20_000

function lookAt(text: string, guard: AddressGuard): Place {
  const url = URL.parse(text)
  if (url === null) return { refusal: INVALID_URL, isExempt: false, origin: '', path: '' }
  return { refusal: guard.check(url), isExempt: guard.isExempt(url), origin: url.origin, path: `${url.pathname}${url.search}` }
}

function poolOf(pools: LanePools, credentials: TlsCredentials | null): Pool | undefined {
  try {
    return pools.poolFor(credentials)
  } catch {
    // They were taken when they were stored: another version of OpenSSL has other rules.
    return undefined
  }
}

function blocked(reason: string): AttemptOutcome {
  return { kind: 'blocked', statusCode: 0, body: reason, durationMs: 0 }
}
