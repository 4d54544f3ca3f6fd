import { Histogram, type Registry } from 'prom-client'
import type { ObserveStatement, Pool } from '../storage/pool.ts'
import { readGauge } from './metrics-read.ts'

/** Upper bounds, in seconds, of how long a statement takes. */
const STATEMENT_BOUNDS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2]

/** Times of statements. There before the registry is, as the first connections are. */
export interface StatementTimes {
  readonly observe: ObserveStatement
  readonly histogram: Histogram
}

export function createStatementTimes(): StatementTimes {
  const histogram = new Histogram({
    name: 'tidings_database_statement_seconds',
    help: 'How long statements took from when they were sent to Postgres, by their names in storage/',
    labelNames: ['statement'],
    buckets: STATEMENT_BOUNDS_S,
    registers: [],
  })
  return { histogram, observe: (statement, ms) => histogram.observe({ statement }, ms / 1000) }
}

/** How long statements take, and how many connections there are. */
export function exposeDatabase(registry: Registry, pool: Pool, statements?: StatementTimes): void {
  if (statements !== undefined) registry.registerMetric(statements.histogram)
  const help = 'Connections to Postgres by state; `waiting` are callers that wait for one'
  readGauge(registry, { name: 'tidings_database_connections', help, labels: ['state'] }, (add) => {
    add({ state: 'busy' }, pool.totalCount - pool.idleCount)
    add({ state: 'idle' }, pool.idleCount)
    add({ state: 'waiting' }, pool.waitingCount)
  })
}
