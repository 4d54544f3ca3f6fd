import { createFairQueue, type FairQueue } from '../domain/fair-queue.ts'
import { LIMITS } from '../domain/limits.ts'
import { DEFAULT_PRIORITY, DEFAULT_WEIGHTS, type Priority, type PriorityWeights } from '../domain/priority.ts'

/** The right to have one request in flight. */
export interface Slot {
  /** The endpoint has been silent too long: gives back what other endpoints share, keeps the endpoint's own count. */
  detach(): void
  /** @param answered whether the endpoint answered at all, within a second or later */
  release(answered: Answered): void
}

export type Answered = 'quickly' | 'slowly' | 'never'

/** Why no slot is to be had in this lane: the endpoint is slow, or has too many requests waiting. */
export type Refusal = 'slow' | 'busy'

/**
 * Requests in flight of one lane in this process: 10 for each endpoint and for each host, 100 in all unless
 * told (design sections 4, 7).
 * An endpoint begins with few requests at a time and gets more as it answers, so that one that hangs holds one place of its
 * host's and not ten. In a lane that turns slow endpoints away an endpoint gets none while it is silent either.
 */
export interface RequestSlots {
  /** @param priority those who wait for one endpoint take turns by it */
  acquire(endpointId: string, host: string, priority?: Priority): Slot | Promise<Slot | Refusal> | Refusal
  /** Whether the endpoint takes its time, on average of late: what waits for it waits for nothing of ours. */
  takesItsTime(endpointId: string): boolean
  /** Requests in flight, those that have been detached apart, and how many there may be. */
  usage(): SlotUsage
}

export interface SlotUsage {
  readonly used: number
  readonly max: number
}

export interface RequestSlotsOptions {
  /** In the fast lane, which turns them away: the endpoints that have turned out to be slow. Absent: all are served alike. */
  readonly isSlow?: (endpointId: string) => boolean
  /** Requests at a time that an endpoint has before it has answered, and while it does not. */
  readonly startingLimit: number
  /** Requests in flight of all endpoints together. */
  readonly max?: number
  readonly weights?: PriorityWeights
  readonly now?: () => number
}

// What would wait longer than this for its endpoint's turn is better off in an activity of its own.
const LONGEST_WAIT_MS = 2000
// Half a second in all: none of them has waited for more than the second in which the endpoint was silent.
const REFUSED_AT_LEAST = 20
const REFUSED_IN_STEPS = 20
const REFUSED_EVERY_MS = 25
const AVERAGE_WEIGHT = 0.1
const UNHURRIED_FROM_MS = 100
// Endpoints that nobody has sent to for long are forgotten beyond this number.
const ENDPOINTS_REMEMBERED = 50_000

interface EndpointState {
  readonly host: HostState
  active: number
  limit: number
  /** Moving average of how long a place is held. */
  heldMs: number
  /** Requests detached and still unanswered. */
  silent: number
  waiting: FairQueue<(granted: Slot | Refusal) => void>
}

interface HostState {
  readonly name: string
  active: number
  /** Endpoints with waiting requests, in the order of their turns. */
  readonly ring: Set<EndpointState>
}

interface LaneState {
  readonly max: number
  readonly options: RequestSlotsOptions
  readonly now: () => number
  hosts: Map<string, HostState>
  readonly endpoints: Map<string, EndpointState>
  /** Hosts that could go on if the lane had room. */
  readonly blocked: Set<HostState>
  active: number
}

export function createRequestSlots(options: RequestSlotsOptions): RequestSlots {
  const { max = LIMITS.requestsInFlightPerLane, weights = DEFAULT_WEIGHTS, now = Date.now } = options
  const lane: LaneState = { options, max, now, hosts: new Map(), endpoints: new Map(), blocked: new Set(), active: 0 }
  return {
    acquire(endpointId, hostName, priority = DEFAULT_PRIORITY) {
      const endpoint = endpointOf(lane, endpointId, hostName)
      if (options.isSlow !== undefined && (endpoint.silent > 0 || options.isSlow(endpointId))) return 'slow'
      if (endpoint.waiting.size === 0 && hasRoom(lane, endpoint)) return grant(lane, endpoint)
      if (options.isSlow !== undefined && waitMs(endpoint) > LONGEST_WAIT_MS) return 'busy'
      return new Promise((give) => {
        endpoint.waiting.push(priority, give, weights[priority])
        endpoint.host.ring.add(endpoint)
        if (lane.active >= lane.max) lane.blocked.add(endpoint.host)
      })
    },
    takesItsTime: (endpointId) => (lane.endpoints.get(endpointId)?.heldMs ?? 0) >= UNHURRIED_FROM_MS,
    usage: () => ({ used: lane.active, max: lane.max }),
  }
}

