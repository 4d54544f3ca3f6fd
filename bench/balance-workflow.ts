import { proxyActivities } from '@temporalio/workflow'

export interface BalanceActivities {
  /** @returns Unix milliseconds when it was done */
  work(durationMs: number): Promise<number>
}

export interface BalanceInput {
  /** Task queues in the order in which tasks are given out; each task goes to the next. */
  readonly queues: readonly string[]
  /** How long each task takes, in milliseconds. */
  readonly durationsMs: readonly number[]
}

/** @returns for each task how long after the start it was done, in milliseconds */
export async function balance({ queues, durationsMs }: BalanceInput): Promise<number[]> {
  const startMs = Date.now()
  return Promise.all(
    durationsMs.map(async (durationMs, i) => {
      const taskQueue = queues[i % queues.length]!
      const activities = proxyActivities<BalanceActivities>({ taskQueue, startToCloseTimeout: '1 minute' })
      return (await activities.work(durationMs)) - startMs
    }),
  )
}
