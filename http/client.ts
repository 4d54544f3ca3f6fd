import { Agent, type buildConnector } from 'undici'
import { LIMITS } from '../domain/limits.ts'
import { LANES, type Lane } from '../domain/names.ts'
import type { AttemptOutcome } from '../domain/outcome.ts'
import { INVALID_URL, type AddressGuard } from './address-guard.ts'
import { createConnector, createGuardedConnector, createProxiedConnector } from './connector.ts'
import { Exchange } from './exchange.ts'
import { createIdleConnections, type IdleConnections } from './idle-connections.ts'
import { createInterruptions } from './interruptions.ts'

export interface OutgoingRequest {
  readonly url: string
  /** Already signed; names are sent in the case they have here. */
  readonly headers: Record<string, string>
  readonly body: string
  /** Over waiting for a connection, connecting, headers and body together. */
  readonly timeoutMs: number
  /** Aborted when the process stops: the outcome is then `interrupted`. */
  readonly signal?: AbortSignal | undefined
}

export interface OutgoingClient {
  /** Makes one request. Whatever the endpoint does is an outcome; this never rejects for it. Redirects are not followed. */
  post(lane: Lane, request: OutgoingRequest): Promise<AttemptOutcome>
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

/** A client with one pool of connections for each lane, so that slow endpoints hold none that fast ones want. */
export function createHttpClient(options: HttpClientOptions): OutgoingClient {
  const { guard, requestTimeoutMs, egressProxy } = options
  const guarded = egressProxy === undefined ? createGuardedConnector(guard) : createProxiedConnector(guard, egressProxy)
  const pools = Object.fromEntries(LANES.map((lane) => [lane, createLanePool(guarded)])) as Record<Lane, LanePool>
  // Exempt URLs have connections of their own: one that was opened without the guard never carries a guarded request.
  const exempt = createLanePool(createConnector())
  const interruptions = createInterruptions()

  return {
    post: (lane, request) => {
      const url = URL.parse(request.url)
      if (url === null) return Promise.resolve(blocked(INVALID_URL))
      const refusal = guard.check(url)
      if (refusal !== undefined) return Promise.resolve(blocked(refusal))
      const { agent, idle } = guard.isExempt(url) ? exempt : pools[lane]
      const { origin } = url
      return new Promise((resolve) => {
        const exchange = new Exchange(Math.min(request.timeoutMs, requestTimeoutMs), (outcome) => {
          idle.end(origin)
          interruptions.forget(exchange, request.signal)
          resolve(outcome)
        })
        idle.begin(origin)
        interruptions.watch(exchange, request.signal)
        if (request.signal?.aborted === true) return exchange.interrupt()
        const path = `${url.pathname}${url.search}`
        agent.dispatch({ origin, path, method: 'POST', headers: request.headers, body: request.body }, exchange)
      })
    },
    close: async () => {
      await Promise.all([...Object.values(pools), exempt].map(({ agent }) => agent.destroy()))
    },
  }
}

function blocked(reason: string): AttemptOutcome {
  return { kind: 'blocked', statusCode: 0, body: reason, durationMs: 0 }
}

/** The connections of one lane. */
interface LanePool {
  readonly agent: Agent
  readonly idle: IdleConnections
}

/**
 * undici offers these limits: idle time, lifetime (checked when a connection is next used), requests of a connection. Its bound
 * for a host is not used: it would count requests that hang, which must not keep the host's other endpoints waiting. Requests
 * in flight are bounded by the callers' slots (activities/request-slots.ts), idle connections by `idle`.
 */
function createLanePool(connect: buildConnector.connector): LanePool {
  const idle = createIdleConnections(LIMITS.requestsInFlightPerLane)
  const agent = new Agent({
    connect: idle.counted(connect),
    pipelining: 1,
    allowH2: false,
    keepAliveTimeout: LIMITS.connectionIdleMs,
    keepAliveMaxTimeout: LIMITS.connectionIdleMs,
    clientTtl: LIMITS.connectionLifetimeMs,
    maxRequestsPerClient: REQUESTS_PER_CONNECTION,
    // One timer over the whole exchange replaces these two (exchange.ts).
    headersTimeout: 0,
    bodyTimeout: 0,
  })
  return { agent, idle }
}

const REQUESTS_PER_CONNECTION = 1000
