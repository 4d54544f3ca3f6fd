import { z } from 'zod'
import type { QueueState } from '../../storage/mailbox-queue.ts'
import { shownId, shownInteger, shownTime } from './replies.ts'

export const queueOut = z
  .object({
    depth: shownInteger('int64'),
    head: z
      .object({
        msgId: shownId('msg'),
        attempts: shownInteger('int64'),
        nextAttempt: shownTime,
        ageMs: shownInteger('int64').meta({ description: 'Milliseconds since the message was accepted' }),
      })
      .meta({ id: 'EndpointQueueHead' })
      .nullable(),
  })
  .meta({ id: 'EndpointQueueOut' })

export const skippedOut = z.object({ skipped: shownInteger('int64') }).meta({ id: 'SkippedOut' })

export function showQueue({ depth, head }: QueueState, nowMs: number) {
  if (head === null) return { depth, head }
  const { messageId, attempts, nextAt, queuedAt } = head
  return {
    depth,
    head: { msgId: messageId, attempts, nextAttempt: nextAt.toISOString(), ageMs: Math.max(0, nowMs - queuedAt.getTime()) },
  }
}
