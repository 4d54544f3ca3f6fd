import type { Logger } from 'pino'
import { latencyClassOf, SLOT_MS, tallyOf, tipsOver, type HealthRules, type HealthWindow } from '../domain/health.ts'
import type { AttemptOutcome } from '../domain/outcome.ts'
import type { EndpointStates } from './endpoint-states.ts'
import {
  addCounts,
  COUNTERS,
  FAILURES,
  IN_FLIGHT,
  LATENCIES,
  OVERLOADED,
  RATE_LIMITED,
  SUCCESSES,
  type EndpointWindow,
  type Pending,
} from './endpoint-windows.ts'
import { isPassingFault } from './faults.ts'
import type { Pool } from './pool.ts'

interface Named {
  readonly id: string
  readonly appId: string
}

/**
 * Counts what this process's requests come to, and shares it with all others. Where an endpoint begins to count anew (its breaker
 * was closed, its URL is another), requests that began before count no more, whenever they end.
 */
export interface EndpointHealth {
  /** A request begins. @returns what is to be told its outcome, once */
  begin(endpoint: Named): (outcome: AttemptOutcome) => void
  /** The shared window, as of the last time that this process added to it; undefined where it has not sent to the endpoint. */
  window(endpointId: string): HealthWindow | undefined
  /**
   * Where what is not shared yet makes an endpoint's failures too many it is shared at once, so that no burst goes to an
   * endpoint that has just failed.
   * @returns after it was judged; undefined, without any I/O, where there is no need
   */
  tipping(endpointId: string): Promise<void> | undefined
  /** Adds what is left, and stops. */
  stop(): Promise<void>
}

export interface EndpointHealthDependencies {
  readonly pool: Pool
  readonly log: Logger
  readonly states: Pick<EndpointStates, 'get' | 'onForget'>
  readonly health: Pick<HealthRules, 'minAttempts' | 'failureRate'>
  /** Given the windows of all endpoints that were added to, after each write; the next write waits for it. */
  readonly onWindows: (windows: readonly EndpointWindow[]) => Promise<void>
}

// Failures, and requests that take their time, are shared at once; successes alone can wait a little.
const URGENT_MS = 500
const CALM_MS = 2000
// What has been sent to for longer than the window is forgotten beyond this number.
const WINDOWS_MAX = 20_000
// Matters as long as a request is on its way.
const FORGOTTEN_MAX = 10_000

export function createEndpointHealth(deps: EndpointHealthDependencies): EndpointHealth {
  const windows = new Map<string, HealthWindow>()
  let pending = new Map<string, Pending>()
  let timer: NodeJS.Timeout | undefined
  let dueMs = Infinity
  let flushing: Promise<void> | undefined
  let inFlush: ReadonlyMap<string, Pending> | undefined
  const requests = numberRequests()

  deps.states.onForget((endpointId) => {
    requests.forget(endpointId)
    windows.delete(endpointId)
    for (const counts of [pending, inFlush]) forgetAnswers(counts?.get(endpointId))
  })

  const schedule = (afterMs: number) => {
    const atMs = Date.now() + afterMs
    if (atMs >= dueMs) return
    dueMs = atMs
    clearTimeout(timer)
    timer = setTimeout(() => void flush(), afterMs)
  }
  const flush = async (): Promise<void> => {
    dueMs = Infinity
    if (flushing !== undefined) return schedule(URGENT_MS)
    if (pending.size === 0) return
    const counted = pending
    pending = new Map()
    inFlush = counted
    flushing = share(deps, counted, windows).then((left) => putBack(pending, left))
    await flushing
    inFlush = undefined
    flushing = undefined
    if (pending.size > 0) schedule(URGENT_MS)
  }
  let sharing: Promise<void> | undefined
  const shareNow = async () => {
    while (flushing !== undefined) await flushing
    await flush()
  }
  return {
    begin(endpoint) {
      const begunIn = Math.floor(Date.now() / SLOT_MS)
      const number = requests.next()
      slotOf(pending, endpoint, begunIn).slot[IN_FLIGHT]!++
      schedule(CALM_MS)
      return (outcome) => {
        const nowMs = Date.now()
        // Taken out of the slot that it was added to: what a process that died has left leaves with its slot.
        slotOf(pending, endpoint, begunIn).slot[IN_FLIGHT]!--
        const said = tallyOf(outcome)
        const speaks = said !== undefined && requests.speaks(endpoint.id, number)
        if (speaks) count(slotOf(pending, endpoint, Math.floor(nowMs / SLOT_MS)), said, outcome.durationMs, nowMs)
        schedule(said?.success === false ? URGENT_MS : CALM_MS)
      }
    },
    window: (endpointId) => windows.get(endpointId),
    tipping(endpointId) {
      const window = windows.get(endpointId)
      // Its failures are shared, and being judged with those of others.
      if (flushing !== undefined && window !== undefined && tipsOver(undefined, window, deps.health)) return flushing
      if (!tips(pending.get(endpointId), window, deps.health)) return undefined
      return (sharing ??= shareNow().finally(() => (sharing = undefined)))
    },
    async stop() {
      await flushing
      clearTimeout(timer)
      await flush()
      clearTimeout(timer)
    },
  }
}

