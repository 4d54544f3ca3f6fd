import type { WorkflowBundle } from '@temporalio/worker'
import type { Logger } from 'pino'
import { createLoad } from '../activities/load.ts'
import { createRunMemory, type RunMemory } from '../activities/run-memory.ts'
import type { Config } from '../config/index.ts'
import { createCrowding, type Crowding } from '../domain/crowding.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Lane } from '../domain/names.ts'
import { otherRegions } from '../domain/regions.ts'
import { startApiServer } from './api-server.ts'
import { listenForChanges } from './changes.ts'
import { startWorkers, type StartedWorkers } from './delivery.ts'
import { createDispatcher, type Dispatcher } from './dispatcher.ts'
import { startHeartbeat } from './heartbeat.ts'
import { watchEagerStarts } from './eager-starts.ts'
import { createMetrics, type Metrics } from './metrics.ts'
import { createAttemptWatch } from './attempt-watch.ts'
import { createStatementTimes } from './metrics-database.ts'
import { serveMetrics } from './metrics-server.ts'
import { connectParts, type Parts } from './parts.ts'
import { createProcessHealth, type ProcessHealth } from './process-health.ts'
import { keepRetentionSchedule } from './retention.ts'
import { startRollups } from './rollups.ts'
import { createSchedule } from './schedule.ts'
import { followConfiguration } from './shared-configuration.ts'
import { createStack, type Stack } from './stack.ts'
import { createEndpointsOf } from './endpoints-of.ts'
import { createPlanFanOut } from './plan-fan-out.ts'
import { createStartFanOut } from './start-fan-out.ts'
import { createStartPace } from './start-pace.ts'
import { announcePartitions } from './partition-numbers.ts'
import type { Tracing } from './tracing.ts'
import { startTaskSweep } from './tasks.ts'
import { bundleWorkflows, installRuntime } from './temporal.ts'

export type Role = 'api' | 'dispatcher' | 'delivery'

export interface ServiceOptions {
  readonly roles: readonly Role[]
  /** Delivery lanes that the role `delivery` serves. */
  readonly lanes: readonly Lane[]
  /** `all`: also those of other numbers of partitions, as long as work of them may exist. */
  readonly partitions: readonly number[] | 'all'
  readonly log: Logger
  /** How long requests in flight may go on when the service stops; then they are given up as interrupted. */
  readonly drainMs: number
  /** The workflows, where somebody has begun to bundle them; absent: they are bundled where they are needed. */
  readonly bundling?: Promise<WorkflowBundle> | undefined
}

export interface Service {
  /** Of the API; undefined without that role. */
  readonly url: string | undefined
  /** Rejects when a worker fails for good; otherwise never settles. */
  readonly failed: Promise<never>
  /** Stops intake, dispatcher and workers, in that order. */
  stop(): Promise<void>
}

/**
 * Starts the roles of one process against a migrated database and a prepared namespace.
 * @throws where Postgres or Temporal cannot be reached, or the port is taken; nothing is left running then
 */
export async function startService(config: Config, options: ServiceOptions): Promise<Service> {
  const stack = createStack(options.log)
  try {
    return await assemble(config, options, stack)
  } catch (error) {
    await stack.unwind()
    throw error
  }
}

async function assemble(config: Config, options: ServiceOptions, stack: Stack): Promise<Service> {
  const { roles, log } = options
  const dispatches = roles.includes('dispatcher')
  const delivers = roles.includes('delivery')
  installRuntime({ log, debugging: config.workflowDebugging, metricsAddress: temporalMetricsAddress(config) })
  const bundling = dispatches ? bundled(config, options) : undefined
  const statements = config.metricsPort === undefined ? undefined : createStatementTimes()
  const parts = await connectParts(config, log, stack, statements?.observe)
  const metrics = createMetrics({
    ...parts,
    statements,
    standbys: config.regions !== undefined,
    retention: config.retention,
    endpoints: config.metricsEndpoints,
    otherRegions: otherRegionsOf(config),
  })
  if (dispatches) metrics.queues()
  const health = createProcessHealth()
  await serveWhereAsked(config, metrics, health, stack)
  const tracing = await startTracing(parts, stack)
  const watch = createAttemptWatch({ metrics: metrics.watch, tracing, log, logged: config.attemptLog })
  const runs = createRunMemory()
  const crowding = createCrowding(parts.utilisation)
  const lanes = delivers ? options.lanes : []
  const every = await announcePartitions(parts, stack)
  const partitions = options.partitions === 'all' ? every : options.partitions
  const load = createLoad()
  const workers =
    dispatches || delivers
      ? await startWorkers(parts, { ...options, lanes, partitions, bundle: await bundling, runs, metrics, load, watch }, stack)
      : undefined
  if (workers !== undefined) await startHeartbeat(parts, { load, roles, lanes }, stack)
  const dispatcher = dispatches ? startDispatcher(parts, { runs, crowding, tracing, workers: workers! }, stack) : undefined
  if (dispatches) startUpkeep(parts, stack)
  const schedule = createSchedule(parts, { sweep: dispatches })
  stack.push(() => schedule.stop())
  const effects = followConfiguration(parts, stack)
  listenForChanges(parts, { dispatcher, effects }, stack)
  await warmCache(parts)
  const url = roles.includes('api') ? await startApiServer(parts, { dispatcher, schedule, crowding, metrics, tracing }, stack) : undefined
  health.started()
  stack.push(() => Promise.resolve(health.stopping()))
  return { url, failed: workers?.failed ?? new Promise<never>(() => undefined), stop: () => stack.unwind() }
}

