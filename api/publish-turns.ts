import type { Crowding } from '../domain/crowding.ts'
import { createFairQueue } from '../domain/fair-queue.ts'
import type { InHand } from '../domain/in-hand.ts'
import { LIMITS } from '../domain/limits.ts'
import { DEFAULT_PRIORITY, lineOf, type Priority, type PriorityWeights } from '../domain/priority.ts'
import { createPublishRates } from '../domain/publish-rates.ts'

/** What is published together: one message, or a batch. */
export interface Publication {
  readonly appId: string
  readonly priority?: Priority | undefined
  readonly messages: number
}

/** Lets applications publish: who publishes much waits for turns while the process has enough to do. */
export interface PublishTurns {
  /** @returns undefined where it may go on at once */
  turn(publication: Publication): Promise<void> | undefined
}

export interface PublishTurnsDependencies {
  readonly crowding: Crowding
  readonly weights: PriorityWeights
  /** Absent: deliveries are made elsewhere, and Postgres is what holds them. */
  readonly inHand?: Pick<InHand, 'room' | 'expect'> | undefined
}

/**
 * Between two turns while others publish little. What is let through together is committed together and shares a fan-out, and
 * fan-outs are what a machine can start few of: with more turns a second the flood's starts come on top of the others'.
 */
const CROWDED_EVERY_MS = 100
/** Between two looks at what there is to do: who is let through in one is committed together. */
const BUSY_EVERY_MS = 15

interface Waiting {
  readonly messages: number
  readonly sinceMs: number
  readonly go: () => void
}

export function createPublishTurns(deps: PublishTurnsDependencies): PublishTurns {
  const { crowding, weights, inHand } = deps
  const rates = createPublishRates()
  const turns = createFairQueue<Waiting>()
  /** Who waits, in the order in which they came. */
  const waiting = new Set<Waiting>()
  // Of the monotonic clock: the other may be set back.
  let tookTurnAtMs = -Infinity
  let timer: NodeJS.Timeout | undefined

  const room = (nowMs: number) => inHand?.room(nowMs) ?? LIMITS.messagesPerCommit
  const letGo = (one: Waiting): number => {
    // It has waited long enough before its turn came.
    if (!waiting.delete(one)) return 0
    inHand?.expect(one.messages)
    one.go()
    return one.messages
  }
  const letGoBefore = (beforeMs: number) => {
    for (const one of waiting) {
      if (one.sinceMs > beforeMs) return
      letGo(one)
    }
  }
  const take = () => {
    const nowMs = Date.now()
    const crowded = crowding.crowded(nowMs)
    let left = crowded ? LIMITS.messagesPerCommit : room(nowMs)
    if (left > 0) tookTurnAtMs = performance.now()
    while (left > 0 && waiting.size > 0) for (const next of turns.take(1)) left -= letGo(next)
    letGoBefore(performance.now() - LIMITS.publishWaitMaxMs)
    if (waiting.size === 0) turns.take(turns.size)
    timer = waiting.size > 0 ? setTimeout(take, crowded ? CROWDED_EVERY_MS : BUSY_EVERY_MS) : undefined
  }
  return {
    turn({ appId, priority = DEFAULT_PRIORITY, messages }) {
      const nowMs = Date.now()
      const line = lineOf(appId, priority)
      const little = rates.count(line, nowMs, messages)
      crowding.published(line, little, nowMs)
      if (little) return undefined
      const crowded = crowding.crowded(nowMs)
      if (!crowded && waiting.size === 0 && room(nowMs) > 0) {
        inHand?.expect(messages)
        return undefined
      }
      return new Promise((go) => {
        const one = { messages, sinceMs: performance.now(), go }
        waiting.add(one)
        // A turn is about as many messages, whether they come one by one or in batches.
        turns.push(line, one, Math.max(1, Math.floor(weights[priority] / messages)))
        timer ??= setTimeout(take, crowded ? Math.max(0, tookTurnAtMs + CROWDED_EVERY_MS - performance.now()) : BUSY_EVERY_MS)
      })
    },
  }
}
