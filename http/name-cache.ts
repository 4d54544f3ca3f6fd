import { setTimeout as pause } from 'node:timers/promises'
import { isIPv6 } from 'node:net'
import { LRUCache } from 'lru-cache'
import { LIMITS } from '../domain/limits.ts'
import { createSingleFlight } from './single-flight.ts'

/** Gives the numeric addresses of a host name, the preferred first; rejects with a system error code where it has none. */
export type Resolve = (hostname: string) => Promise<readonly string[]>

export interface NameAnswer {
  readonly addresses: readonly string[]
  /** How long it may be given again: its time to live. */
  readonly ttlMs: number
}

interface KnownName {
  addresses: readonly string[]
  freshUntilMs: number
  failure: unknown
  failedUntilMs: number
  /** Look-ups so far: each begins with another address. */
  turn: number
}

const NO_SUCH_NAME = new Set(['ENOTFOUND', 'ENODATA'])

/** Whether DNS has answered, and does not have the name, as opposed to a name server that is not to be reached. */
export function isUnknownName(error: unknown): boolean {
  return error instanceof Error && 'code' in error && NO_SUCH_NAME.has(String(error.code))
}

/**
 * Keeps answers for their time to live, within bounds; one of 0 is not kept. What is asked at the same time is asked once.
 * Failures are kept for less than the shortest delay of a retry, so that a retry asks anew. Where name servers do not answer,
 * an answer serves a little longer than its time. Look-ups take turns through the addresses of a name.
 *
 * Nothing here says that an address may be reached: whoever connects has to check it, each time.
 * @param now milliseconds that never go back
 */
export function createNameCache(query: (hostname: string) => Promise<NameAnswer>, now: () => number): Resolve {
  const names = new LRUCache<string, KnownName>({ max: LIMITS.dnsNamesKept })
  const alone = createSingleFlight<KnownName>()

  async function ask(hostname: string, known: KnownName | undefined): Promise<KnownName> {
    try {
      const { addresses, ttlMs } = await query(hostname)
      const freshUntilMs = now() + Math.min(ttlMs, LIMITS.dnsKeptMaxMs)
      const learnt = { addresses, freshUntilMs, failure: undefined, failedUntilMs: 0, turn: known?.turn ?? 0 }
      if (ttlMs > 0) names.set(hostname, learnt)
      else names.delete(hostname)
      return learnt
    } catch (failure) {
      const failed = known ?? { addresses: [], freshUntilMs: 0, failure: undefined, failedUntilMs: 0, turn: 0 }
      if (isUnknownName(failure)) failed.addresses = []
      failed.failure = failure
      failed.failedUntilMs = now() + LIMITS.dnsFailureKeptMs
      names.set(hostname, failed)
      throw failure
    }
  }

  return async (hostname) => {
    const known = names.get(hostname)
    if (known === undefined) return inTurn(await alone(hostname, () => ask(hostname, undefined)))
    if (now() < known.freshUntilMs) return inTurn(known)
    const usable = known.addresses.length > 0 && now() < known.freshUntilMs + LIMITS.dnsStaleMs ? known : undefined
    if (now() < known.failedUntilMs) {
      if (usable === undefined) throw known.failure
      return inTurn(usable)
    }
    const asked = alone(hostname, () => ask(hostname, known))
    return inTurn(usable === undefined ? await asked : await orStale(asked, usable))
  }
}

/** What was known, where no answer comes in good time: connecting has a time limit that includes this. */
async function orStale(asked: Promise<KnownName>, known: KnownName): Promise<KnownName> {
  const late = new AbortController()
  try {
    return await Promise.race([asked, pause(LIMITS.dnsStaleAfterMs, known, { signal: late.signal })])
  } catch (error) {
    if (known.addresses.length === 0) throw error
    return known
  } finally {
    late.abort()
  }
}

/** IPv4 before IPv6, each beginning with the next one. */
function inTurn(known: KnownName): readonly string[] {
  const { addresses } = known
  if (addresses.length < 2) return addresses
  const turn = known.turn++
  return [addresses.filter((address) => !isIPv6(address)), addresses.filter(isIPv6)].flatMap((family) => {
    const first = family.length === 0 ? 0 : turn % family.length
    return [...family.slice(first), ...family.slice(0, first)]
  })
}
