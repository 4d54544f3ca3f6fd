import { condition, continueAsNew, defineSignal, proxyActivities, setCurrentDetails, setHandler, workflowInfo } from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import type { MailboxDrain, MailboxInput } from '../domain/fan-out.ts'
import { deliverTaskQueue } from '../domain/names.ts'

/** Something was parked that is due earlier than the mailbox knows of, or the mailbox was idle. */
export const wake = defineSignal<[{ readonly wakeAtMs: number }]>('wake')

function activitiesOf({ endpointId, partition }: MailboxInput) {
  return proxyActivities<Activities>({
    taskQueue: deliverTaskQueue('retry', partition),
    activityId: endpointId,
    startToCloseTimeout: '5m',
    heartbeatTimeout: '10s',
    retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' },
    priority: { fairnessKey: endpointId },
  })
}

/** Holds one durable timer for all parked deliveries of one endpoint; ends when nothing is parked. */
export async function mailbox(input: MailboxInput): Promise<void> {
  let wakeAtMs: number | null = input.wakeAtMs
  let { partition } = input
  let woken = false
  setHandler(wake, (earlier) => {
    woken = true
    wakeAtMs = Math.min(wakeAtMs ?? earlier.wakeAtMs, earlier.wakeAtMs)
  })
  while (wakeAtMs !== null) {
    const waitMs: number = wakeAtMs - Date.now()
    woken = false
    if (waitMs > 0 && (await condition(() => woken, waitMs))) continue
    woken = false
    const drain = await activitiesOf({ ...input, partition }).drainMailbox({ endpointId: input.endpointId, runId: workflowInfo().runId })
    setCurrentDetails(detailsOf(drain))
    partition = drain.partition ?? partition
    // A wake that came during the drain is in Postgres, but perhaps after the drain looked.
    wakeAtMs = woken ? Math.min(Date.now(), drain.nextAtMs ?? Date.now()) : drain.nextAtMs
    if (wakeAtMs !== null && workflowInfo().continueAsNewSuggested) await continueAsNew<typeof mailbox>({ ...input, partition, wakeAtMs })
  }
}

/** What the Web UI shows of the mailbox. */
function detailsOf(drain: MailboxDrain): string {
  if (drain.nextAtMs === null) return 'nothing waits'
  return `${drain.held ?? 'deliveries wait for their retry'}; the next is due at ${new Date(drain.nextAtMs).toISOString()}`
}