function waitMs(endpoint: EndpointState): number {
  return (endpoint.waiting.size * endpoint.heldMs) / endpoint.limit
}

function hasRoom(lane: LaneState, endpoint: EndpointState): boolean {
  const { host } = endpoint
  return endpoint.active < endpoint.limit && host.active < LIMITS.connectionsPerHost && lane.active < lane.max
}

function grant(lane: LaneState, endpoint: EndpointState): Slot {
  endpoint.active++
  endpoint.host.active++
  lane.active++
  const grantedAtMs = lane.now()
  let detached = false
  let released = false
  return {
    detach() {
      if (detached || released) return
      detached = true
      endpoint.silent++
      endpoint.limit = lane.options.startingLimit
      if (lane.options.isSlow !== undefined) refuseWaiting(endpoint)
      giveBack(lane, endpoint.host)
    },
    release(answered) {
      if (released) return
      released = true
      endpoint.active--
      endpoint.heldMs += (lane.now() - grantedAtMs - endpoint.heldMs) * AVERAGE_WEIGHT
      learn(lane, endpoint, answered)
      if (detached) {
        endpoint.silent--
        pump(lane, endpoint.host)
      } else {
        giveBack(lane, endpoint.host)
      }
    },
  }
}

function giveBack(lane: LaneState, host: HostState): void {
  host.active--
  lane.active--
  pump(lane, host)
}

function learn(lane: LaneState, endpoint: EndpointState, answered: Answered): void {
  if (answered === 'quickly') {
    endpoint.limit = Math.min(LIMITS.endpointInFlightPerWorker, endpoint.limit * 2)
  } else if (answered === 'never') {
    endpoint.limit = lane.options.startingLimit
  }
}

/**
 * What has waited for an endpoint that turns out to be silent belongs to many fan-outs: all that were started since its request
 * was sent. They are told one after another, the longest waiting first, so that they do not all go on in one moment, which
 * the deliveries of others would wait for.
 */
function refuseWaiting(endpoint: EndpointState): void {
  endpoint.host.ring.delete(endpoint)
  const refused = endpoint.waiting.take(Infinity)
  const atATime = Math.max(REFUSED_AT_LEAST, Math.ceil(refused.length / REFUSED_IN_STEPS))
  const refuse = () => {
    for (const give of refused.splice(0, atATime)) give('slow')
    if (refused.length > 0) setTimeout(refuse, REFUSED_EVERY_MS)
  }
  refuse()
}

/**
 * Gives places that have become free to those who wait. This host goes behind those that the lane's bound held up: ten hosts
 * that always have more to send would keep the lane to themselves.
 */
function pump(lane: LaneState, host: HostState): void {
  if (host.ring.size > 0) lane.blocked.add(host)
  for (const blocked of lane.blocked) {
    if (lane.active >= lane.max) return
    pumpHost(lane, blocked)
  }
}

function pumpHost(lane: LaneState, host: HostState): void {
  lane.blocked.delete(host)
  for (const endpoint of host.ring) {
    if (host.active >= LIMITS.connectionsPerHost) return
    if (lane.active >= lane.max) {
      lane.blocked.add(host)
      return
    }
    if (!hasRoom(lane, endpoint)) continue
    host.ring.delete(endpoint)
    const [give] = endpoint.waiting.take(1)
    const slot = grant(lane, endpoint)
    // At the end of the ring: the next place is another endpoint's.
    if (endpoint.waiting.size > 0) host.ring.add(endpoint)
    give!(slot)
  }
}

function endpointOf(lane: LaneState, endpointId: string, hostName: string): EndpointState {
  const known = lane.endpoints.get(endpointId)
  if (known?.host.name === hostName) return known
  if (lane.endpoints.size >= ENDPOINTS_REMEMBERED) forgetIdle(lane)
  let host = lane.hosts.get(hostName)
  if (host === undefined) {
    host = { name: hostName, active: 0, ring: new Set() }
    lane.hosts.set(hostName, host)
  }
  const endpoint: EndpointState = {
    host,
    active: 0,
    limit: lane.options.startingLimit,
    heldMs: 0,
    silent: 0,
    waiting: createFairQueue(),
  }
  lane.endpoints.set(endpointId, endpoint)
  return endpoint
}

function forgetIdle(lane: LaneState): void {
  for (const [id, endpoint] of lane.endpoints) {
    if (endpoint.active === 0 && endpoint.waiting.size === 0) lane.endpoints.delete(id)
  }
  lane.hosts = new Map([...lane.endpoints.values()].map(({ host }) => [host.name, host]))
}
