import { newId } from '../../domain/ids.ts'
import type { Pool } from '../../storage/pool.ts'

/** One sample, as far as advice looks at it. */
export interface Sample {
  readonly atMs: number
  readonly workers: number
  readonly utilisation: number | null
}

export async function addSamples(pool: Pool, name: string, samples: readonly Sample[]): Promise<void> {
  await pool.query(
    `INSERT INTO scaling_sample (pool, at, workers, wanted, depth, rate_limited, oldest_s, utilisation, attempts, endpoint_failures, own_failures)
     SELECT $1, to_timestamp(at / 1000), workers, workers, 0, 0, 0, utilisation, 0, 0, 0
     FROM unnest($2::float8[], $3::int[], $4::float8[]) AS s (at, workers, utilisation)`,
    [name, samples.map(({ atMs }) => atMs), samples.map(({ workers }) => workers), samples.map(({ utilisation }) => utilisation)],
  )
}

/** A live endpoint. @returns its id */
export async function addEndpoint(
  pool: Pool,
  { ordering = 'none', batching }: { ordering?: string; batching?: object } = {},
): Promise<string> {
  const id = newId('ep')
  await pool.query(`INSERT INTO endpoint (id, app_id, url, ordering, batching) VALUES ($1, 'app_1', 'https://example.com/', $2, $3)`, [
    id,
    ordering,
    batching === undefined ? null : JSON.stringify(batching),
  ])
  return id
}
