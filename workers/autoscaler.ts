import { NativeConnection, Worker } from '@temporalio/worker'
import type { Logger } from 'pino'
import { createAutoscaleActivities } from '../activities/autoscale.ts'
import type { Config } from '../config/index.ts'
import type { AutoscaleInput } from '../domain/autoscale.ts'
import { AUTOSCALE_TASK_QUEUE, autoscaleWorkflowId } from '../domain/names.ts'
import type { ScalingTarget } from '../domain/scaling.ts'
import { createPool } from '../storage/pool.ts'
import { createReadBacklog } from './backlog.ts'
import { createStack, type Stack } from './stack.ts'
import { bundleWorkflows, createClient, FAILURE_CONVERTER_PATH, installRuntime } from './temporal.ts'

export interface AutoscalerOptions {
  /** Where workers are started and stopped. It is the caller's to stop. */
  readonly target: ScalingTarget
  /** Name of the pool: the workflow is `autoscale/<pool>`. */
  readonly pool: string
  readonly min: number
  readonly max: number
  readonly log: Logger
}

export interface Autoscaler {
  readonly workflowId: string
  /** Rejects when its worker fails for good; otherwise never settles. */
  readonly failed: Promise<never>
  /** Stops this process's part. The workflow waits for the next one: nothing is scaled meanwhile. */
  stop(): Promise<void>
}

const CONNECTIONS = 3
const DRAIN_MS = 2000
const FORCE_AFTER_MS = 4000

/**
 * Starts what scales a pool of workers, against a migrated database and a prepared namespace: a worker on the task queue
 * `autoscale` that holds the target, and the workflow, unless it runs already: then it gets this process's settings.
 * @throws where Postgres or Temporal is not named, or Temporal cannot be reached; nothing is left running then
 */
export async function startAutoscaler(config: Config, options: AutoscalerOptions): Promise<Autoscaler> {
  const stack = createStack(options.log)
  try {
    return await assemble(config, options, stack)
  } catch (error) {
    await stack.unwind()
    throw error
  }
}

async function assemble(config: Config, options: AutoscalerOptions, stack: Stack): Promise<Autoscaler> {
  const { databaseUrl, temporalAddress, temporalNamespace: namespace } = config
  if (databaseUrl === undefined || temporalAddress === undefined) throw new Error('the autoscaler needs DATABASE_URL and TEMPORAL_ADDRESS')
  const { target, pool: poolName, min, max, log } = options
  installRuntime({ log, debugging: config.workflowDebugging })
  const bundling = bundleWorkflows()
  bundling.catch(() => undefined)
  const pool = createPool(databaseUrl, CONNECTIONS)
  stack.push(() => pool.end())
  const connection = await NativeConnection.connect({ address: temporalAddress, ...config.temporalAccess })
  stack.push(() => connection.close())
  const client = createClient(connection, namespace)
  const readBacklog = createReadBacklog(client, namespace, pool)
  const worker = await Worker.create({
    connection,
    namespace,
    taskQueue: AUTOSCALE_TASK_QUEUE,
    workflowBundle: await bundling,
    activities: createAutoscaleActivities({ pool, poolName, target, readBacklog, log }),
    dataConverter: { failureConverterPath: FAILURE_CONVERTER_PATH },
    maxCachedWorkflows: 10,
    shutdownGraceTime: DRAIN_MS,
    shutdownForceTime: FORCE_AFTER_MS,
  })
  const running = worker.run()
  stack.push(async () => {
    if (worker.getState() === 'RUNNING') worker.shutdown()
    await running.catch((error: unknown) => log.error({ err: error }, 'worker.failed'))
  })
  const workflowId = autoscaleWorkflowId(poolName)
  const settings = { target: target.name, rules: { ...config.autoscale.rules, min, max } }
  const input: AutoscaleInput = { pool: poolName, ...settings }
  await client.workflow.signalWithStart('autoscale', {
    workflowId,
    taskQueue: AUTOSCALE_TASK_QUEUE,
    args: [input],
    signal: 'configure',
    signalArgs: [settings],
    staticSummary: `scales the pool ${poolName} at the target ${target.name}`,
  })
  const failed = running.then(() => new Promise<never>(() => undefined))
  failed.catch(() => undefined)
  return { workflowId, failed, stop: () => stack.unwind() }
}
