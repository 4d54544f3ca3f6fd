import { Context } from '@temporalio/activity'
import type { MailboxDrain } from '../domain/fan-out.ts'
import { TRIGGER_SCHEDULED } from '../domain/outcome.ts'
import type { ConfigCache } from '../storage/config-cache.ts'
import { endDeliveries, readDueParked, settleMailbox, type ParkedDelivery } from '../storage/deliveries.ts'
import { readMessages, type MessageCache } from '../storage/messages.ts'
import type { Pool } from '../storage/pool.ts'
import { targetOf } from './first-attempts.ts'
import type { LaneSender } from './lane-sender.ts'
import { TIMER_LEAD_MS, WAIT_HERE_MS } from './timers.ts'

export interface MailboxDependencies {
  readonly pool: Pool
  readonly messages: MessageCache
  readonly configCache: ConfigCache
  readonly sendRetry: LaneSender
  readonly stopping: AbortSignal
}

const ROWS_PER_READ = 100
const DRAIN_FOR_MS = 30_000
const HEARTBEAT_MS = 2000
const DETACH_AFTER_MS = 1000

/** The activity of an endpoint's mailbox. */
export function createMailbox(deps: MailboxDependencies) {
  return {
    /**
     * Sends the parked deliveries of one endpoint that are due, for half a minute at most.
     * @returns when to look again, shortly before the next one is due; null where none is parked, in which case the mailbox is marked idle
     */
    async drainMailbox(input: { readonly endpointId: string; readonly runId: string }): Promise<MailboxDrain> {
      const beat = setInterval(() => Context.current().heartbeat(), HEARTBEAT_MS)
      const endMs = Date.now() + DRAIN_FOR_MS
      let sent = 0
      try {
        for (;;) {
          sent += await sendAllDue(deps, input, endMs)
          const nextAtMs = await settleMailbox(deps.pool, input.endpointId)
          if (nextAtMs === null) return { sent, nextAtMs }
          const waitMs = nextAtMs - Date.now()
          if (waitMs > WAIT_HERE_MS || Date.now() > endMs || deps.stopping.aborted) return { sent, nextAtMs: nextAtMs - TIMER_LEAD_MS }
          await Context.current().sleep(Math.max(1, waitMs))
        }
      } finally {
        clearInterval(beat)
      }
    },
  }
}

/** @returns how many */
async function sendAllDue(deps: MailboxDependencies, input: { endpointId: string; runId: string }, endMs: number): Promise<number> {
  let sent = 0
  while (Date.now() < endMs && !deps.stopping.aborted) {
    const due = await readDueParked(deps.pool, input.endpointId, Date.now(), ROWS_PER_READ)
    if (due.length === 0) break
    await sendDue(deps, input.endpointId, input.runId, due)
    sent += due.length
  }
  return sent
}

async function sendDue(deps: MailboxDependencies, endpointId: string, runId: string, due: readonly ParkedDelivery[]): Promise<void> {
  const messages = await readMessages(
    deps.pool,
    deps.messages,
    due.map((one) => one.messageId),
  )
  const target = await targetOf(deps.configCache, endpointId, [...messages.values()])
  const end = async (ended: readonly ParkedDelivery[], state: 'dead' | 'cancelled') => {
    const messageIds = ended.map((one) => one.messageId)
    if (ended.length > 0) await endDeliveries(deps.pool, { endpointId, messageIds, groupId: ended[0]!.groupId, state })
  }
  const cancelled = due.filter((one) => one.trigger === TRIGGER_SCHEDULED && messages.get(one.messageId)?.cancelled === true)
  const sendable = target === undefined ? [] : due.filter((one) => messages.has(one.messageId) && !cancelled.includes(one))
  await end(cancelled, 'cancelled')
  await end(
    due.filter((one) => !sendable.includes(one) && !cancelled.includes(one)),
    'dead',
  )
  await Promise.all(
    sendable.map(async (one) => {
      const sending = await deps.sendRetry({
        message: messages.get(one.messageId)!,
        endpoint: target!.endpoint,
        lane: 'retry',
        groupId: one.groupId,
        runId,
        attemptsBefore: one.attempts,
        hadRow: true,
        trigger: one.trigger,
        retried: true,
        parkAlways: true,
        signal: deps.stopping,
      })
      if (typeof sending === 'string') return
      const timer = setTimeout(() => sending.detach(), DETACH_AFTER_MS)
      await sending.done.finally(() => clearTimeout(timer))
    }),
  )
}