/** Whether what is not shared makes the failures too many. */
function tips(one: Pending | undefined, window: HealthWindow | undefined, rules: EndpointHealthDependencies['health']): boolean {
  return one !== undefined && one.failures > 0 && tipsOver(window, totalOf(one), rules)
}

/** Tells requests that began before their endpoint counted anew from those that began since. */
function numberRequests() {
  let last = 0
  const lastForgotten = new Map<string, number>()
  return {
    next: () => ++last,
    forget(endpointId: string): void {
      lastForgotten.delete(endpointId)
      lastForgotten.set(endpointId, last)
      if (lastForgotten.size > FORGOTTEN_MAX) lastForgotten.delete(lastForgotten.keys().next().value!)
    },
    speaks: (endpointId: string, number: number) => number > (lastForgotten.get(endpointId) ?? 0),
  }
}

function count(
  { one, slot }: { one: Pending; slot: number[] },
  said: { success: boolean; rateLimited: boolean; overloaded: boolean },
  durationMs: number,
  nowMs: number,
): void {
  slot[said.success ? SUCCESSES : FAILURES]!++
  if (said.rateLimited) slot[RATE_LIMITED]!++
  if (said.overloaded) slot[OVERLOADED]!++
  slot[LATENCIES + latencyClassOf(durationMs)]!++
  if (said.success) {
    one.succeeded = true
    one.failures = 0
  } else if (one.failures++ === 0) one.failingSinceMs = nowMs
}

function slotOf(pending: Map<string, Pending>, endpoint: Named, epoch: number): { one: Pending; slot: number[] } {
  let one = pending.get(endpoint.id)
  if (one === undefined) {
    one = { appId: endpoint.appId, slots: new Map(), succeeded: false, failures: 0, failingSinceMs: 0 }
    pending.set(endpoint.id, one)
  }
  let slot = one.slots.get(epoch)
  if (slot === undefined) {
    slot = Array<number>(COUNTERS.length).fill(0)
    one.slots.set(epoch, slot)
  }
  return { one, slot }
}

function totalOf({ slots }: Pending): { successes: number; failures: number } {
  let [successes, failures] = [0, 0]
  for (const slot of slots.values()) {
    successes += slot[SUCCESSES]!
    failures += slot[FAILURES]!
  }
  return { successes, failures }
}

/** Leaves the requests on their way. */
function forgetAnswers(one: Pending | undefined): void {
  if (one === undefined) return
  for (const slot of one.slots.values()) slot.fill(0, 0, IN_FLIGHT).fill(0, IN_FLIGHT + 1)
  one.succeeded = false
  one.failures = 0
}

/** Puts counts back that could not be written, under those that came since. */
function putBack(pending: Map<string, Pending>, left: ReadonlyMap<string, Pending>): void {
  for (const [endpointId, one] of left) merge(pending, endpointId, one)
}

function merge(pending: Map<string, Pending>, endpointId: string, older: Pending): void {
  const newer = pending.get(endpointId)
  if (newer === undefined) {
    pending.set(endpointId, older)
    return
  }
  for (const [epoch, counters] of older.slots) {
    const slot = newer.slots.get(epoch)
    if (slot === undefined) newer.slots.set(epoch, counters)
    else counters.forEach((value, i) => (slot[i]! += value))
  }
  if (newer.succeeded) return
  newer.succeeded = older.succeeded
  if (older.failures > 0) newer.failingSinceMs = older.failingSinceMs
  newer.failures += older.failures
}

/** @returns the counts that are to be written later; none where they are written, or never can be */
async function share(
  deps: EndpointHealthDependencies,
  counted: Map<string, Pending>,
  windows: Map<string, HealthWindow>,
): Promise<ReadonlyMap<string, Pending>> {
  try {
    const countsFromMs = (endpointId: string) => deps.states.get(endpointId)?.countsFromMs ?? 0
    const read = await addCounts(deps.pool, counted, countsFromMs)
    // Of what begins to count anew just now nothing is known yet.
    const merged = read.filter((one) => one.countsFromMs === countsFromMs(one.endpointId))
    if (windows.size + merged.length > WINDOWS_MAX) windows.clear()
    for (const { endpointId, window } of merged) windows.set(endpointId, window)
    await deps.onWindows(merged).catch((error: unknown) => deps.log.warn({ err: error }, 'endpoint-health.not-acted-on'))
    return new Map()
  } catch (error) {
    deps.log.warn({ err: error }, 'endpoint-health.not-shared')
    return isPassingFault(error) ? counted : new Map()
  }
}
