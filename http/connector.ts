import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP, type LookupFunction, type Socket } from 'node:net'
import { TLSSocket, type SecureContext } from 'node:tls'
import { LRUCache } from 'lru-cache'
import { buildConnector } from 'undici'
import { LIMITS } from '../domain/limits.ts'
import { BlockedAddressError, portOf, type AddressGuard } from './address-guard.ts'

type Target = Parameters<buildConnector.connector>[0]

/** Holds the last TLS session of each host, for later connections to continue without a full handshake. */
export interface TlsSessions {
  /** @returns what holds those of one connector, which continues no other's */
  holder(): HoldSession
}

type HoldSession = (host: string, session: Buffer) => void

export function createTlsSessions(): TlsSessions {
  const sessions = new LRUCache<string, Buffer>({ max: LIMITS.tlsSessionsKept })
  let holders = 0
  return {
    holder: () => {
      const holder = holders++
      return (host, session) => void sessions.set(`${holder} ${host}`, session)
    },
  }
}

interface ConnectorOptions {
  /** Absent: no client certificate, and the well-known authorities. */
  readonly secureContext?: SecureContext | undefined
  readonly lookup?: LookupFunction
  readonly hold: HoldSession
}

/** Connects without a guard. HTTP/1.1 only: docs/connection-pooling.md says why. */
export function createConnector({ secureContext, lookup, hold }: ConnectorOptions): buildConnector.connector {
  const connect = buildConnector({
    timeout: LIMITS.connectTimeoutMs,
    allowH2: false,
    maxCachedSessions: LIMITS.tlsSessionsKept,
    ...(lookup === undefined ? {} : { lookup }),
    ...(secureContext === undefined ? {} : { secureContext }),
  })
  return (target, callback) => {
    const socket: unknown = connect(target, callback)
    // undici finds a session again as long as somebody holds it: by itself, until the next garbage collection.
    if (socket instanceof TLSSocket) socket.on('session', (session) => hold(target.host ?? target.hostname, session))
  }
}

interface GuardedOptions {
  readonly guard: AddressGuard
  readonly secureContext: SecureContext | undefined
  readonly hold: HoldSession
}

/** Connects to addresses that the guard allows and to no other. */
export function createGuardedConnector({ guard, secureContext, hold }: GuardedOptions): buildConnector.connector {
  // A connector has one look-up.
  const byPort = new LRUCache<number, buildConnector.connector>({ max: 256 })
  return (target, callback) => {
    const port = portOf(target)
    // `net.connect` asks no look-up for numeric hosts.
    const refusal = isIP(target.hostname) === 0 ? undefined : guard.checkAddress(target.hostname, port)
    if (refusal !== undefined) return callback(new BlockedAddressError(refusal), null)
    const connect = byPort.get(port) ?? createConnector({ secureContext, lookup: guard.lookupFor(port), hold })
    byPort.set(port, connect)
    connect(target, callback)
  }
}

/** The proxy did not open a connection. The message is fit for the endpoint's owner. */
class EgressProxyError extends Error {
  readonly code = 'EGRESS_PROXY'
  override readonly name = 'EgressProxyError'
}

/**
 * Connects through an HTTP proxy (CONNECT), which is asked for an address that the guard has checked, never for a name: it
 * could resolve the name to another one. TLS is between this process and the endpoint.
 * @param proxyUrl `http://` or `https://`; a user name and password become `Proxy-Authorization`
 */
export function createProxiedConnector(proxyUrl: URL, { guard, secureContext, hold }: GuardedOptions): buildConnector.connector {
  const secure = createConnector({ secureContext, hold })
  return (target, callback) => {
    openTunnel(guard, proxyUrl, target).then(
      (httpSocket) => {
        if (target.protocol === 'https:') secure({ ...target, httpSocket }, callback)
        else callback(null, httpSocket)
      },
      (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), null),
    )
  }
}

async function openTunnel(guard: AddressGuard, proxyUrl: URL, target: Target): Promise<Socket> {
  const port = portOf(target)
  if (isIP(target.hostname) === 0) {
    const [address] = await guard.addressesOf(target.hostname, port)
    return askProxy(proxyUrl, address!, port)
  }
  const refusal = guard.checkAddress(target.hostname, port)
  if (refusal !== undefined) throw new BlockedAddressError(refusal)
  return askProxy(proxyUrl, target.hostname, port)
}

function askProxy(proxyUrl: URL, address: string, port: number): Promise<Socket> {
  const path = `${isIP(address) === 6 ? `[${address}]` : address}:${port}`
  const credentials = `${decodeURIComponent(proxyUrl.username)}:${decodeURIComponent(proxyUrl.password)}`
  const authorization = { 'proxy-authorization': `Basic ${Buffer.from(credentials).toString('base64')}` }
  return new Promise((resolve, reject) => {
    const asking = (proxyUrl.protocol === 'https:' ? httpsRequest : httpRequest)({
      host: proxyUrl.hostname.replaceAll(/[[\]]/g, ''),
      port: portOf(proxyUrl),
      method: 'CONNECT',
      path,
      agent: false,
      headers: { host: path, ...(credentials === ':' ? {} : authorization) },
    })
    const fail = (why: string): void => {
      clearTimeout(timer)
      asking.destroy()
      reject(new EgressProxyError(`the egress proxy ${why}`))
    }
    const timer = setTimeout(fail, LIMITS.connectTimeoutMs, 'did not answer in time')
    asking.on('error', () => fail('could not be reached'))
    asking.on('response', (response) => fail(`answered ${response.statusCode}`))
    asking.on('connect', (response, socket: Socket, head) => {
      if (response.statusCode !== 200) {
        socket.destroy()
        return fail(`answered ${response.statusCode}`)
      }
      clearTimeout(timer)
      if (head.length > 0) socket.unshift(head)
      resolve(socket)
    })
    asking.end()
  })
}
