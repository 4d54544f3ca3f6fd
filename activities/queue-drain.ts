import { Context } from '@temporalio/activity'
import type { MailboxDrain } from '../domain/fan-out.ts'
import { hasQueue } from '../domain/ordering.ts'
import type { CachedEndpoint, ConfigCache } from '../storage/config-cache.ts'
import { queueOwner, settleQueue } from '../storage/mailbox-queue.ts'
import type { MessageCache } from '../storage/messages.ts'
import type { OperationalEvents } from '../storage/operational-events.ts'
import type { Pool } from '../storage/pool.ts'
import type { AttemptDependencies } from './attempt.ts'
import { createBatches } from './batches.ts'
import { createOrdered } from './ordered.ts'
import type { Pace } from './pace.ts'
import type { QueueHints } from './queue-hints.ts'
import type { RequestSlots } from './request-slots.ts'
import { TIMER_LEAD_MS, WAIT_HERE_MS } from './timers.ts'
import { holdTurn, type HeldTurn } from './turn-keeper.ts'

export interface QueueDrainDependencies extends Omit<AttemptDependencies, 'recorder'> {
  readonly pool: Pool
  readonly messages: MessageCache
  readonly configCache: ConfigCache
  readonly pace: Pace
  readonly operational?: Pick<OperationalEvents, 'of'> | undefined
  readonly hints: QueueHints
  readonly slots: RequestSlots
  readonly stopping: AbortSignal
}

/** One drain of one endpoint's queue. */
export interface QueueRun {
  readonly deps: QueueDrainDependencies
  readonly held: HeldTurn
  readonly endpointId: string
  readonly runId: string
}

/**
 * What one look at a queue has come to: requests were made, or it was looked at for another reason; nothing is there; or
 * what is there waits, until `untilMs` where that is known.
 */
export type Step =
  | { readonly kind: 'went'; readonly sent: number }
  | { readonly kind: 'empty' }
  | { readonly kind: 'waits'; readonly untilMs?: number; readonly reason?: string }

/** Sends from a queue, step by step. */
export interface QueueSender {
  step(endpoint: CachedEndpoint): Promise<Step>
  /** After the last step: nothing is in flight and all is recorded. */
  finish(): Promise<void>
}

const DRAIN_FOR_MS = 30_000
// Steady traffic finds the drain still there, and need not start a workflow for every message.
const LINGER_MS = 500
// Somebody else has the turn, and looks after what is due.
const LOST_LOOK_AGAIN_MS = 5000

/** @returns what drains the queue of one endpoint; that answers undefined for an endpoint without a queue */
export function createQueueDrain(deps: QueueDrainDependencies) {
  return async (input: { readonly endpointId: string; readonly runId: string }): Promise<MailboxDrain | undefined> => {
    const appId = await queueOwner(deps.pool, input.endpointId)
    if (appId === undefined) return undefined
    const signal = AbortSignal.any([deps.stopping, Context.current().cancellationSignal])
    const held = await holdTurn(deps.pool, input.endpointId, signal)
    const run: QueueRun = { ...input, deps, held }
    const senders = { ordered: createOrdered(run), batches: createBatches(run) }
    try {
      return await drain(run, appId, senders, signal)
    } finally {
      await senders.ordered.finish()
      await held.release().catch(() => undefined)
    }
  }
}

async function drain(
  run: QueueRun,
  appId: string,
  senders: { readonly ordered: QueueSender; readonly batches: QueueSender },
  signal: AbortSignal,
): Promise<MailboxDrain> {
  const { deps, held, endpointId } = run
  const endMs = Date.now() + DRAIN_FOR_MS
  let sent = 0
  for (;;) {
    const endpoint = (await deps.configCache.endpoints(appId)).byId.get(endpointId)
    // What it has become the next drain sees.
    if (endpoint === undefined || endpoint.disabled || !hasQueue(endpoint)) return { sent, nextAtMs: Date.now() }
    const sender = endpoint.batching === null ? senders.ordered : senders.batches
    const over = signal.aborted || Date.now() > endMs
    const step = over ? ({ kind: 'waits' } as const) : await stepOrLinger(run, () => sender.step(endpoint), signal)
    if (held.lost) return { sent, nextAtMs: Date.now() + LOST_LOOK_AGAIN_MS }
    if (step.kind === 'went') {
      sent += step.sent
      continue
    }
    if (over) await sender.finish()
    const next = await settle(run, endpoint, step)
    if (over || next.nextAtMs === null || next.nextAtMs > Date.now() + WAIT_HERE_MS) return { sent, ...early(next) }
    await deps.hints.wait(endpointId, Math.max(1, next.nextAtMs - Date.now()), signal)
  }
}

type Next = Omit<MailboxDrain, 'sent'>

/** Finds when to look again, and why not before. */
async function settle({ deps, held }: QueueRun, endpoint: CachedEndpoint, step: Step): Promise<Next> {
  const dueAtMs = await settleQueue(deps.pool, held.turn, endpoint.ordering)
  if (dueAtMs === null || step.kind !== 'waits') return { nextAtMs: dueAtMs }
  const nextAtMs = Math.max(dueAtMs, step.untilMs ?? 0)
  return step.reason === undefined ? { nextAtMs } : { nextAtMs, held: step.reason }
}

function early(next: Next): Next {
  return next.nextAtMs === null ? next : { ...next, nextAtMs: next.nextAtMs - TIMER_LEAD_MS }
}

/** Takes a step; where the queue is empty stays a while for what comes. */
async function stepOrLinger({ deps, endpointId }: QueueRun, take: () => Promise<Step>, signal: AbortSignal): Promise<Step> {
  const first = await take()
  if (first.kind !== 'empty') return first
  const added = deps.hints.wait(endpointId, LINGER_MS, signal)
  // What was added before this listened.
  const second = await take()
  if (second.kind !== 'empty') return second
  await added
  return signal.aborted ? second : take()
}
