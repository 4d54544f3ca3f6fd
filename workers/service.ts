import { randomBytes } from 'node:crypto'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { NativeConnection } from '@temporalio/worker'
import type { Logger } from 'pino'
import { createActivities } from '../activities/index.ts'
import { createRunMemory } from '../activities/run-memory.ts'
import type { ReadinessChecks } from '../api/dependencies.ts'
import { createIntake } from '../api/intake.ts'
import { createApi } from '../api/server.ts'
import type { Config } from '../config/index.ts'
import type { Lane } from '../domain/names.ts'
import { createAddressGuard } from '../http/address-guard.ts'
import { createHttpClient } from '../http/client.ts'
import { createCipher } from '../storage/cipher.ts'
import { createConfigCache } from '../storage/config-cache.ts'
import { CONFIG_CHANNEL } from '../storage/config-changes.ts'
import { listen } from '../storage/listener.ts'
import { createMessageCache } from '../storage/messages.ts'
import { OUTBOX_CHANNEL } from '../storage/outbox.ts'
import { createPool } from '../storage/pool.ts'
import { createRecorder, type MailboxWake } from '../storage/recorder.ts'
import { createDispatcher, GROUP_LEASE_MS, type Dispatcher } from './dispatcher.ts'
import { createMailboxes } from './mailboxes.ts'
import { createFindFanOut, createReplays } from './replays.ts'
import { createStartFanOut } from './start-fan-out.ts'
import { bundleWorkflows, createClient, createWorkers, installRuntime } from './temporal.ts'

export type Role = 'api' | 'dispatcher' | 'delivery'

export interface ServiceOptions {
  readonly roles: readonly Role[]
  readonly lanes: readonly Lane[]
  readonly partitions: readonly number[]
  readonly log: Logger
  /** How long requests in flight may go on when the service stops; then they are given up as interrupted. */
  readonly drainMs: number
}

export interface Service {
  /** Of the API; undefined without that role. */
  readonly url: string | undefined
  /** Rejects when a worker fails for good. */
  readonly failed: Promise<never>
  /** Stops intake, dispatcher and workers, in that order. */
  stop(): Promise<void>
}

/**
 * Starts the roles of one process against a migrated database and a prepared namespace.
 * @throws where Postgres or Temporal cannot be reached, or the port is taken; nothing is left running then
 */
export async function startService(config: Config, options: ServiceOptions): Promise<Service> {
  const { roles, log } = options
  const stack = createStack(log)
  try {
    return await assemble(config, options, stack)
  } catch (error) {
    await stack.unwind()
    throw error
  } finally {
    log.debug({ roles }, 'service.assembled')
  }
}

async function assemble(config: Config, options: ServiceOptions, stack: Stack): Promise<Service> {
  const { databaseUrl, temporalAddress, jwtSecret, encryptionKey } = config
  if (databaseUrl === undefined || temporalAddress === undefined || jwtSecret === undefined || encryptionKey === undefined) {
    throw new Error('the service needs DATABASE_URL, TEMPORAL_ADDRESS, TIDINGS_JWT_SECRET and TIDINGS_ENCRYPTION_KEY')
  }
  const { log, roles } = options
  const dispatches = roles.includes('dispatcher')
  installRuntime(log)
  const bundling = dispatches ? bundleWorkflows() : undefined
  const pool = createPool(databaseUrl, config.databasePool)
  stack.push(() => pool.end())
  const cipher = createCipher(encryptionKey)
  const configCache = createConfigCache({ pool, cipher })
  const messages = createMessageCache()
  const connection = await NativeConnection.connect({ address: temporalAddress })
  stack.push(() => connection.close())
  const client = createClient(connection, config.temporalNamespace)
  const mailboxes = createMailboxes({ client, pool, partitions: config.partitions, log, sweep: dispatches })
  const recorder = createRecorder({ pool, onWake: (wake: MailboxWake) => mailboxes.wake(wake) })
  stack.push(async () => {
    await recorder.drained()
    await mailboxes.stop()
  })
  const http = createHttpClient({ guard: createGuard(config), requestTimeoutMs: config.requestTimeoutMs })
  stack.push(() => http.close())
  const processId = randomBytes(6).toString('hex')
  const runs = createRunMemory()
  const stopping = new AbortController()

  let failed: Promise<never> = new Promise(() => undefined)
  if (dispatches || roles.includes('delivery')) {
    const activities = createActivities({
      pool,
      messages,
      configCache,
      recorder,
      client: http,
      runs,
      policy: config.retry,
      retryTimeScale: config.retryTimeScale,
      requestTimeoutMs: config.requestTimeoutMs,
      svixHeaders: config.svixHeaders,
      log,
      stopping: stopping.signal,
      processId,
    })
    const workers = await createWorkers({
      connection,
      namespace: config.temporalNamespace,
      activities,
      processId,
      bundle: await bundling,
      lanes: roles.includes('delivery') ? options.lanes : [],
      partitions: options.partitions,
      drainMs: options.drainMs,
    })
    failed = workers.ended.then(() => new Promise<never>(() => undefined))
    failed.catch(() => undefined)
    stack.push(async () => {
      workers.shutdown()
      const timer = setTimeout(() => stopping.abort(), options.drainMs)
      await workers.ended.catch((error: unknown) => log.error({ err: error }, 'worker.failed')).finally(() => clearTimeout(timer))
    })
  }
  const startFanOut = createStartFanOut({ client, partitions: config.partitions, eager: dispatches, onStart: (id) => runs.expectGroup(id) })
  const dispatcher = dispatches ? createDispatcher({ pool, startFanOut, groupMaxMessages: config.groupMaxMessages, log }) : undefined
  if (dispatcher !== undefined) stack.push(() => dispatcher.stop())
  const listener = listen(databaseUrl, channels(configCache, dispatcher), () => {
    configCache.forgetAll()
    dispatcher?.wake()
  })
  stack.push(() => listener.stop())
  const url = roles.includes('api')
    ? await startApi({ ...config, jwtSecret }, { pool, cipher, configCache, messages, client, dispatcher, connection, log }, stack)
    : undefined
  return { url, failed, stop: () => stack.unwind() }
}

