import { condition, continueAsNew, proxyActivities, setHandler, workflowInfo } from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import { wake } from './mailbox.ts'

/** Where the clocks of Postgres and of the Temporal server differ, a release may find that nothing is due yet. */
const LEAST_WAIT_MS = 200

const { releaseScheduled } = proxyActivities<Activities>({
  startToCloseTimeout: '1m',
  retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' },
})

/** Holds one durable timer for all messages that wait for their `deliverAt`; ends when none does. */
export async function schedule(input: { readonly wakeAtMs: number }): Promise<void> {
  let wakeAtMs: number | null = input.wakeAtMs
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
    const { nextAtMs } = await releaseScheduled()
    // A wake that came during the release is in Postgres, but perhaps after the release looked.
    wakeAtMs = woken ? Date.now() : nextAtMs === null ? null : Math.max(nextAtMs, Date.now() + LEAST_WAIT_MS)
    if (wakeAtMs !== null && workflowInfo().continueAsNewSuggested) await continueAsNew<typeof schedule>({ wakeAtMs })
  }
}
