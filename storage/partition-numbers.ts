import { NUMBER_KEPT_MS } from '../domain/partitions.ts'
import type { Queryable } from './pool.ts'

/** Writes down that a number of partitions is in use, and forgets those that no process has used for a week. */
export async function usePartitions(db: Queryable, partitions: number): Promise<void> {
  await db.query(
    `WITH gone AS (DELETE FROM partition_number WHERE used_at < now() - $2 * interval '1 ms' AND partitions <> $1)
    INSERT INTO partition_number (partitions, used_at) VALUES ($1, now()) ON CONFLICT (partitions) DO UPDATE SET used_at = now()`,
    [partitions, NUMBER_KEPT_MS],
  )
}

/** @returns the numbers of partitions that work may be left of */
export async function readPartitionNumbers(db: Queryable): Promise<number[]> {
  const { rows } = await db.query<{ partitions: number }>(
    `SELECT partitions FROM partition_number WHERE used_at >= now() - $1 * interval '1 ms' ORDER BY partitions`,
    [NUMBER_KEPT_MS],
  )
  return rows.map((row) => row.partitions)
}
