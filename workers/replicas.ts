/** The replicas that the API of a process reads history from. */
import { createReplicas, type Replicas } from '../storage/replicas.ts'
import type { Metrics } from './metrics.ts'
import type { Parts } from './parts.ts'
import type { Stack } from './stack.ts'

/** Undefined where none are configured: nothing is looked at, noted or opened then. */
export function startReplicas({ config, pool, log }: Parts, metrics: Metrics, stack: Stack): Replicas | undefined {
  if (config.databaseReplicaUrls.length === 0) return undefined
  const replicas = createReplicas({
    pool,
    primaryUrl: config.databaseUrl,
    urls: config.databaseReplicaUrls,
    maxLagMs: config.replicaMaxLagMs,
    connections: config.databasePool,
    log,
  })
  stack.push(() => replicas.stop())
  metrics.replicas(replicas)
  return replicas
}

/** What `/readyz` tells of each. */
export function describeReplicas(replicas: Replicas): Record<string, () => string> {
  const describe = (name: string) => () => {
    const { problem, usable, lagMs } = replicas.status().find((one) => one.name === name)!
    if (problem !== '') return problem
    const behind = Number.isFinite(lagMs) ? `${Math.round(lagMs)} ms behind at most` : 'it is not known how far behind'
    return `${usable ? 'read from' : 'not read from'}, ${behind}`
  }
  return Object.fromEntries(replicas.status().map(({ name }) => [`replica ${name}`, describe(name)]))
}
