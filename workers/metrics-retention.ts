import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import { daysWithTables, overdueMs } from '../domain/retention-lag.ts'
import type { Retention } from '../domain/retention.ts'
import { listDayTables } from '../storage/partitions.ts'
import type { Pool } from '../storage/pool.ts'
import { createDepthReader } from './metrics-queues.ts'
import { readGauge } from './metrics-read.ts'

export interface RetentionMetrics {
  readonly pool: Pool
  readonly retention: Retention
  readonly log: Logger
}

/** How far the retention is behind, from the catalog of Postgres: every dispatcher tells the same. */
export function exposeRetention(registry: Registry, { pool, retention, log }: RetentionMetrics): void {
  const tables = createDepthReader(() => listDayTables(pool), log)
  const overdueText = 'For how long the oldest table of attempts or payloads has been there beyond its time; 0: none is'
  readGauge(registry, { name: 'tidings_retention_overdue_seconds', help: overdueText }, async (add) => {
    const there = await tables()
    if (there !== undefined) add({}, overdueMs(there, Date.now(), retention) / 1000)
  })
  const aheadText = 'Days from tomorrow on that have their tables of messages and attempts'
  readGauge(registry, { name: 'tidings_days_ahead', help: aheadText }, async (add) => {
    const there = await tables()
    if (there !== undefined) add({}, daysWithTables(there, Date.now()))
  })
}
