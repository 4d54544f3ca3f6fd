import { lookup, Resolver } from 'node:dns/promises'
import { LIMITS } from '../domain/limits.ts'
import { createNameCache, isUnknownName, type NameAnswer, type Resolve } from './name-cache.ts'

const QUERY_TIMEOUT_MS = 2000
const QUERY_TRIES = 2

/**
 * Resolves names without the thread pool of libuv: its four threads would be held for seconds by the names of dead
 * endpoints (a name server that never answers), and every healthy endpoint that needs a new connection would wait behind them.
 * Names that DNS does not have are then asked of the system (hosts file, search domains), which answers these at once.
 * Answers are kept for their time to live.
 * @param servers `address` or `address:port` (`[address]:port` for IPv6) of the name servers to ask, and nobody else then;
 *   none: those of the system
 * @param now milliseconds that never go back
 */
export function createResolve(servers: readonly string[] = [], now: () => number = () => performance.now()): Resolve {
  const resolver = new Resolver({ timeout: QUERY_TIMEOUT_MS, tries: QUERY_TRIES })
  if (servers.length > 0) resolver.setServers(servers)
  const cached = createNameCache((hostname) => query(resolver, hostname, servers.length === 0), now)
  return async (hostname) => {
    if (hostname === 'localhost' || hostname.endsWith('.localhost')) return ['127.0.0.1', '::1']
    return cached(hostname)
  }
}

async function query(resolver: Resolver, hostname: string, asksSystem: boolean): Promise<NameAnswer> {
  const answers = await Promise.allSettled([resolver.resolve4(hostname, { ttl: true }), resolver.resolve6(hostname, { ttl: true })])
  const records = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value.slice(0, LIMITS.dnsAddressesPerFamily) : []))
  const failure = answers.find((answer) => answer.status === 'rejected' && !isUnknownName(answer.reason))
  if (records.length > 0) {
    const ttlMs = Math.min(...records.map(({ ttl }) => ttl)) * 1000
    // The other half of the answer is missing: it may be the half that can be reached from here.
    const keptMs = failure === undefined ? ttlMs : Math.min(ttlMs, LIMITS.dnsFailureKeptMs)
    return { addresses: records.map(({ address }) => address), ttlMs: keptMs }
  }
  if (failure?.status === 'rejected') throw failure.reason
  if (!asksSystem) throw Object.assign(new Error('the host name has no address'), { code: 'ENOTFOUND' })
  const found = await lookup(hostname, { all: true })
  // The system does not say how long its answer holds.
  return { addresses: found.map(({ address }) => address).slice(0, LIMITS.dnsAddressesPerFamily), ttlMs: LIMITS.dnsSystemKeptMs }
}
