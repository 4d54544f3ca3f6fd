import {
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  sleep,
  workflowInfo,
} from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import type { ReplayInput, ReplayProgress } from '../domain/fan-out.ts'

export const pause = defineSignal('pause')
export const resume = defineSignal('resume')
export const cancel = defineSignal('cancel')
export const progress = defineQuery<ReplayProgress>('progress')

const DEFAULT_RATE_PER_SECOND = 100
const MESSAGES_PER_PAGE = 100

const { enqueueReplay } = proxyActivities<Activities>({
  startToCloseTimeout: '1m',
  retry: { initialInterval: '1s', maximumInterval: '30s' },
})

/** Sends the messages of a time range again, at a bounded rate, through the outbox. */
export async function replay(input: ReplayInput): Promise<ReplayProgress> {
  let now: ReplayProgress = input.progress ?? { state: 'running', deliveries: 0 }
  const change = (changes: Partial<ReplayProgress>) => {
    now = { ...now, ...changes }
    setCurrentDetails(`${now.state}: ${now.deliveries} deliveries put into the outbox, last message ${now.afterMessageId ?? 'none yet'}`)
  }
  const isRunning = () => now.state === 'running'
  setHandler(progress, () => now)
  setHandler(pause, () => void (isRunning() && change({ state: 'paused' })))
  setHandler(resume, () => void (now.state === 'paused' && change({ state: 'running' })))
  setHandler(cancel, () => change({ state: 'cancelled' }))

  const rate = input.ratePerSecond ?? DEFAULT_RATE_PER_SECOND
  const limit = Math.min(MESSAGES_PER_PAGE, rate)
  for (;;) {
    await condition(() => now.state !== 'paused')
    if (!isRunning()) return now
    const page = await enqueueReplay({ request: input, afterMessageId: now.afterMessageId, limit })
    if (page.afterMessageId === undefined) {
      if (isRunning()) change({ state: 'completed' })
      return now
    }
    change({ deliveries: now.deliveries + page.deliveries, afterMessageId: page.afterMessageId })
    await sleep((page.deliveries / rate) * 1000)
    if (workflowInfo().continueAsNewSuggested) await continueAsNew<typeof replay>({ ...input, progress: now })
  }
}
