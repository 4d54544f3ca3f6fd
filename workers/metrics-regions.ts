import type { Registry } from 'prom-client'
import type { Logger } from 'pino'
import type { HandOverDependencies } from '../activities/handing.ts'
import { LIMITS } from '../domain/limits.ts'
import { readHandOverDepth } from '../storage/handed-over.ts'
import type { Pool } from '../storage/pool.ts'
import { createDepthReader } from './metrics-queues.ts'
import { readCounter, readGauge } from './metrics-read.ts'

/** Counts messages that were handed to other regions. @returns what is told of them */
export function countHandedOver(registry: Registry): NonNullable<HandOverDependencies['onHandedOver']> {
  const counts = new Map<string, { region: string; result: string; messages: number }>()
  const help = 'Messages with deliveries for another region by what came of it: handed; here, as the region did not take them'
  readCounter(registry, { name: 'tidings_handed_over_total', help, labels: ['region', 'result'] }, (add) => {
    for (const { region, result, messages } of counts.values()) add({ region, result }, messages)
  })
  return (region, result, messages) => {
    const key = `${region} ${result}`
    const known = counts.get(key)
    if (known === undefined) counts.set(key, { region, result, messages })
    else known.messages += messages
  }
}

/** What waits for other regions, which every dispatcher sees alike: take one, not the sum. */
export function exposeHandOvers(registry: Registry, { pool, log }: { pool: Pool; log: Logger }, regions: readonly string[]): void {
  const depth = createDepthReader(() => readHandOverDepth(pool, LIMITS.queueDepthMax), log)
  const expose = (name: string, help: string, field: 'waiting' | 'oldestS') => {
    readGauge(registry, { name, help, labels: ['region'] }, async (add) => {
      const now = await depth()
      if (now === undefined) return
      for (const region of new Set([...regions, ...now.map((one) => one.region)])) {
        add({ region }, now.find((one) => one.region === region)?.[field] ?? 0)
      }
    })
  }
  expose('tidings_handovers_waiting', 'Messages whose deliveries wait for another region', 'waiting')
  expose('tidings_handover_wait_seconds', 'How long the oldest of them has waited', 'oldestS')
}