function channels(configCache: ReturnType<typeof createConfigCache>, dispatcher: Dispatcher | undefined) {
  const config = { [CONFIG_CHANNEL]: (appId: string) => configCache.forget(appId) }
  return dispatcher === undefined ? config : { ...config, [OUTBOX_CHANNEL]: () => dispatcher.wake() }
}

function createGuard(config: Config) {
  // The built-in inbox of a development service is on this machine, where nothing else may be reached.
  const inboxes = config.environment === 'development' ? ['127.0.0.1', 'localhost'].map((host) => `http://${host}:${config.port}/inbox/`) : []
  return createAddressGuard({ allowSubnets: config.allowSubnets, requireHttps: config.requireHttps, allowedOrigins: inboxes })
}

interface ApiParts {
  readonly pool: ReturnType<typeof createPool>
  readonly cipher: ReturnType<typeof createCipher>
  readonly configCache: ReturnType<typeof createConfigCache>
  readonly messages: ReturnType<typeof createMessageCache>
  readonly client: ReturnType<typeof createClient>
  readonly dispatcher: Dispatcher | undefined
  readonly connection: NativeConnection
  readonly log: Logger
}

async function startApi(config: Config & { readonly jwtSecret: string }, parts: ApiParts, stack: Stack): Promise<string> {
  const { pool, cipher, configCache, messages, client, dispatcher, log } = parts
  const intake = createIntake({ pool, messages, dispatcher, groupLeaseMs: GROUP_LEASE_MS })
  const api = createApi({
    config,
    pool,
    cipher,
    configCache,
    intake,
    replays: createReplays(client),
    findFanOut: createFindFanOut(client),
    readiness: readinessOf(parts, config.temporalNamespace),
    log,
  })
  const server = await new Promise<Server>((resolve, reject) => {
    const listening = api.listen(config.port, config.host, (error?: Error) => (error === undefined ? resolve(listening) : reject(error)))
  })
  stack.push(async () => {
    await new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeIdleConnections()
      setTimeout(() => server.closeAllConnections(), API_DRAIN_MS).unref()
    })
    await intake.drained()
  })
  const { port } = server.address() as AddressInfo
  return `http://${config.host === '0.0.0.0' ? '127.0.0.1' : config.host}:${port}`
}

const API_DRAIN_MS = 2000
const PROBE_TIMEOUT_MS = 2000

function readinessOf(parts: ApiParts, namespace: string): ReadinessChecks {
  const { pool, connection } = parts
  const probe = async (work: () => Promise<unknown>): Promise<string> => {
    try {
      await work()
      return ''
    } catch (error) {
      return error instanceof Error ? error.message.split('\n')[0]! : 'no answer'
    }
  }
  return {
    postgres: () => probe(() => pool.query('SELECT 1')),
    temporal: () =>
      probe(() => connection.withDeadline(Date.now() + PROBE_TIMEOUT_MS, () => connection.workflowService.describeNamespace({ namespace }))),
  }
}

interface Stack {
  push(stop: () => Promise<void>): void
  /** Stops in the reverse order of the starts; a stop that fails does not keep the others from running. */
  unwind(): Promise<void>
}

function createStack(log: Logger): Stack {
  const stops: (() => Promise<void>)[] = []
  return {
    push: (stop) => void stops.push(stop),
    async unwind() {
      for (const stop of stops.splice(0).reverse()) await stop().catch((error: unknown) => log.error({ err: error }, 'stop.failed'))
    },
  }
}
