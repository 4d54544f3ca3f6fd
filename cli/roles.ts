import type { WorkflowBundle } from '@temporalio/worker'
import type { Logger } from 'pino'
import type { Config } from '../config/index.ts'
import type { Lane } from '../domain/names.ts'
import type { OnCompleted } from '../storage/config-set-up.ts'
import type { Role } from '../workers/service.ts'
import { describe } from './command.ts'
import { readSecrets } from './data-dir.ts'
import { prepareNamespace } from './embedded/namespace.ts'
import { CommandFailure, reasonOf } from './failure.ts'
import { createLog } from './logger.ts'
import { waitWhileStandby } from './regions/waiting.ts'
import { migrateDatabase, prepareConfiguration, prepareShard } from './stack.ts'
import { atMost, stopRequested } from './stopping.ts'

/** What the service needs beyond its drain to record results and close its connections. */
export const STOP_EXTRA_MS = 5000
/** Publishing takes milliseconds; what takes longer than this when the API stops is cut off. */
export const API_DRAIN_MS = 5000

export interface RolesInput {
  readonly config: Config
  readonly roles: readonly Role[]
  readonly lanes: readonly Lane[]
  readonly partitions: readonly number[] | 'all'
  /** How long requests in flight may go on when it stops. */
  readonly drainMs: number
  /** The line on stdout that says that it works; gets the API's address. */
  readyLine(url: string | undefined): string
}

/**
 * Runs some of the service's roles until it is told to stop, against the Postgres and Temporal that the environment names.
 * @returns the exit code
 * @throws {CommandFailure} where one of those is not named or not there
 */
export async function runRoles(input: RolesInput): Promise<number> {
  const { config } = input
  const { databaseUrl, temporalAddress } = config
  if (databaseUrl === undefined || temporalAddress === undefined) {
    const missing = [databaseUrl === undefined ? 'DATABASE_URL' : '', temporalAddress === undefined ? 'TEMPORAL_ADDRESS' : '']
    const names = missing.filter((name) => name !== '').join(' and ')
    throw new CommandFailure('usage', `set ${names}: a role of its own uses servers that run already (npm start brings its own)`)
  }
  const secrets = readSecrets(config, config.dataDir, false)
  const stopping = stopRequested()
  const { roles, lanes, partitions, drainMs } = input
  let bundling: Promise<WorkflowBundle> | undefined
  const meanwhile = () => void (bundling = load(roles, config))
  if (await waitWhileStandby(databaseUrl, { stopping, meanwhile })) return 0
  const { log, flush } = createLog(config.logLevel)
  const [{ startService }] = await Promise.all([
    import('../workers/service.ts'),
    prepareDatabase(config, databaseUrl, log),
    prepareNamespace(temporalAddress, config.temporalNamespace, { access: config.temporalAccess }),
  ])
  const service = await startService({ ...config, ...secrets }, { roles, lanes, partitions, log, drainMs, bundling })
  process.stdout.write(`${input.readyLine(service.url)}\n`)
  const failure = await Promise.race([stopping.then(() => undefined), service.failed.catch((error: unknown) => error)])
  log.info({ roles, reason: failure === undefined ? 'asked' : describe(failure) }, 'service.stopping')
  await atMost(drainMs + STOP_EXTRA_MS, service.stop())
  flush()
  if (failure !== undefined) throw new CommandFailure('service_failed', `a worker failed: ${reasonOf(failure)}`, { cause: failure })
  return 0
}

async function prepareDatabase(config: Config, databaseUrl: string, log: Logger): Promise<void> {
  await migrateDatabase(databaseUrl)
  await prepareShard(config, databaseUrl)
  await prepareConfiguration(config, databaseUrl, (outcome) => logCompleted(log, outcome))
}

function logCompleted(log: Logger, outcome: Parameters<OnCompleted>[0]): void {
  if ('completed' in outcome) log.warn(outcome.completed, 'config-copy.completed')
  else log.warn({ err: outcome.failure }, 'config-copy.not-completed')
}

/** Loads the service, and makes what takes seconds. @returns the workflows, for roles that need them */
function load(roles: readonly Role[], { workerVersion }: Config): Promise<WorkflowBundle> | undefined {
  const service = import('../workers/service.ts')
  service.catch(() => undefined)
  if (!roles.includes('dispatcher')) return undefined
  const bundling = import('../workers/temporal.ts').then(({ bundleWorkflows }) =>
    bundleWorkflows({ versioned: workerVersion !== undefined }),
  )
  // Whoever uses it is told of its failure.
  bundling.catch(() => undefined)
  return bundling
}
