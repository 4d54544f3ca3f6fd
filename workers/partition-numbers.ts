import { partitionsOf } from '../domain/partitions.ts'
import { readPartitionNumbers, usePartitions } from '../storage/partition-numbers.ts'
import type { Parts } from './parts.ts'
import type { Stack } from './stack.ts'

const SAY_EVERY_MS = 3_600_000

/**
 * Says that this process gives work to so many partitions, for as long as it runs.
 * @returns every partition that may hold work, also of numbers that other processes have, or had until now
 */
export async function announcePartitions({ config, pool, log }: Pick<Parts, 'config' | 'pool' | 'log'>, stack: Stack): Promise<number[]> {
  await usePartitions(pool, config.partitions)
  const say = () => void usePartitions(pool, config.partitions).catch((error: unknown) => log.warn({ err: error }, 'partitions.not-said'))
  const timer = setInterval(say, SAY_EVERY_MS)
  stack.push(() => {
    clearInterval(timer)
    return usePartitions(pool, config.partitions)
  })
  return partitionsOf(await readPartitionNumbers(pool))
}