function bundled({ workerVersion }: Config, { bundling }: ServiceOptions): Promise<WorkflowBundle> {
  return bundling ?? bundleWorkflows({ versioned: workerVersion !== undefined })
}

function otherRegionsOf({ regions }: Config): readonly string[] {
  return regions === undefined ? [] : otherRegions(regions)
}

async function serveWhereAsked({ host, metricsPort }: Config, metrics: Metrics, health: ProcessHealth, stack: Stack): Promise<void> {
  if (metricsPort === undefined) return
  const served = await serveMetrics(metrics, health, host, metricsPort)
  stack.push(() => served.stop())
}

function temporalMetricsAddress({ host, temporalMetricsPort }: Config): string | undefined {
  return temporalMetricsPort === undefined ? undefined : `${host}:${temporalMetricsPort}`
}

/** Loaded where it is asked for alone. */
async function startTracing(parts: Parts, stack: Stack): Promise<Tracing | undefined> {
  if (parts.config.tracing === undefined) return undefined
  const { createTracing } = await import('./tracing.ts')
  const tracing = createTracing(parts.config.tracing, parts)
  stack.push(() => tracing.stop())
  return tracing
}

interface DispatcherParts {
  readonly runs: RunMemory
  readonly crowding: Crowding
  readonly tracing: Tracing | undefined
  readonly workers: Pick<StartedWorkers, 'begun' | 'processId'>
}

function startDispatcher(parts: Parts, { runs, crowding, tracing, workers }: DispatcherParts, stack: Stack): Dispatcher {
  const { config, client, pool, log } = parts
  const eager = watchEagerStarts({ client, namespace: config.temporalNamespace, log }, config.workerVersion)
  stack.push(() => eager.stop())
  const startFanOut = createStartFanOut({
    client,
    partitions: config.partitions,
    eager,
    onStart: (groupId) => runs.expectGroup(groupId),
    plan: createPlanFanOut(parts),
    begin: (groupId, planned) => workers.begun.begin(groupId, planned),
    processId: workers.processId,
  })
  const dispatcher = createDispatcher({
    pool,
    startFanOut: tracing?.fanningOut(startFanOut) ?? startFanOut,
    endpointsOf: createEndpointsOf(parts),
    refused: (groupId) => workers.begun.refused(groupId),
    groupMaxMessages: config.groupMaxMessages,
    weights: config.priorityWeights,
    pace: createStartPace(crowding, parts.inHand, config.groupLingerMs),
    prefetch: parts.prefetch,
    log,
  })
  stack.push(() => dispatcher.stop())
  return dispatcher
}

/** What was published to of late is in memory before the first request; a database that is slow keeps nobody waiting. */
async function warmCache({ configCache, log }: Parts): Promise<void> {
  const warming = configCache.warm().then(
    (applications) => log.info({ applications }, 'cache.warmed'),
    (error: unknown) => log.warn({ err: error }, 'cache.not-warmed'),
  )
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, LIMITS.cacheWarmMaxMs)
  })
  await Promise.race([warming, late])
  clearTimeout(timer)
}

/** What is to be done now and then, whoever asks for nothing. */
function startUpkeep(parts: Parts, stack: Stack): void {
  for (const upkeep of [startTaskSweep(parts), keepRetentionSchedule(parts), startRollups(parts)]) stack.push(() => upkeep.stop())
}
