import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Client } from '@temporalio/client'
import { DefaultLogger, type NativeConnection, Runtime, Worker, type WorkerOptions, type WorkflowBundle } from '@temporalio/worker'
import type { Logger } from 'pino'
import type { Activities } from '../activities/index.ts'
import type { WorkerVersion } from '../config/temporal.ts'
import { LIMITS } from '../domain/limits.ts'
import { attachTaskQueue, deliverTaskQueue, FAN_OUT_TASK_QUEUE, handOverTaskQueue, type Lane } from '../domain/names.ts'
import { leanWorkflowThreads } from './workflow-threads.ts'

export const FAILURE_CONVERTER_PATH = fileURLToPath(new URL('../workflows/failure-converter.ts', import.meta.url))
const BUNDLER_PATH = fileURLToPath(new URL('./workflow-bundler.ts', import.meta.url))
const BUNDLE_MAX_BYTES = 67_108_864

// Concurrency is sized explicitly. An endpoint's requests are bounded by the lanes' slots (activities/request-slots.ts).
const WORKFLOW_TASKS = 60
const LOCAL_ACTIVITIES = 400
const ATTACHED_ACTIVITIES = 1000
const FORCE_AFTER_DRAIN_MS = 2000

let installed = false

export interface RuntimeOptions {
  readonly log: Logger
  /** Keeps the SDK's aids for debugging workflows: stack traces of running ones, and a limit of 5 s on each activation. */
  readonly debugging?: boolean
  /** host:port where the SDK serves its own metrics for Prometheus; absent: nowhere. */
  readonly metricsAddress?: string | undefined
}

/** Installs the SDK's runtime once a process: signals are the process's own affair, log lines go where ours go. */
export function installRuntime({ log, debugging = false, metricsAddress }: RuntimeOptions): void {
  if (installed) return
  installed = true
  if (!debugging) leanWorkflowThreads()
  const logger = new DefaultLogger('WARN', ({ level, message, meta }) => {
    // The workers of the delivery task queues have none, on purpose.
    if (message.startsWith('No workflows registered')) return
    const { error: err, workflowId, runId, activityId, taskQueue } = meta ?? {}
    log[level === 'ERROR' ? 'error' : 'warn']({ err, workflowId, runId, activityId, taskQueue }, message)
  })
  Runtime.install({
    shutdownSignals: [],
    logger,
    telemetryOptions: {
      logging: { forward: {}, filter: { core: 'WARN', other: 'ERROR' } },
      ...(metricsAddress === undefined
        ? {}
        : {
            metrics: {
              prometheus: { bindAddress: metricsAddress, countersTotalSuffix: false, unitSuffix: true, useSecondsForDurations: true },
            },
          }),
    },
  })
}

/** A client on the connection that this process's workers have: an eager start needs both to be one. */
export function createClient(connection: NativeConnection, namespace: string): Client {
  return new Client({ connection, namespace, dataConverter: { failureConverterPath: FAILURE_CONVERTER_PATH } })
}

/**
 * Bundles the workflows for the sandboxes, in a process of its own. Takes some seconds of CPU.
 * @param versioned whether they are for workers that have a version
 * @throws with what the bundler said
 */
export async function bundleWorkflows({ versioned = false } = {}): Promise<WorkflowBundle> {
  const args = [...process.execArgv, BUNDLER_PATH, ...(versioned ? ['versioned'] : [])]
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: BUNDLE_MAX_BYTES })
  return { code: stdout }
}

export interface WorkerSet {
  /** Resolves when the workers have ended, rejects when one fails. */
  readonly ended: Promise<void>
  /** Stops polling, lets what runs finish. */
  shutdown(): void
}

export interface WorkerSetOptions {
  readonly connection: NativeConnection
  readonly namespace: string
  readonly activities: Activities
  readonly processId: string
  /** Undefined: the workers take what is given to no version. */
  readonly version: WorkerVersion | undefined
  /** Serves the fan-out queue: workflows and first attempts. */
  readonly bundle?: WorkflowBundle | undefined
  readonly lanes: readonly Lane[]
  readonly partitions: readonly number[]
  /** Activities at a time of one delivery task queue. */
  readonly laneSlots: Readonly<Record<Lane, number>>
  /** Names of the regions that deliveries may be handed to. */
  readonly otherRegions: readonly string[]
  /** How long activities may go on after a shutdown. */
  readonly drainMs: number
}

export async function createWorkers(options: WorkerSetOptions): Promise<WorkerSet> {
  const common = {
    connection: options.connection,
    namespace: options.namespace,
    activities: options.activities,
    dataConverter: { failureConverterPath: FAILURE_CONVERTER_PATH },
    shutdownGraceTime: options.drainMs,
    shutdownForceTime: options.drainMs + FORCE_AFTER_DRAIN_MS,
    identity: `${process.pid}@${options.processId}`,
  }
  const versioned = { ...common, ...versioning(options.version) }
  const creating: Promise<Worker>[] = []
  if (options.bundle !== undefined) {
    const fanOut = {
      ...versioned,
      taskQueue: FAN_OUT_TASK_QUEUE,
      workflowBundle: options.bundle,
      maxConcurrentWorkflowTaskExecutions: WORKFLOW_TASKS,
      maxConcurrentLocalActivityExecutions: LOCAL_ACTIVITIES,
      maxCachedWorkflows: 2000,
    }
    creating.push(Worker.create(fanOut))
    // Of no version: it is this one process's, and a version may have a hundred task queues in all its time.
    const attached = { ...common, taskQueue: attachTaskQueue(options.processId), maxConcurrentActivityTaskExecutions: ATTACHED_ACTIVITIES }
    creating.push(Worker.create(attached))
    for (const region of options.otherRegions) {
      creating.push(
        Worker.create({
          ...versioned,
          taskQueue: handOverTaskQueue(region),
          maxConcurrentActivityTaskExecutions: LIMITS.handOversPerRegion,
          maxConcurrentActivityTaskPolls: 1,
        }),
      )
    }
  }
  for (const lane of options.lanes) {
    for (const partition of options.partitions) {
      creating.push(
        Worker.create({
          ...versioned,
          taskQueue: deliverTaskQueue(lane, partition),
          maxConcurrentActivityTaskExecutions: options.laneSlots[lane],
          maxConcurrentActivityTaskPolls: 2,
        }),
      )
    }
  }
  const workers = await Promise.all(creating)
  return {
    ended: Promise.all(workers.map((worker) => worker.run())).then(() => undefined),
    shutdown() {
      for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown()
    },
  }
}

/** A workflow that says nothing itself goes on with the version that is current (workflows/versioned.ts). */
function versioning(version: WorkerVersion | undefined): Pick<WorkerOptions, 'workerDeploymentOptions'> {
  if (version === undefined) return {}
  return { workerDeploymentOptions: { version, useWorkerVersioning: true, defaultVersioningBehavior: 'AUTO_UPGRADE' } }
}
