import type { Config } from '../config/index.ts'
import { setUpSharedConfiguration, type OnCompleted } from '../storage/config-set-up.ts'
import { migrate } from '../storage/migrate.ts'
import { createPool } from '../storage/pool.ts'
import { claimShard } from '../storage/shard.ts'
import { prepareNamespace } from './embedded/namespace.ts'
import { startPostgres } from './embedded/postgres.ts'
import { findTemporal } from './embedded/temporal-program.ts'
import { startTemporal } from './embedded/temporal.ts'
import { ATTRIBUTES_IN_MEMORY } from './embedded/temporal-settings.ts'
import { CommandFailure, reasonOf } from './failure.ts'
import type { Progress } from './progress.ts'

/** What the service runs on: servers of our own, or those that the environment names. */
export interface Stack {
  readonly databaseUrl: string
  readonly temporalAddress: string
  /** Undefined with a Temporal server that is not ours. */
  readonly temporalUiUrl: string | undefined
  /** Resolves when a server of ours ends without having been asked to. */
  readonly died: Promise<CommandFailure>
  /** Stops ours: Temporal, which gets `temporalWaitMs` before it is killed, then Postgres. */
  stop(temporalWaitMs?: number): Promise<void>
}

interface Server {
  readonly address: string
  readonly uiUrl?: string | undefined
  readonly died?: Promise<CommandFailure>
  stop(waitMs?: number): Promise<void>
}

/**
 * Starts Postgres and Temporal side by side and migrates the database. What is up when one of them fails is stopped.
 * @throws {CommandFailure} and what `migrate` throws
 */
export async function startStack(config: Config, dataDir: string, progress: Progress, signal: AbortSignal): Promise<Stack> {
  const [postgres, temporal] = await Promise.allSettled([
    usePostgres(config, dataDir, progress),
    useTemporal(config, dataDir, progress, signal),
  ])
  const stop = async (temporalWaitMs?: number) => {
    if (temporal.status === 'fulfilled') await temporal.value.stop(temporalWaitMs)
    if (postgres.status === 'fulfilled') await postgres.value.stop()
  }
  try {
    if (postgres.status === 'rejected') throw postgres.reason
    if (temporal.status === 'rejected') throw temporal.reason
    signal.throwIfAborted()
    await migrateDatabase(postgres.value.address)
    await prepareShard(config, postgres.value.address)
    await prepareConfiguration(config, postgres.value.address, (outcome) => progress.say(describeCompleted(outcome)))
  } catch (error) {
    await stop()
    throw error
  }
  return {
    databaseUrl: postgres.value.address,
    temporalAddress: temporal.value.address,
    temporalUiUrl: temporal.value.uiUrl ?? config.temporalUiUrl,
    died: Promise.race([postgres.value.died ?? never(), temporal.value.died ?? never()]),
    stop,
  }
}

const never = () => new Promise<CommandFailure>(() => undefined)

/** @throws what `migrate` throws, or {CommandFailure} where the database does not answer */
export async function migrateDatabase(url: string): Promise<void> {
  const pool = createPool(url, 1)
  try {
    await migrate(pool)
  } catch (cause) {
    throw postgresAway(url, cause)
  } finally {
    await pool.end()
  }
}

/** What is told of a database that cannot be reached, or not be written to; anything else is thrown as it came. */
export function postgresAway(url: string, cause: unknown): unknown {
  const { code } = cause as { code?: unknown }
  const { host } = new URL(url)
  const failure = (text: string) => new CommandFailure('postgres_failed', text, { cause })
  if (code === '25006')
    return failure(`Postgres at ${host} is read-only: it was fenced for a failover, and another one has taken its place`)
  if (code !== 'ECONNREFUSED' && code !== 'ENOTFOUND' && code !== 'ETIMEDOUT') return cause
  return failure(`Postgres does not answer at ${host}: start it, or set DATABASE_URL to where it is`)
}

