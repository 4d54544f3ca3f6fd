import type { Crowding } from '../domain/crowding.ts'
import { createFairQueue } from '../domain/fair-queue.ts'
import { LIMITS } from '../domain/limits.ts'
import { DEFAULT_PRIORITY, lineOf, type Priority, type PriorityWeights } from '../domain/priority.ts'
import { createPublishRates } from '../domain/publish-rates.ts'

/** What is published together: one message, or a batch. */
export interface Publication {
  readonly appId: string
  readonly priority?: Priority | undefined
  readonly messages: number
}

/** Lets applications publish: who publishes much waits for turns while the process is crowded. */
export interface PublishTurns {
  /** @returns undefined where it may go on at once */
  turn(publication: Publication): Promise<void> | undefined
}

/**
 * Between two turns. What is let through together is committed together and shares a fan-out, and fan-outs are what a machine
 * can start few of: with more turns a second the flood's starts come on top of the others'.
 */
const EVERY_MS = 100

export function createPublishTurns(crowding: Crowding, weights: PriorityWeights): PublishTurns {
  const rates = createPublishRates()
  const waiting = createFairQueue<{ readonly messages: number; readonly go: () => void }>()
  let tookTurnAtMs = 0
  let timer: NodeJS.Timeout | undefined

  const take = () => {
    tookTurnAtMs = Date.now()
    for (let left: number = LIMITS.messagesPerCommit; left > 0;) {
      const [next] = waiting.take(1)
      if (next === undefined) break
      left -= next.messages
      next.go()
    }
    timer = waiting.size > 0 ? setTimeout(take, EVERY_MS) : undefined
  }
  return {
    turn({ appId, priority = DEFAULT_PRIORITY, messages }) {
      const nowMs = Date.now()
      const line = lineOf(appId, priority)
      const little = rates.count(line, nowMs, messages)
      crowding.published(line, little, nowMs)
      if (little) return undefined
      if (!crowding.crowded(nowMs) && waiting.size === 0) return undefined
      return new Promise((go) => {
        // A turn is about as many messages, whether they come one by one or in batches.
        waiting.push(line, { messages, go }, Math.max(1, Math.floor(weights[priority] / messages)))
        timer ??= setTimeout(take, Math.max(0, tookTurnAtMs + EVERY_MS - nowMs))
      })
    },
  }
}
