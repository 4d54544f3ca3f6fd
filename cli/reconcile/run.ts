import { setTimeout as pause } from 'node:timers/promises'
import type { Client } from '@temporalio/client'
import { pino } from 'pino'
import { reconcileStep, type Reconciliation } from '../../activities/reconcile.ts'
import { lowestIdAt, newId } from '../../domain/ids.ts'
import { beginReconcile, type ReconcileCounts, type ReconcileProgress, type ReconcileRequest } from '../../domain/reconcile.ts'
import type { Pool } from '../../storage/pool.ts'
import { createMailboxes } from '../../workers/mailboxes.ts'
import { createOpenWorkflows } from '../../workers/open-workflows.ts'
import type { Progress } from '../progress.ts'

const SAY_EVERY_MS = 5000

export interface ReconcileRun {
  /** Of the namespace whose workflows deliver. */
  readonly client: Client
  readonly pool: Pool
  /** `TIDINGS_PARTITIONS` */
  readonly partitions: number
  readonly request: ReconcileRequest
  readonly progress: Progress
}

/**
 * Reconciles in this process, beside live traffic; no worker has to run. What it was cut off from, another run does.
 * @throws what Postgres or Temporal throws
 */
export async function runReconcile({ client, pool, partitions, request, progress }: ReconcileRun): Promise<ReconcileProgress> {
  const log = pino({ level: 'warn' }, pino.destination(2))
  // A wake that fails is made good by the sweep of the service.
  const mailboxes = createMailboxes({ client, pool, partitions, log, sweep: false })
  const deps = {
    pool,
    openWorkflows: createOpenWorkflows(client),
    wakeMailbox: (wake: Parameters<typeof mailboxes.wake>[0]) => mailboxes.wakeNow(wake),
  }
  const reconciliation: Reconciliation = { name: newId('out'), request, save: () => Promise.resolve() }
  let now = beginReconcile(lowestIdAt('msg', Date.parse(request.since)))
  let saidAtMs = performance.now()
  progress.say(`looking through messages since ${request.since}`)
  while (now.phase !== 'over') {
    const step = await reconcileStep(deps, reconciliation, now)
    now = step.progress
    if (performance.now() - saidAtMs > SAY_EVERY_MS) {
      saidAtMs = performance.now()
      const waits = step.waitMs === undefined ? '' : ', waiting: the outbox is full, or another reconciliation is at work'
      progress.say(`${now.messages} messages, ${now.put} put into the outbox, ${now.parked} left to mailboxes${waits}`)
    }
    if (step.waitMs !== undefined) await pause(step.waitMs)
  }
  return now
}

/** What a reconciliation did. */
export function countsOf(done: ReconcileProgress): ReconcileCounts {
  const { messages, put, parked, carried, changed, mailboxes, tasks } = done
  return { messages, put, parked, carried, changed, mailboxes, tasks }
}

/** A line each, messages first. */
export function describeCounts(counts: ReconcileCounts): string[] {
  return [
    `${counts.messages} messages`,
    `${counts.put} deliveries put into the outbox`,
    `${counts.parked} deliveries that waited for a retry left to mailboxes`,
    `${counts.mailboxes} mailboxes woken`,
    `${counts.tasks} background tasks started again`,
    `${counts.carried} deliveries left alone: a fan-out that carries their message is open`,
    `${counts.changed} deliveries left alone: their endpoint was changed after the message (--changed puts them in)`,
  ]
}
