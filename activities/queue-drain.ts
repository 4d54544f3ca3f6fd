import { Context } from '@temporalio/activity'
import type { MailboxDrain } from '../domain/fan-out.ts'
import { isSameWay, type QueueWay } from '../domain/ordering.ts'
import type { CachedEndpoint } from '../storage/config-cache.ts'
import { queueOwner, settleQueue } from '../storage/mailbox-queue.ts'
import { createBatches } from './batches.ts'
import { createOrdered } from './ordered.ts'
import type { QueueDrainDependencies, QueueRun, QueueSender, Step } from './queue-run.ts'
import { TIMER_LEAD_MS, WAIT_HERE_MS } from './timers.ts'
import { holdTurn } from './turn-keeper.ts'

const DRAIN_FOR_MS = 30_000
// Steady traffic finds the drain still there, and need not start a workflow for every message.
const LINGER_MS = 500
// Somebody else has the turn, and looks after what is due.
const LOST_LOOK_AGAIN_MS = 5000

/** @returns what drains the queue of one endpoint; that answers undefined for an endpoint without a queue */
export function createQueueDrain(deps: QueueDrainDependencies) {
  return async (input: { readonly endpointId: string; readonly runId: string }): Promise<MailboxDrain | undefined> => {
    const owner = await queueOwner(deps.pool, input.endpointId)
    if (owner === undefined) return undefined
    const signal = AbortSignal.any([deps.stopping, Context.current().cancellationSignal])
    const held = await holdTurn(deps.pool, input.endpointId, signal)
    const run: QueueRun = { ...input, deps, held }
    const sender = owner.batching === null ? createOrdered(run) : createBatches(run)
    try {
      return await drain(run, owner, sender, signal)
    } finally {
      await sender.finish()
      await held.release().catch(() => undefined)
    }
  }
}

async function drain(
  run: QueueRun,
  owner: QueueWay & { readonly appId: string },
  sender: QueueSender,
  signal: AbortSignal,
): Promise<MailboxDrain> {
  const { deps, held, endpointId } = run
  const endMs = Date.now() + DRAIN_FOR_MS
  let sent = 0
  for (;;) {
    const endpoint = (await deps.configCache.endpoints(owner.appId)).byId.get(endpointId)
    // What it has become the next drain sees; or it is this process that has not heard of it yet.
    if (endpoint === undefined || endpoint.disabled || !isSameWay(endpoint, owner)) {
      deps.configCache.forget(owner.appId)
      return { sent, nextAtMs: Date.now() }
    }
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
