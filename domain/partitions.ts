/**
 * How long after its last use a number of partitions is still served: work that was given to its task queues waits a day at
 * most (`LIMITS.retryDelayMaxMs`), but the workers that serve them may have been away.
 */
export const NUMBER_KEPT_MS = 7 * 86_400_000

/** The partitions that hold the work of all these numbers of partitions. */
export function partitionsOf(numbers: readonly number[]): number[] {
  return Array.from({ length: Math.max(0, ...numbers) }, (_, partition) => partition)
}
