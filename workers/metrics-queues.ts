import type { Registry } from 'prom-client'
import type { Logger } from 'pino'
import { LIMITS } from '../domain/limits.ts'
import type { Pool } from '../storage/pool.ts'
import { readQueueDepth } from '../storage/queue-depth.ts'
import { readProgress } from '../storage/rollups.ts'
import { readGauge } from './metrics-read.ts'

/** What waits in Postgres, which every dispatcher sees alike: take one, not the sum. */
export function exposeQueues(registry: Registry, { pool, log }: { pool: Pool; log: Logger }): void {
  const depth = createDepthReader(() => readQueueDepth(pool, LIMITS.queueDepthMax), log)
  readGauge(
    registry,
    { name: 'tidings_queue_rows', help: 'Rows that wait: outbox; mailbox_due, mailbox_later of parked deliveries', labels: ['queue'] },
    async (add) => {
      const now = await depth()
      if (now === undefined) return
      add({ queue: 'outbox' }, now.outbox)
      add({ queue: 'mailbox_due' }, now.due)
      add({ queue: 'mailbox_later' }, now.later)
    },
  )
  const lagText = 'Age of the oldest row: outbox since it was accepted, mailbox_due since it was due'
  readGauge(registry, { name: 'tidings_queue_lag_seconds', help: lagText, labels: ['queue'] }, async (add) => {
    const now = await depth()
    if (now === undefined) return
    add({ queue: 'outbox' }, now.oldestS)
    add({ queue: 'mailbox_due' }, now.overdueS)
  })
  const deadText = `Dead letters; from ${LIMITS.queueDepthMax} on an estimate`
  readGauge(registry, { name: 'tidings_dead_letters', help: deadText }, async (add) => {
    const now = await depth()
    if (now !== undefined) add({}, now.deadLetters)
  })
  const progress = createDepthReader(() => readProgress(pool), log)
  const rollupText = 'How long ago the last minute ended that statistics have; up to 75 is usual'
  readGauge(registry, { name: 'tidings_rollup_lag_seconds', help: rollupText }, async (add) => {
    const now = await progress()
    if (now !== undefined) add({}, Math.max(0, (Date.now() - now.throughMs) / 1000))
  })
}

/** Reads at most once in `LIMITS.queueDepthEveryMs`. Where Postgres does not answer soon there is nothing to tell, not what was. */
export function createDepthReader<T>(read: () => Promise<T>, log: Logger): () => Promise<T | undefined> {
  let readAtMs = -Infinity
  let reading: Promise<T | undefined> = Promise.resolve(undefined)
  return () => {
    const nowMs = Date.now()
    if (nowMs < readAtMs + LIMITS.queueDepthEveryMs) return reading
    readAtMs = nowMs
    const found = read().catch((error: unknown) => {
      log.warn({ err: error }, 'metrics.queues-not-read')
      return undefined
    })
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), LIMITS.queueDepthTimeoutMs)
    })
    reading = Promise.race([found, late]).finally(() => clearTimeout(timer))
    return reading
  }
}
