import { isIP } from 'node:net'
import type { buildConnector } from 'undici'
import { BlockedAddressError, INVALID_URL, type AddressGuard } from './address-guard.ts'
import { createGuardedConnector, createProxiedConnector, createTlsSessions } from './connector.ts'
import { describeFailure } from './failure.ts'

/** How long connecting takes from here, in milliseconds, or why there is no connection: fit for the endpoint's owner. */
export type ConnectTime = { readonly ms: number } | { readonly refusal: string }

/**
 * Opens a TCP connection and closes it again; nothing is sent over it. Looking the name up is not in the time.
 * @param host as in a URL: an IPv6 address in brackets
 */
export type MeasureConnectTime = (host: string, port: number) => Promise<ConnectTime>

export interface ConnectTimeOptions {
  /** Decides where connections may go, as for deliveries. */
  readonly guard: AddressGuard
  /** Connections are made through it, as those of deliveries are. */
  readonly egressProxy?: URL | undefined
  readonly timeoutMs: number
}

export function createConnectTime({ guard, egressProxy, timeoutMs }: ConnectTimeOptions): MeasureConnectTime {
  const parts = { guard, secureContext: undefined, hold: createTlsSessions().holder() }
  const connect = egressProxy === undefined ? createGuardedConnector(parts) : createProxiedConnector(egressProxy, parts)
  return async (host, port) => {
    // TLS is not asked for: what is refused is a matter of the host and the port alone.
    const url = URL.parse(`https://${host}:${port}/`)
    const refusal = url === null || url.pathname !== '/' || url.search !== '' ? INVALID_URL : guard.check(url)
    if (url === null || refusal !== undefined) return { refusal: refusal ?? INVALID_URL }
    const hostname = url.hostname.replaceAll(/[[\]]/g, '')
    try {
      if (isIP(hostname) === 0) await guard.addressesOf(hostname, port)
      const startedAt = performance.now()
      await open(connect, { hostname, port }, timeoutMs)
      return { ms: Math.round((performance.now() - startedAt) * 10) / 10 }
    } catch (error) {
      return { refusal: error instanceof BlockedAddressError ? error.message : describeFailure(error, false).reason }
    }
  }
}

/** Connects and breaks the connection: also one that comes too late. */
function open(connect: buildConnector.connector, place: { hostname: string; port: number }, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const late = () => reject(Object.assign(new Error('no connection in time'), { code: 'ETIMEDOUT' }))
    const timer = setTimeout(late, timeoutMs)
    connect({ hostname: place.hostname, host: place.hostname, port: String(place.port), protocol: 'http:' }, (...[error, socket]) => {
      clearTimeout(timer)
      socket?.destroy()
      if (error === null) resolve()
      else reject(error)
    })
  })
}
