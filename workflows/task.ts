import { continueAsNew, proxyActivities, sleep, workflowInfo } from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import type { TaskInput } from '../domain/task.ts'

const { stepTask } = proxyActivities<Activities>({
  startToCloseTimeout: '2m',
  retry: { initialInterval: '1s', maximumInterval: '30s' },
})

/** Carries a background task to its end, step by step. How far it is stands in its row, so a repeated step does no harm. */
export async function task(input: TaskInput): Promise<void> {
  for (;;) {
    const step = await stepTask(input)
    if (step.done) return
    if (step.waitMs !== undefined) await sleep(step.waitMs)
    if (workflowInfo().continueAsNewSuggested) await continueAsNew<typeof task>(input)
  }
}
