/** Endpoints that would cost less in another lane, or batched. Money is USD a month. */
import { batchedCpuMs, type UnitCosts } from './capacity-costs.ts'
import { TARGET_UTILISATION } from './capacity.ts'
import { QUICK_MS, SLOW_ABOVE_MS } from './lanes.ts'
import { LIMITS } from './limits.ts'

/** How one endpoint was used. */
export interface EndpointUse {
  readonly endpointId: string
  readonly appId: string
  readonly attempts: number
  readonly perS: number
  readonly meanMs: number
  readonly p95Ms: number
  /** Whether all workers take it to be slow, so that it has the slow lane. */
  readonly slow: boolean
  /** Whether it is batched or ordered. */
  readonly queued: boolean
}

export type EndpointAdviceKind = 'slow-lane' | 'fast-lane' | 'batching'

export interface EndpointAdvice {
  readonly kind: EndpointAdviceKind
  readonly endpointId: string
  readonly appId: string
  readonly perS: number
  readonly p95Ms: number
  /** Requests in flight that it holds, on average; of batching, events in one request. */
  readonly places: number
  readonly saving: number
}

export interface EndpointAdviceInput {
  readonly costs: UnitCosts
  /** A month of one worker. */
  readonly worker: number
  /** Requests in flight of a worker's lane, and the activities of its slow lane. */
  readonly inFlight: number
  readonly slowSlots: number
}

/** Fewer attempts say little about an endpoint's p95. */
const ATTEMPTS_MIN = 20
/** Slower messages than these are alone in their batches. */
const BATCHED_FROM_PER_S = 20
const LINGER_S = 0.1

/** Advice for each endpoint that has any, what saves most first. */
export function adviseOnEndpoints(uses: readonly EndpointUse[], input: EndpointAdviceInput): EndpointAdvice[] {
  return uses
    .filter(({ attempts }) => attempts >= ATTEMPTS_MIN)
    .flatMap((use) => [moveOf(use, input), batchingOf(use, input)].filter((one) => one !== undefined))
    .sort((a, b) => b.saving - a.saving || b.places - a.places)
}

/**
 * A slow endpoint in the fast lane holds places that others wait for: what those cost is what the lane gets back. A fast one in
 * the slow lane has one of few places, and needs less of a worker in the fast lane.
 */
function moveOf(use: EndpointUse, { worker, inFlight, slowSlots }: EndpointAdviceInput): EndpointAdvice | undefined {
  const { endpointId, appId, perS, p95Ms, slow, queued } = use
  if (queued) return undefined
  const places = (perS * use.meanMs) / 1000
  const costAt = (slots: number) => (places / (slots * TARGET_UTILISATION)) * worker
  const about = { endpointId, appId, perS, p95Ms, places }
  if (!slow && p95Ms > SLOW_ABOVE_MS) return { kind: 'slow-lane', ...about, saving: costAt(inFlight) }
  if (slow && p95Ms < QUICK_MS) return { kind: 'fast-lane', ...about, saving: costAt(slowSlots) - costAt(inFlight) }
  return undefined
}

function batchingOf(use: EndpointUse, { costs, worker }: EndpointAdviceInput): EndpointAdvice | undefined {
  const { endpointId, appId, perS, p95Ms, queued } = use
  if (queued || perS < BATCHED_FROM_PER_S) return undefined
  // While a batch is under way the next one fills: one is in flight at a time.
  const events = Math.min(LIMITS.batchingMaxEvents, Math.max(1, perS * Math.max(LINGER_S, use.meanMs / 1000)))
  const savedMs = batchedCpuMs(costs, 1) - batchedCpuMs(costs, events)
  const saving = ((perS * savedMs) / 1000 / TARGET_UTILISATION) * worker
  return { kind: 'batching', endpointId, appId, perS, p95Ms, places: events, saving }
}