/**
 * Where regions share configuration: makes the migrated database a copy of it.
 * @throws what `setUpSharedConfiguration` throws, or {CommandFailure} where it is refused
 */
export async function prepareConfiguration(
  { configDatabaseUrls: urls, copyName: region, regions }: Config,
  databaseUrl: string,
  onCompleted: OnCompleted,
): Promise<void> {
  if (urls.length === 0) return
  const pool = createPool(databaseUrl, 2)
  try {
    await setUpSharedConfiguration(pool, { urls, region, zone: regions?.own.zone ?? null }, onCompleted)
  } catch (cause) {
    throw new CommandFailure('postgres_failed', `configuration cannot be shared (CONFIG_DATABASE_URLS): ${reasonOf(cause)}`, { cause })
  } finally {
    await pool.end()
  }
}

/** @throws {CommandFailure} where the database is not the shard that this process is to serve */
export async function prepareShard({ shards }: Config, databaseUrl: string): Promise<void> {
  if (shards === undefined) return
  const pool = createPool(databaseUrl, 1)
  try {
    await claimShard(pool, shards.own, Date.now())
  } catch (cause) {
    throw new CommandFailure('postgres_failed', `DATABASE_SHARD_URLS: ${reasonOf(cause)}`, { cause })
  } finally {
    await pool.end()
  }
}

/** What is told of a copy whose database was promoted. */
function describeCompleted(outcome: Parameters<OnCompleted>[0]): string {
  const what = 'this database was promoted, and its copy of the shared configuration'
  if ('failure' in outcome) return `${what} may lack something; it is tried again meanwhile (${reasonOf(outcome.failure)})`
  const { put, removed } = outcome.completed
  const sum = (counts: Readonly<Record<string, number>>) => Object.values(counts).reduce((all, one) => all + one, 0)
  return `${what} is complete: ${sum(put)} rows put, ${sum(removed)} replaced or removed`
}

async function usePostgres(config: Config, dataDir: string, progress: Progress): Promise<Server> {
  if (config.databaseUrl !== undefined) return { address: config.databaseUrl, stop: () => Promise.resolve() }
  const server = await progress.step('starting Postgres', () => startPostgres({ dataDir, port: config.postgresPort }))
  progress.say(`Postgres is ready on port ${server.port}`)
  return { address: server.url, ...watch('Postgres', server) }
}

async function useTemporal(config: Config, dataDir: string, progress: Progress, signal: AbortSignal): Promise<Server> {
  if (config.temporalAddress !== undefined) {
    await prepareNamespace(config.temporalAddress, config.temporalNamespace, { access: config.temporalAccess })
    return { address: config.temporalAddress, stop: () => Promise.resolve() }
  }
  const program = await findTemporal({ cacheDir: config.cacheDir, dataDir, signal }, progress)
  signal.throwIfAborted()
  const { temporalPort: port, temporalUiPort: uiPort, temporalNamespace: namespace } = config
  const server = await progress.step('starting Temporal', () =>
    startTemporal({ program, dataDir, namespace, port, uiPort, dynamicConfig: ATTRIBUTES_IN_MEMORY }),
  )
  progress.say(`Temporal is ready on ${server.address}`)
  return { address: server.address, uiUrl: server.uiUrl, ...watch('Temporal', server) }
}

interface Watched {
  readonly ended: Promise<string>
  readonly logFile: string
  stop(waitMs?: number): Promise<void>
}

function watch(name: string, server: Watched): Required<Pick<Server, 'died' | 'stop'>> {
  let asked = false
  const died = server.ended.then((how) => {
    if (asked) return never()
    return new CommandFailure(
      'child_died',
      `${name} ended by itself (${how}), so everything was stopped: see ${server.logFile}, then start again; what was accepted is kept`,
    )
  })
  return {
    died,
    stop(waitMs) {
      asked = true
      return server.stop(waitMs)
    },
  }
}
