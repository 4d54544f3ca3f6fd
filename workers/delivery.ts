import { randomBytes } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import type { WorkflowBundle } from '@temporalio/worker'
import { createAdmission } from '../activities/admission.ts'
import type { AttemptWatch } from '../activities/attempt.ts'
import type { BegunAttempts } from '../activities/begun-attempts.ts'
import { createHealthWatch } from '../activities/health-watch.ts'
import { createActivities } from '../activities/index.ts'
import type { Load } from '../activities/load.ts'
import { createPace } from '../activities/pace.ts'
import type { RunMemory } from '../activities/run-memory.ts'
import { LIMITS } from '../domain/limits.ts'
import { ATTEMPTS_GAP_MAX_MS, writeGapMs } from '../domain/linger.ts'
import type { Lane } from '../domain/names.ts'
import { otherRegions } from '../domain/regions.ts'
import { createHttpClient } from '../http/client.ts'
import { createEndpointClient } from '../http/endpoint-client.ts'
import { createEndpointHealth } from '../storage/endpoint-health.ts'
import { readHandOverDepth } from '../storage/handed-over.ts'
import { createRecorder } from '../storage/recorder.ts'
import { createTokenBuckets } from '../storage/token-buckets.ts'
import { startHealthSweep } from './health-sweep.ts'
import type { Metrics } from './metrics.ts'
import { createMailboxes } from './mailboxes.ts'
import { createOpenWorkflows } from './open-workflows.ts'
import type { Parts } from './parts.ts'
import type { Stack } from './stack.ts'
import { createWorkers } from './temporal.ts'

const RECORDS_WITHIN_MS = 2000
/** What endpoints that are asked for permission know a service by that has no public URL. */
const LOCAL_NAME = 'localhost'

export interface WorkersOptions {
  /** Set where this process serves the fan-out queue. */
  readonly bundle: WorkflowBundle | undefined
  readonly lanes: readonly Lane[]
  readonly partitions: readonly number[]
  readonly drainMs: number
  readonly runs: RunMemory
  readonly metrics: Metrics
  readonly load: Load
  readonly watch: AttemptWatch
}

export interface StartedWorkers {
  /** Rejects when a worker fails for good; otherwise never settles. */
  readonly failed: Promise<never>
  /** First attempts that begin before their fan-out does. */
  readonly begun: Pick<BegunAttempts, 'begin' | 'refused'>
  readonly processId: string
}

/** Starts the workers of this process, and what their activities need. */
export async function startWorkers(parts: Parts, options: WorkersOptions, stack: Stack): Promise<StartedWorkers> {
  const { config, pool, client, log, guard } = parts
  const mailboxes = createMailboxes({ client, pool, partitions: config.partitions, log, sweep: options.bundle !== undefined })
  const recorder = createRecorder({
    pool,
    gapMs: () => writeGapMs(parts.utilisation(), ATTEMPTS_GAP_MAX_MS),
    operational: parts.operational,
    onWake: (wake) => mailboxes.wake(wake),
  })
  stack.push(async () => {
    // Where Postgres is away, what is not recorded is in Temporal's hands, and is executed again.
    await Promise.race([recorder.drained(), pause(RECORDS_WITHIN_MS, undefined, { ref: false })])
    await mailboxes.stop()
  })
  const http = createHttpClient({ guard, requestTimeoutMs: config.requestTimeoutMs, egressProxy: config.egressProxy })
  stack.push(() => http.close())
  options.metrics.connections(http)
  const stopping = new AbortController()
  const processId = randomBytes(6).toString('hex')
  const { activities, begun } = createActivities({
    ...parts,
    recorder,
    wakeMailbox: (wake) => mailboxes.wake(wake),
    openWorkflows: createOpenWorkflows(client),
    ...startHealth(parts, options, stack),
    client: createEndpointClient(http, config.publicUrl === undefined ? LOCAL_NAME : new URL(config.publicUrl).hostname),
    runs: options.runs,
    policy: config.retry,
    retryTimeScale: config.retryTimeScale,
    requestTimeoutMs: config.requestTimeoutMs,
    partitions: config.partitions,
    regions: config.regions,
    onHandedOver: options.metrics.handedOver,
    priorityWeights: config.priorityWeights,
    laneRequests: config.laneRequests,
    laneSlots: config.laneSlots,
    svixHeaders: config.svixHeaders,
    retention: config.retention,
    warm: config.warm,
    load: options.load,
    watch: options.watch,
    onSlots: (usage) => options.metrics.slots(usage),
    stopping: stopping.signal,
    processId,
  })
  const { connection } = parts
  const workers = await createWorkers({
    ...options,
    laneSlots: config.laneSlots,
    otherRegions: options.bundle === undefined ? [] : await handOverRegions(parts),
    connection,
    namespace: config.temporalNamespace,
    activities,
    processId,
    version: config.workerVersion,
  })
  stack.push(async () => {
    workers.shutdown()
    // Requests still in flight then are given up as interrupted, so that the tasks that made them can be completed.
    const giveUp = setTimeout(() => stopping.abort(), options.drainMs)
    await workers.ended.catch((error: unknown) => log.error({ err: error }, 'worker.failed'))
    clearTimeout(giveUp)
    await Promise.race([begun.stop(), pause(RECORDS_WITHIN_MS, undefined, { ref: false })])
  })
  const failed = workers.ended.then(() => new Promise<never>(() => undefined))
  failed.catch(() => undefined)
  return { failed, begun, processId }
}

/** Regions that deliveries may wait for: the others, and those that have left the regions file since. */
async function handOverRegions({ config, pool }: Parts): Promise<string[]> {
  const named = config.regions === undefined ? [] : otherRegions(config.regions)
  const left = (await readHandOverDepth(pool, LIMITS.queueDepthMax)).map(({ region }) => region)
  return [...new Set([...named, ...left])]
}

/** What decides whether, and how fast, an endpoint is sent to. */
function startHealth(parts: Parts, options: WorkersOptions, stack: Stack) {
  const rules = parts.config.endpointHealth
  const shared = { ...parts, ...rules }
  const health = createEndpointHealth({ ...parts, health: rules.health, onWindows: createHealthWatch(shared) })
  stack.push(() => health.stop())
  if (options.bundle !== undefined) {
    const sweep = startHealthSweep(parts)
    stack.push(() => sweep.stop())
  }
  const admission = options.metrics.held(createAdmission({ ...shared, buckets: createTokenBuckets(parts.pool) }))
  return {
    health: options.load.counted(options.metrics.counted(health)),
    healthRules: rules.health,
    admission,
    pace: createPace({ ...shared, admission }),
  }
}
