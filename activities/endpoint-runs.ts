import type { Lane } from '../domain/names.ts'

/** Activities of the delivery task queues that are under way in this process, by lane and endpoint. */
export interface EndpointRuns {
  /** One more begins. @returns whether the endpoint has its share of the lane already, and what to call when it is over */
  begin(lane: Lane, endpointId: string): { readonly isOver: boolean; end(): void }
  /** Whether another one would be over its share. */
  isFull(lane: Lane, endpointId: string): boolean
}

/**
 * What one endpoint may hold of a slow or a retry lane's activities: an endpoint that hangs would hold all of them for as long
 * as its requests run out of time one after the other, and whoever else has turned out to be slow would wait behind it.
 */
const SHARE = 0.1
/** In the fast lane an endpoint gives its places back within a second or two: slots for requests see to that. */
const BOUNDED: ReadonlySet<Lane> = new Set(['slow', 'retry'])

/** @param slots activities at a time of each lane */
export function createEndpointRuns(slots: Readonly<Record<Lane, number>>): EndpointRuns {
  const counts = new Map<string, number>()
  const isFull = (lane: Lane, endpointId: string) =>
    BOUNDED.has(lane) && (counts.get(`${lane} ${endpointId}`) ?? 0) >= Math.max(1, Math.floor(slots[lane] * SHARE))
  return {
    isFull,
    begin(lane, endpointId) {
      if (!BOUNDED.has(lane)) return { isOver: false, end: () => undefined }
      const key = `${lane} ${endpointId}`
      const isOver = isFull(lane, endpointId)
      counts.set(key, (counts.get(key) ?? 0) + 1)
      return {
        isOver,
        end() {
          const now = counts.get(key)! - 1
          if (now > 0) counts.set(key, now)
          else counts.delete(key)
        },
      }
    },
  }
}
