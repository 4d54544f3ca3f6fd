import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Config } from '../config/index.ts'
import { createLocalPool, type LocalPool } from '../workers/local-pool.ts'

const WORKER = join(import.meta.dirname, 'worker.ts')
const BACKOFF = { firstMs: 1000, maxMs: 60_000 }
/** What a worker needs beyond its requests in flight to record results and close its connections. */
const DRAIN_EXTRA_MS = 7000

/**
 * Workers of both roles on this machine, each a process with our environment.
 * Where this process serves metrics at a port, the workers serve theirs at the ports after it.
 */
export function openLocalPool({ requestTimeoutMs, metricsPort }: Config, max: number, log: Logger): LocalPool {
  return createLocalPool({
    program: process.execPath,
    args: [...process.execArgv, '--disable-warning=ExperimentalWarning', WORKER, '--role', 'all'],
    readyLine: /^tidings worker ready/,
    environmentOf: (place) => ({
      ...process.env,
      TIDINGS_METRICS_PORT: metricsPort === undefined || metricsPort === 0 ? undefined : String(metricsPort + 1 + place),
    }),
    drainMs: requestTimeoutMs + DRAIN_EXTRA_MS,
    max,
    backoff: BACKOFF,
    output: process.stdout,
    log,
  })
}
