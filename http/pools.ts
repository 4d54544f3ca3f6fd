import { createSecureContext, type SecureContext } from 'node:tls'
import { LRUCache } from 'lru-cache'
import { Agent, type buildConnector } from 'undici'
import type { TlsCredentials } from '../domain/endpoint-access.ts'
import { LIMITS } from '../domain/limits.ts'
import { createIdleConnections, type ConnectionUsage, type IdleConnections } from './idle-connections.ts'
import { createWarmConnections, type WarmConnections } from './warm-connections.ts'

/** Connections that may carry each other's requests. */
export interface Pool {
  readonly agent: Agent
  readonly idle: IdleConnections
  readonly warm: WarmConnections
  /** In front of an origin: what `idle` and `warm` know it by. */
  readonly prefix: string
}

export interface LanePools {
  /**
   * The connections of endpoints with these credentials, null for those without. Connections never change hands between
   * credentials.
   * @throws where OpenSSL does not take them
   */
  poolFor(credentials: TlsCredentials | null): Pool
  usage(): ConnectionUsage
  /** Breaks all connections. */
  destroy(): Promise<void>
}

/** Makes a connector; `secureContext` undefined takes no client certificate and the well-known authorities. */
export type ConnectorWith = (secureContext: SecureContext | undefined) => buildConnector.connector

/**
 * The connections of one lane. Pools of credentials are closed, after their last answer, when others have been used since;
 * the bound of idle connections is one for all pools.
 */
export function createLanePools(connectorWith: ConnectorWith): LanePools {
  const idle = createIdleConnections(LIMITS.requestsInFlightPerLane)
  const warm = createWarmConnections(LIMITS.connectionsKeptWarm)
  const plain = createPool(connectorWith(undefined), { idle, warm, prefix: '' })
  const evicted = new Set<Agent>()
  const close = async (agent: Agent): Promise<void> => {
    evicted.add(agent)
    await agent.close()
    evicted.delete(agent)
  }
  const secured = new LRUCache<string, Pool>({
    max: LIMITS.credentialPoolsPerLane,
    dispose: ({ agent }) => void close(agent).catch(() => undefined),
  })
  return {
    poolFor(credentials) {
      if (credentials === null) return plain
      const known = secured.get(credentials.key)
      if (known !== undefined) return known
      const pool = createPool(connectorWith(contextOf(credentials)), { idle, warm, prefix: `${credentials.key} ` })
      secured.set(credentials.key, pool)
      return pool
    },
    usage: () => idle.usage(),
    async destroy() {
      warm.stop()
      const agents = [plain, ...secured.values()].map(({ agent }) => agent)
      await Promise.all([...agents, ...evicted].map((agent) => agent.destroy()))
    },
  }
}

function contextOf({ certificate, privateKey, caCertificate }: TlsCredentials): SecureContext {
  return createSecureContext({
    ...(certificate === null || privateKey === null ? {} : { cert: certificate, key: privateKey }),
    ...(caCertificate === null ? {} : { ca: caCertificate }),
  })
}

/**
 * undici offers these limits: idle time, lifetime (checked when a connection is next used), requests of a connection. Its bound
 * for a host is not used: it would count requests that hang, which must not keep the host's other endpoints waiting. Requests
 * in flight are bounded by the callers' slots (activities/request-slots.ts), idle connections by `idle`.
 */
function createPool(connect: buildConnector.connector, parts: Omit<Pool, 'agent'>): Pool {
  const { idle, warm, prefix } = parts
  const agent = new Agent({
    connect: warm.reserved(idle.counted(connect, prefix), prefix),
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
  return { agent, ...parts }
}

const REQUESTS_PER_CONNECTION = 1000
