import { LIMITS } from '../domain/limits.ts'

/** The right to have one request in flight. */
export interface Slot {
  /** The endpoint has been silent too long: gives back what other endpoints share, keeps the endpoint's own count. */
  detach(): void
  /** @param answered whether the endpoint answered at all, within a second or later */
  release(answered: 'quickly' | 'slowly' | 'never'): void
}

/** Why no slot is to be had in this lane: the endpoint is slow, or has too many requests waiting. */
export type Refusal = 'slow' | 'busy'

/**
 * Requests in flight of one lane in this process: 10 for each endpoint and for each host, 100 in all (design sections 4, 7).
 * An endpoint begins with one request at a time and gets more as it answers, so that one that hangs holds one place of its
 * host's and not ten; while it is silent, and for a minute after it has not answered at all, it gets none here.
 */
export interface RequestSlots {
  acquire(endpointId: string, host: string): Slot | Promise<Slot | Refusal> | Refusal
}

const WAITING_PER_ENDPOINT_MAX = 300
const SLOW_FOR_MS = 60_000
// Endpoints that nobody has sent to for long are forgotten beyond this number.
const ENDPOINTS_REMEMBERED = 50_000

interface EndpointState {
  readonly id: string
  readonly host: HostState
  active: number
  limit: number
  /** Requests detached and still unanswered. */
  silent: number
  slowUntilMs: number
  readonly waiting: ((granted: Slot | Refusal) => void)[]
}

interface HostState {
  readonly name: string
  active: number
  /** Endpoints with waiting requests, in the order of their turns. */
  readonly ring: Set<EndpointState>
}

/** @param refuseSlow whether slow endpoints are turned away (the fast lane) or served like the others */
export function createRequestSlots(options: { refuseSlow: boolean; now?: () => number }): RequestSlots {
  const now = options.now ?? Date.now
  const hosts = new Map<string, HostState>()
  const endpoints = new Map<string, EndpointState>()
  // Hosts that could go on if the lane had room.
  const blockedHosts = new Set<HostState>()
  let laneActive = 0

  const isSlow = (endpoint: EndpointState) => options.refuseSlow && (endpoint.silent > 0 || endpoint.slowUntilMs > now())
  const hasRoom = (endpoint: EndpointState) =>
    endpoint.active < endpoint.limit && endpoint.host.active < LIMITS.connectionsPerHost && laneActive < LIMITS.requestsInFlightPerLane

  const grant = (endpoint: EndpointState): Slot => {
    endpoint.active++
    endpoint.host.active++
    laneActive++
    let detached = false
    let released = false
    const giveBack = () => {
      endpoint.host.active--
      laneActive--
      pump(endpoint.host)
    }
    return {
      detach() {
        if (detached || released) return
        detached = true
        endpoint.silent++
        endpoint.limit = 1
        if (options.refuseSlow) refuseWaiting(endpoint)
        giveBack()
      },
      release(answered) {
        if (released) return
        released = true
        endpoint.active--
        if (detached) endpoint.silent--
        learn(endpoint, answered)
        if (detached) pump(endpoint.host)
        else giveBack()
      },
    }
  }
  const learn = (endpoint: EndpointState, answered: 'quickly' | 'slowly' | 'never') => {
    if (answered === 'quickly') {
      endpoint.limit = Math.min(LIMITS.endpointInFlightPerWorker, endpoint.limit * 2)
      endpoint.slowUntilMs = 0
    } else if (answered === 'never') {
      endpoint.limit = 1
      endpoint.slowUntilMs = now() + SLOW_FOR_MS
    }
  }
  const refuseWaiting = (endpoint: EndpointState) => {
    endpoint.host.ring.delete(endpoint)
    for (const give of endpoint.waiting.splice(0)) give('slow')
  }
  const pump = (host: HostState) => {
    pumpHost(host)
    for (const blocked of blockedHosts) {
      if (laneActive >= LIMITS.requestsInFlightPerLane) return
      pumpHost(blocked)
    }
  }
  const pumpHost = (host: HostState) => {
    blockedHosts.delete(host)
    for (const endpoint of host.ring) {
      if (host.active >= LIMITS.connectionsPerHost) return
      if (laneActive >= LIMITS.requestsInFlightPerLane) {
        blockedHosts.add(host)
        return
      }
      if (!hasRoom(endpoint)) continue
      host.ring.delete(endpoint)
      const give = endpoint.waiting.shift()!
      const slot = grant(endpoint)
      if (endpoint.waiting.length > 0) host.ring.add(endpoint)
      give(slot)
    }
  }
  const stateOf = (endpointId: string, hostName: string): EndpointState => {
    const known = endpoints.get(endpointId)
    if (known?.host.name === hostName) return known
    let host = hosts.get(hostName)
    if (host === undefined) hosts.set(hostName, (host = { name: hostName, active: 0, ring: new Set() }))
    const fresh: EndpointState = { id: endpointId, host, active: 0, limit: 1, silent: 0, slowUntilMs: 0, waiting: [] }
    if (endpoints.size >= ENDPOINTS_REMEMBERED) forgetIdle(endpoints)
    endpoints.set(endpointId, fresh)
    return fresh
  }
  return {
    acquire(endpointId, hostName) {
      const endpoint = stateOf(endpointId, hostName)
      if (isSlow(endpoint)) return 'slow'
      if (endpoint.waiting.length === 0 && hasRoom(endpoint)) return grant(endpoint)
      if (endpoint.waiting.length >= WAITING_PER_ENDPOINT_MAX && options.refuseSlow) return 'busy'
      return new Promise((give) => {
        endpoint.waiting.push(give)
        endpoint.host.ring.add(endpoint)
        if (endpoint.host.active < LIMITS.connectionsPerHost && laneActive >= LIMITS.requestsInFlightPerLane) blockedHosts.add(endpoint.host)
      })
    },
  }
}

function forgetIdle(endpoints: Map<string, EndpointState>): void {
  for (const [id, endpoint] of endpoints) {
    if (endpoint.active === 0 && endpoint.waiting.length === 0) endpoints.delete(id)
  }
}
