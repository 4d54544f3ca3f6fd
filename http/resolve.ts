import { lookup, Resolver } from 'node:dns/promises'

/** Gives the numeric addresses of a host name, the preferred first; rejects with a system error code where it has none. */
export type Resolve = (hostname: string) => Promise<readonly string[]>

const QUERY_TIMEOUT_MS = 2000
const QUERY_TRIES = 2
const NO_SUCH_NAME = new Set(['ENOTFOUND', 'ENODATA'])

/**
 * Resolves names without the thread pool of libuv: its four threads would be held for seconds by the names of dead
 * endpoints (a name server that never answers), and every healthy endpoint that needs a new connection would wait behind them.
 * Names that DNS does not have are then asked of the system (hosts file, search domains), which answers these at once.
 * @param servers `address` or `address:port` (`[address]:port` for IPv6) of the name servers to ask, and nobody else then;
 *   none: those of the system
 */
export function createResolve(servers: readonly string[] = []): Resolve {
  const resolver = new Resolver({ timeout: QUERY_TIMEOUT_MS, tries: QUERY_TRIES })
  if (servers.length > 0) resolver.setServers(servers)
  return async (hostname) => {
    if (hostname === 'localhost' || hostname.endsWith('.localhost')) return ['127.0.0.1', '::1']
    const [v4, v6] = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)])
    const addresses = [v4, v6].flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []))
    if (addresses.length > 0) return addresses
    const failure = [v4, v6].find((answer) => answer.status === 'rejected' && !NO_SUCH_NAME.has(codeOf(answer.reason)))
    if (failure?.status === 'rejected') throw failure.reason
    if (servers.length > 0) return []
    return (await lookup(hostname, { all: true })).map(({ address }) => address)
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}
