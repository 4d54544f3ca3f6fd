import { createQueueHints, type QueueHints } from '../activities/queue-hints.ts'
import type { Client } from '@temporalio/client'
import { NativeConnection } from '@temporalio/worker'
import type { Logger } from 'pino'
import type { Config } from '../config/index.ts'
import { createInHand, type InHand } from '../domain/in-hand.ts'
import { createPrefetch, type Prefetch } from '../domain/prefetch.ts'
import { createAddressGuard, type AddressGuard } from '../http/address-guard.ts'
import { createRegionClient, type RegionClient } from '../http/region-client.ts'
import { createResolve } from '../http/resolve.ts'
import { createCipher, type Cipher } from '../storage/cipher.ts'
import { createConfigCache, type ConfigCache } from '../storage/config-cache.ts'
import type { ConfigCopy } from '../storage/config-copy.ts'
import type { Configuration } from '../storage/configuration.ts'
import { createEndpointStates, type EndpointStates } from '../storage/endpoint-states.ts'
import { createMessageCache, type MessageCache } from '../storage/messages.ts'
import { createOperationalEvents, type OperationalEvents } from '../storage/operational-events.ts'
import { createPool, observeStatements, type ObserveStatement, type Pool } from '../storage/pool.ts'
import { createRevocations, type Revocations } from '../storage/revocations.ts'
import { createSharedCache } from '../storage/shared-cache.ts'
import { createArchiver, type Archiver } from './archiver.ts'
import { connectConfiguration } from './shared-configuration.ts'
import type { Stack } from './stack.ts'
import { createClient } from './temporal.ts'
import { createUtilisation } from './utilisation.ts'

/** A configuration with all that a running service needs. */
export type ServiceConfig = Config & {
  readonly databaseUrl: string
  readonly temporalAddress: string
  readonly jwtSecret: string
  readonly encryptionKey: string
}

/** What every role of a process shares. */
export interface Parts {
  readonly config: ServiceConfig
  readonly pool: Pool
  readonly cipher: Cipher
  readonly configCache: ConfigCache
  readonly configuration: Configuration
  /** This region's copy of it; undefined where regions share none. */
  readonly copy: ConfigCopy | undefined
  /** Those of other shards that this process reads: a change has been made when they have it too. */
  readonly copies: Set<ConfigCopy>
  readonly states: EndpointStates
  readonly messages: MessageCache
  readonly hints: QueueHints
  readonly operational: OperationalEvents
  readonly inHand: InHand
  readonly prefetch: Prefetch
  readonly guard: AddressGuard
  /** Calls other regions; undefined where there are none. */
  readonly regionClient: RegionClient | undefined
  readonly revocations: Revocations
  /** Where message data goes that leaves the database; undefined where it is deleted. */
  readonly archiver: Archiver | undefined
  readonly connection: NativeConnection
  readonly client: Client
  /** Share of the last moments that this process's event loop was busy, 0 to 1. */
  readonly utilisation: () => number
  readonly log: Logger
}

/**
 * @param observe told of every statement
 * @throws where a part of the configuration is missing, or Temporal cannot be reached
 */
export async function connectParts(config: Config, log: Logger, stack: Stack, observe?: ObserveStatement): Promise<Parts> {
  const complete = requireComplete(config)
  const pool = createPool(complete.databaseUrl, config.databasePool)
  if (observe !== undefined) observeStatements(pool, observe)
  stack.push(() => pool.end())
  const states = await createEndpointStates({ pool, log })
  stack.push(() => states.stop())
  const cipher = createCipher(complete.encryptionKey, config.previousEncryptionKeys)
  const connection = await NativeConnection.connect({ address: complete.temporalAddress, ...config.temporalAccess })
  stack.push(() => connection.close())
  const shared = config.redisUrl === undefined ? undefined : createSharedCache(config.redisUrl, log)
  if (shared !== undefined) stack.push(() => shared.stop())
  return {
    config: complete,
    pool,
    cipher,
    ...connectConfiguration({ config, pool, log }, stack),
    states,
    configCache: createConfigCache({ pool, cipher, log, shared, maxBytes: config.cacheMaxBytes }),
    messages: createMessageCache(),
    hints: createQueueHints(),
    operational: createOperationalEvents(pool),
    inHand: createInHand(),
    prefetch: createPrefetch(),
    guard: createGuard(config),
    regionClient: startRegionClient(complete, stack),
    revocations: createRevocations(pool),
    archiver: await openArchive(complete, stack),
    connection,
    client: createClient(connection, config.temporalNamespace),
    utilisation: createUtilisation(),
    log,
  }
}

async function openArchive(config: ServiceConfig, stack: Stack): Promise<Archiver | undefined> {
  const { archive, databaseUrl, encryptionKey, previousEncryptionKeys, copyName: region, regions } = config
  if (archive === undefined) return undefined
  const owner = { region, zone: regions?.own.zone ?? null }
  const archiver = await createArchiver({ archive, databaseUrl, encryptionKey, previousEncryptionKeys, owner })
  stack.push(() => archiver.stop())
  return archiver
}

function startRegionClient({ regions, region, jwtSecret }: ServiceConfig, stack: Stack): RegionClient | undefined {
  if (regions === undefined) return undefined
  const client = createRegionClient({ secret: jwtSecret, own: region })
  stack.push(() => client.close())
  return client
}

function requireComplete(config: Config): ServiceConfig {
  const { databaseUrl, temporalAddress, jwtSecret, encryptionKey } = config
  if (databaseUrl === undefined || temporalAddress === undefined || jwtSecret === undefined || encryptionKey === undefined) {
    throw new Error('the service needs DATABASE_URL, TEMPORAL_ADDRESS, TIDINGS_JWT_SECRET and TIDINGS_ENCRYPTION_KEY')
  }
  return { ...config, databaseUrl, temporalAddress, jwtSecret, encryptionKey }
}

/** Where deliveries may go. */
export function createGuard(config: Config): AddressGuard {
  // The built-in inbox of a development service is on this machine, where nothing else may be reached.
  const inboxes =
    config.environment === 'development' ? ['127.0.0.1', 'localhost'].map((host) => `http://${host}:${config.port}/inbox/`) : []
  return createAddressGuard({ ...config, allowedOrigins: inboxes, resolve: createResolve(config.dnsServers) })
}
