/**
 * - `none`: deliveries go as they come
 * - `fifo`: one at a time, in the order in which their publishes were answered
 * - `fifo-by-key`: the same for those with the same `orderingKey`; others go beside them
 */
export const ORDERINGS = ['none', 'fifo', 'fifo-by-key'] as const
export type Ordering = (typeof ORDERINGS)[number]

/** How many events one request carries at most, how long the first of them waits for others, and how large its body may be. */
export interface Batching {
  readonly maxEvents: number
  readonly lingerMs: number
  readonly maxBytes: number
}

/** What of an endpoint says whether it has a queue, and how that is sent. */
export interface QueueWay {
  readonly ordering: Ordering
  readonly batching: Batching | null
}

/** Whether what an endpoint gets goes through a queue in Postgres. */
export function hasQueue({ ordering, batching }: QueueWay): boolean {
  return ordering !== 'none' || batching !== null
}

/** Whether two settings send a queue in one way. How large batches are may differ. */
export function isSameWay(one: QueueWay, other: QueueWay): boolean {
  return one.ordering === other.ordering && (one.batching === null) === (other.batching === null)
}

/** A delivery in an endpoint's queue. */
export interface Queued {
  readonly messageId: string
  readonly orderingKey: string | null
  /** Requests made. */
  readonly attempts: number
  /** Unix milliseconds. */
  readonly nextAtMs: number
}

/** What has been sent at least once waits for its time; what has not may go at once, whatever the clock that wrote its row said. */
export function isDue(one: Queued, nowMs: number): boolean {
  return one.attempts === 0 || one.nextAtMs <= nowMs
}

export interface HeadsRequest<T extends Queued> {
  /** In the order of the queue. */
  readonly queue: readonly T[]
  readonly ordering: Exclude<Ordering, 'none'>
  readonly inFlight: readonly Queued[]
  /** Requests that may be in flight at a time. */
  readonly room: number
  readonly nowMs: number
}

/**
 * Which deliveries of a queue may be sent now. `fifo`: the first alone. `fifo-by-key`: the first of each key that has nothing
 * in flight, and what has no key. What is not due holds up what is behind it.
 */
export function headsOf<T extends Queued>({ queue, ordering, inFlight, room, nowMs }: HeadsRequest<T>): T[] {
  if (ordering === 'fifo') {
    const [head] = queue
    return head !== undefined && inFlight.length === 0 && isDue(head, nowMs) ? [head] : []
  }
  const flying = new Set(inFlight.map((one) => one.messageId))
  const taken = new Set(inFlight.map((one) => one.orderingKey))
  const heads: T[] = []
  for (const one of queue) {
    if (heads.length + inFlight.length >= room) break
    if (flying.has(one.messageId)) continue
    const { orderingKey } = one
    if (orderingKey !== null) {
      if (taken.has(orderingKey)) continue
      taken.add(orderingKey)
    }
    if (isDue(one, nowMs)) heads.push(one)
  }
  return heads
}
