import type { Registry } from 'prom-client'
import type { Logger } from 'pino'
import type { Pool } from '../storage/pool.ts'
import { readStandbys, type StandbyLag } from '../storage/replication.ts'
import { readGauge, type Described } from './metrics-read.ts'

/** How far behind the standbys of Postgres are, as it sees them: a standby that is not connected has no series. */
export function exposeStandbys(registry: Registry, { pool, log }: { pool: Pool; log: Logger }): void {
  let reading: Promise<StandbyLag[]> | undefined
  const read = () => {
    reading ??= readStandbys(pool)
      .catch((error: unknown) => {
        log.warn({ err: error }, 'metrics.standbys-not-read')
        return []
      })
      .finally(() => (reading = undefined))
    return reading
  }
  const expose = (described: Omit<Described, 'labels'>, value: (one: StandbyLag) => number) =>
    readGauge(registry, { ...described, labels: ['standby'] }, async (add) => {
      for (const one of await read()) add({ standby: one.name }, value(one))
    })
  expose({ name: 'tidings_standby_lag_bytes', help: 'Written by Postgres and not applied by its standby' }, (one) => one.bytes)
  expose(
    { name: 'tidings_standby_lag_seconds', help: 'How long it took until what Postgres wrote was applied by its standby' },
    (one) => one.ms / 1000,
  )
}
