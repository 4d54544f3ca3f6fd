import { z } from 'zod'
import { DEFAULT_JITTER, DEFAULT_SCHEDULE_MS, type RetryPolicy } from '../domain/backoff.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Retention } from '../domain/retention.ts'
import { LINGER_MS } from '../domain/linger.ts'
import type { Lane } from '../domain/names.ts'
import type { PriorityWeights } from '../domain/priority.ts'
import type { Regions } from '../domain/regions.ts'
import type { WarmRules } from '../domain/warm-tables.ts'
import { ARCHIVE_VARIABLES, archiveConfig, archiveProblems, type ArchiveConfig } from './archive.ts'
import { autoscaleConfig, autoscaleProblems, autoscaleVariables, type AutoscaleConfig } from './autoscale.ts'
import { healthConfig, healthVariables, type HealthConfig } from './health.ts'
import { firstRegionOf, readRegions, REGION_VARIABLES, sharingProblems, type RegionsFile } from './regions.ts'
import { ofShard, SHARD_VARIABLES, shardProblems, shardsConfig, type Shards } from './shards.ts'
import { shareVariables } from './shares.ts'
import {
  flag,
  integer,
  list,
  nameServers,
  origins,
  ports,
  postgresUrls,
  replicaUrls,
  secret,
  secrets,
  weaknessOf,
  webUrl,
} from './formats.ts'
import { WARM_VARIABLES, warmRules } from './warm-tables.ts'
import { TEMPORAL_VARIABLES, temporalAccess, temporalProblems, workerVersion, type TemporalAccess, type WorkerVersion } from './temporal.ts'

/** A setting is missing or wrong. The message lists every problem, one a line, each naming its variable. */
export class ConfigError extends Error {
  readonly code = 'config_invalid'
  override readonly name = 'ConfigError'
}

const schedule = z
  .string()
  .default(DEFAULT_SCHEDULE_MS.map((ms) => ms / 1000).join(','))
  .transform((text) => text.split(',').map((part) => Number(part) * 1000))
  .pipe(z.array(z.number().positive().max(LIMITS.retryDelayMaxMs)).min(1).max(LIMITS.retryScheduleMaxSteps))

const environment = z.object({
  TIDINGS_ENV: z.enum(['development', 'production']).default('development'),
  TIDINGS_HOST: z.string().default('127.0.0.1'),
  TIDINGS_PORT: integer(0, 65_535, 8071),
  TIDINGS_METRICS_PORT: integer(1, 65_535, 0).optional(),
  TIDINGS_TEMPORAL_METRICS_PORT: integer(1, 65_535, 0).optional(),
  TIDINGS_METRICS_ENDPOINTS: integer(0, LIMITS.metricsEndpointsMax, LIMITS.metricsEndpoints),
  TIDINGS_DATA_DIR: z.string().min(1).default('.tidings'),
  TIDINGS_CACHE_DIR: z.string().min(1).optional(),
  TIDINGS_REGION: z
    .string()
    .regex(/^[a-z0-9-]{1,32}$/, 'may have lower-case letters, digits and hyphens, 32 at most')
    .default('local'),
  TIDINGS_JWT_SECRET: secret.optional(),
  TIDINGS_JWT_SECRET_PREVIOUS: secrets,
  TIDINGS_ENCRYPTION_KEY: secret.optional(),
  TIDINGS_ENCRYPTION_KEYS_PREVIOUS: secrets,
  TIDINGS_PUBLIC_URL: webUrl({ credentials: false }).optional(),
  TIDINGS_CORS_ORIGINS: origins,
  TIDINGS_RATE_LIMIT: integer(0, 1_000_000, LIMITS.requestsPerTokenPerSecond),
  TIDINGS_ALLOW_SUBNETS: list,
  TIDINGS_ALLOW_PORTS: ports('80,443,8080,8443'),
  TIDINGS_DNS_SERVERS: nameServers,
  TIDINGS_EGRESS_PROXY: webUrl({ credentials: true }).optional(),
  TIDINGS_REQUIRE_HTTPS: flag,
  TIDINGS_SVIX_HEADERS: flag,
  TIDINGS_RETRY_SCHEDULE: schedule,
  TIDINGS_RETRY_TIME_SCALE: z.string().default('1').transform(Number).pipe(z.number().positive().max(10)),
  ...healthVariables,
  ...shareVariables,
  ...autoscaleVariables,
  ...REGION_VARIABLES,
  TIDINGS_RETENTION_DELIVERED_DAYS: integer(1, LIMITS.retentionMaxDays, 30),
  TIDINGS_RETENTION_FAILED_DAYS: integer(1, LIMITS.retentionMaxDays, 90),
  TIDINGS_RETENTION_AUDIT_DAYS: integer(0, LIMITS.retentionMaxDays, 365),
  ...WARM_VARIABLES,
  TIDINGS_REQUEST_TIMEOUT_MS: integer(100, LIMITS.requestTimeoutMaxMs, LIMITS.requestTimeoutMs),
  TIDINGS_PARTITIONS: integer(1, 256, 4),
  TIDINGS_GROUP_LINGER_MS: integer(0, LIMITS.groupLingerMaxMs, LINGER_MS),
  TIDINGS_GROUP_MAX: integer(1, LIMITS.groupMaxMessages, LIMITS.groupMaxMessages).optional(),
  TIDINGS_WORKFLOW_DEBUGGING: flag,
  TIDINGS_ATTEMPT_LOG: z.enum(['all', 'failures', 'none']).default('failures'),
  OTEL_EXPORTER_OTLP_ENDPOINT: webUrl({ credentials: false }).optional(),
  TIDINGS_TRACE_RATIO: z.string().default('1').transform(Number).pipe(z.number().min(0).max(1)),
  TIDINGS_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
  TIDINGS_TEMPORAL_UI_URL: z.url().optional(),
  TIDINGS_TEMPORAL_PORT: integer(0, 65_535, 7233),
  TIDINGS_TEMPORAL_UI_PORT: integer(0, 65_535, 8233),
  TIDINGS_TEMPORAL_SERVER: z.string().min(1).optional(),
  TIDINGS_POSTGRES_PORT: integer(0, 65_535, 5871),
  TIDINGS_DATABASE_POOL: integer(2, 200, 10),
  TIDINGS_CACHE_MB: integer(1, 10_000, 100),
  TIDINGS_KUBERNETES_DEPLOYMENT: z.string().min(1).optional(),
  TIDINGS_REDIS_URL: z
    .string()
    .regex(/^rediss?:\/\//, 'must be a redis:// or rediss:// URL')
    .refine(URL.canParse, 'is not a URL')
    .optional(),
  DATABASE_URL: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'must be a postgres:// URL')
    .optional(),
  CONFIG_DATABASE_URLS: postgresUrls,
  ...SHARD_VARIABLES,
  DATABASE_REPLICA_URLS: replicaUrls,
  TIDINGS_REPLICA_MAX_LAG_MS: integer(100, 600_000, 5000),
  TEMPORAL_ADDRESS: z
    .string()
    .regex(/^[^/\s]+:\d+$/, 'must be host:port')
    .optional(),
  TEMPORAL_NAMESPACE: z.string().min(2).optional(),
  ...TEMPORAL_VARIABLES,
  ...ARCHIVE_VARIABLES,
})

export type Variable = keyof typeof environment.shape

/** Every variable that the service reads, for the check of the compose file and the table in the documentation. */
export const VARIABLES = Object.keys(environment.shape) as readonly Variable[]

export interface Config {
  readonly environment: 'development' | 'production'
  readonly host: string
  readonly port: number
  /** Where Prometheus reads; undefined: nowhere. */
  readonly metricsPort: number | undefined
  /** Where it reads what Temporal's SDK measures; undefined: nowhere. */
  readonly temporalMetricsPort: number | undefined
  /** Endpoints that have labels of their own. */
  readonly metricsEndpoints: number
  /** Where embedded Postgres, Temporal and downloads live. */
  readonly dataDir: string
  /** Downloads that several clones share; undefined: a folder in the user's home, else the data directory. */
  readonly cacheDir: string | undefined
  readonly region: string
  /** All regions, where there is more than this one. */
  readonly regions: Regions | undefined
  /** Whether requests about what another zone keeps are passed on to it; else they are refused. */
  readonly regionForwarding: boolean
  /** Signs tokens. Absent only in development, where `npm start` generates one and keeps it in the data directory. */
  readonly jwtSecret: string | undefined
  /** Encrypts endpoint secrets and headers at rest. As `jwtSecret`. */
  readonly encryptionKey: string | undefined
  /** Tokens signed with these are still accepted. */
  readonly previousJwtSecrets: readonly string[]
  /** What these encrypted is still read. */
  readonly previousEncryptionKeys: readonly string[]
  /** Where users reach the API, without a slash at its end; undefined: as each caller does. */
  readonly publicUrl: string | undefined
  /** Origins whose pages may call the API; `*` is every one. */
  readonly corsOrigins: readonly string[]
  /** Requests a second of one token in one process; 0 is no limit. */
  readonly rateLimit: number
  readonly allowSubnets: readonly string[]
  readonly allowPorts: readonly number[]
  /** Empty: those of the system. */
  readonly dnsServers: readonly string[]
  readonly egressProxy: URL | undefined
  readonly requireHttps: boolean
  readonly svixHeaders: boolean
  /** How long attempts are kept. */
  readonly retention: Retention
  /** Where old tables are moved to; undefined: nowhere. */
  readonly warm: WarmRules | undefined
  /** The default policy, time scale applied. */
  readonly retry: RetryPolicy
  /** Multiplies every retry delay; 1 outside tests. */
  readonly retryTimeScale: number
  readonly endpointHealth: HealthConfig
  readonly autoscale: AutoscaleConfig
  readonly requestTimeoutMs: number
  readonly partitions: number
  readonly priorityWeights: PriorityWeights
  /** Activities at a time of one delivery task queue in one process. */
  readonly laneSlots: Readonly<Record<Lane, number>>
  /** Requests in flight at a time in one process. */
  readonly laneRequests: Readonly<Record<Lane, number>>
  /** Least time between two starts of fan-outs of one process while messages queue. */
  readonly groupLingerMs: number
  readonly groupMaxMessages: number
  /** Web UI's call stacks of running workflows and the SDK's limit on their code, for a third more CPU a fan-out. */
  readonly workflowDebugging: boolean
  readonly logLevel: string
  /** Which attempts have a line in the log. */
  readonly attemptLog: 'all' | 'failures' | 'none'
  /** Where spans go, and the share of publishes without a trace of their own that begin one; undefined: there are none. */
  readonly tracing: { readonly endpoint: string; readonly ratio: number } | undefined
  readonly temporalUiUrl: string | undefined
  readonly temporalPort: number
  readonly temporalUiPort: number
  /** The `temporal-server` of which several regions on one machine are made; undefined: that of the cache. */
  readonly temporalServer: string | undefined
  readonly postgresPort: number
  readonly databasePool: number
  /** Bytes of endpoints that a process keeps in memory. */
  readonly cacheMaxBytes: number
  /** The Deployment that the autoscaler scales at the target `kubernetes`. */
  readonly kubernetesDeployment: string | undefined
  /** The second level of the cache; undefined: none. */
  readonly redisUrl: string | undefined
  /** Of this process's shard, where there are several. */
  readonly databaseUrl: string | undefined
  /** Where message data is in several databases; undefined: it is in `databaseUrl`. */
  readonly shards: Shards | undefined
  /** The name of what this process serves among those that share configuration or an archive: the region, or its shard. */
  readonly copyName: string
  /** Members of the cluster that regions write configuration to; none: it is written to `databaseUrl`. */
  readonly configDatabaseUrls: readonly string[]
  /** Standbys of `databaseUrl` that history may be read from; none: it is read where it is written. */
  readonly databaseReplicaUrls: readonly string[]
  /** How old what a replica has may be. */
  readonly replicaMaxLagMs: number
  readonly temporalAddress: string | undefined
  readonly temporalNamespace: string
  /** Of the deployment that this process's workers belong to; the build is undefined where they have none. */
  readonly deploymentName: string
  readonly workerVersion: WorkerVersion | undefined
  readonly temporalAccess: TemporalAccess
  /** Where message data goes that leaves the database; undefined: nowhere. */
  readonly archive: ArchiveConfig | undefined
}

/**
 * Reads and checks the environment once.
 * @throws {ConfigError} naming every wrong variable
 */
export function readConfig(env: Readonly<Record<string, string | undefined>> = process.env): Config {
  const set = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''))
  const parsed = environment.safeParse(set)
  if (!parsed.success) {
    throw new ConfigError(parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('\n'))
  }
  const { TIDINGS_REGIONS_FILE: file, TIDINGS_REGION: own } = parsed.data
  const { regions, problems: wrongRegions } = file === undefined ? NO_REGIONS : readRegions(file, own)
  const problems = [...problemsOf(parsed.data), ...wrongRegions.map((problem) => `TIDINGS_REGIONS_FILE: ${problem}`)]
  if (regions !== undefined && parsed.data.CONFIG_DATABASE_URLS.length > 0) problems.push(...sharingProblems(regions))
  if (problems.length > 0) throw new ConfigError(problems.join('\n'))
  const config = configOf(parsed.data, regions)
  return Object.freeze(config.shards === undefined ? config : ofShard(config, config.shards.own))
}

/**
 * The same for a command that is about all regions and belongs to none: as the first of the regions file, whatever
 * TIDINGS_REGION says.
 * @throws {ConfigError}
 */
export function readConfigOfRegions(env: Readonly<Record<string, string | undefined>> = process.env): Config {
  const { TIDINGS_REGIONS_FILE: file = '' } = env
  return readConfig(file === '' ? env : { ...env, TIDINGS_REGION: firstRegionOf(file) })
}

const NO_REGIONS: RegionsFile = { regions: undefined, problems: [] }

type Values = z.output<typeof environment>

/** What speaks against variables together, each of which is right. */
function problemsOf(value: Values): string[] {
  return [
    ...temporalProblems(value),
    ...autoscaleProblems(value),
    ...archiveProblems(value),
    ...shardProblems(value),
    ...(value.TIDINGS_ENV === 'production' ? problemsInProduction(value) : []),
  ]
}

function retentionConfig(value: Values): Retention {
  return {
    deliveredDays: value.TIDINGS_RETENTION_DELIVERED_DAYS,
    failedDays: value.TIDINGS_RETENTION_FAILED_DAYS,
    auditDays: value.TIDINGS_RETENTION_AUDIT_DAYS,
  }
}

function configOf(value: Values, regions: Regions | undefined): Config {
  const scale = value.TIDINGS_RETRY_TIME_SCALE
  const ownServer = value.TEMPORAL_ADDRESS === undefined
  const region = value.TIDINGS_REGION
  const namespace = value.TEMPORAL_NAMESPACE ?? `tidings-${region}`
  return {
    environment: value.TIDINGS_ENV,
    host: value.TIDINGS_HOST,
    port: value.TIDINGS_PORT,
    metricsPort: value.TIDINGS_METRICS_PORT,
    temporalMetricsPort: value.TIDINGS_TEMPORAL_METRICS_PORT,
    metricsEndpoints: value.TIDINGS_METRICS_ENDPOINTS,
    dataDir: value.TIDINGS_DATA_DIR,
    cacheDir: value.TIDINGS_CACHE_DIR,
    region,
    regions,
    regionForwarding: value.TIDINGS_REGION_FORWARDING,
    jwtSecret: value.TIDINGS_JWT_SECRET,
    encryptionKey: value.TIDINGS_ENCRYPTION_KEY,
    previousJwtSecrets: value.TIDINGS_JWT_SECRET_PREVIOUS,
    previousEncryptionKeys: value.TIDINGS_ENCRYPTION_KEYS_PREVIOUS,
    publicUrl: value.TIDINGS_PUBLIC_URL?.href.replace(/\/+$/, ''),
    corsOrigins: value.TIDINGS_CORS_ORIGINS,
    rateLimit: value.TIDINGS_RATE_LIMIT,
    allowSubnets: value.TIDINGS_ALLOW_SUBNETS,
    allowPorts: value.TIDINGS_ALLOW_PORTS,
    dnsServers: value.TIDINGS_DNS_SERVERS,
    egressProxy: value.TIDINGS_EGRESS_PROXY,
    requireHttps: value.TIDINGS_REQUIRE_HTTPS,
    svixHeaders: value.TIDINGS_SVIX_HEADERS,
    retention: retentionConfig(value),
    warm: warmRules(value),
    retry: {
      scheduleMs: value.TIDINGS_RETRY_SCHEDULE.map((ms) => ms * scale),
      maxDelayMs: LIMITS.retryDelayMaxMs * scale,
      jitter: DEFAULT_JITTER,
    },
    retryTimeScale: scale,
    endpointHealth: healthConfig(value, scale),
    autoscale: autoscaleConfig(value),
    requestTimeoutMs: value.TIDINGS_REQUEST_TIMEOUT_MS,
    partitions: value.TIDINGS_PARTITIONS,
    priorityWeights: value.TIDINGS_PRIORITY_WEIGHTS,
    laneSlots: value.TIDINGS_LANE_SLOTS,
    laneRequests: value.TIDINGS_LANE_REQUESTS,
    groupLingerMs: value.TIDINGS_GROUP_LINGER_MS,
    groupMaxMessages: value.TIDINGS_GROUP_MAX ?? (ownServer ? LIMITS.groupMaxMessages : LIMITS.groupMaxMessagesForeignServer),
    workflowDebugging: value.TIDINGS_WORKFLOW_DEBUGGING,
    logLevel: value.TIDINGS_LOG_LEVEL,
    attemptLog: value.TIDINGS_ATTEMPT_LOG,
    tracing: tracingOf(value),
    temporalUiUrl: value.TIDINGS_TEMPORAL_UI_URL,
    temporalPort: value.TIDINGS_TEMPORAL_PORT,
    temporalUiPort: value.TIDINGS_TEMPORAL_UI_PORT,
    temporalServer: value.TIDINGS_TEMPORAL_SERVER,
    postgresPort: value.TIDINGS_POSTGRES_PORT,
    cacheMaxBytes: value.TIDINGS_CACHE_MB * 1_000_000,
    kubernetesDeployment: value.TIDINGS_KUBERNETES_DEPLOYMENT,
    redisUrl: value.TIDINGS_REDIS_URL,
    ...databasesOf(value, { region, namespace }),
    copyName: region,
    temporalAddress: value.TEMPORAL_ADDRESS,
    temporalNamespace: namespace,
    deploymentName: value.TIDINGS_DEPLOYMENT_NAME,
    workerVersion: workerVersion(value),
    temporalAccess: temporalAccess(value),
    archive: archiveConfig(value),
  }
}

function databasesOf(value: Values, names: { readonly region: string; readonly namespace: string }) {
  return {
    databaseUrl: value.DATABASE_URL,
    databasePool: value.TIDINGS_DATABASE_POOL,
    shards: shardsConfig(value, names),
    configDatabaseUrls: value.CONFIG_DATABASE_URLS,
    databaseReplicaUrls: value.DATABASE_REPLICA_URLS,
    replicaMaxLagMs: value.TIDINGS_REPLICA_MAX_LAG_MS,
  }
}

function tracingOf(value: Values): Config['tracing'] {
  const endpoint = value.OTEL_EXPORTER_OTLP_ENDPOINT?.href.replace(/\/+$/, '')
  return endpoint === undefined ? undefined : { endpoint, ratio: value.TIDINGS_TRACE_RATIO }
}

/** Secrets that anybody could guess protect nobody's endpoints: the service does not start on them. */
function problemsInProduction(value: Values): string[] {
  const problems: string[] = []
  for (const name of ['TIDINGS_JWT_SECRET', 'TIDINGS_ENCRYPTION_KEY'] as const) {
    if (value[name] === undefined) problems.push(`${name}: required when TIDINGS_ENV=production`)
  }
  const given = {
    TIDINGS_JWT_SECRET: [value.TIDINGS_JWT_SECRET ?? []].flat(),
    TIDINGS_JWT_SECRET_PREVIOUS: value.TIDINGS_JWT_SECRET_PREVIOUS,
    TIDINGS_ENCRYPTION_KEY: [value.TIDINGS_ENCRYPTION_KEY ?? []].flat(),
    TIDINGS_ENCRYPTION_KEYS_PREVIOUS: value.TIDINGS_ENCRYPTION_KEYS_PREVIOUS,
  }
  for (const [name, secretsGiven] of Object.entries(given)) {
    const weakness = secretsGiven.map(weaknessOf).find((one) => one !== undefined)
    if (weakness !== undefined) problems.push(`${name}: ${weakness}`)
  }
  if (value.TIDINGS_JWT_SECRET !== undefined && value.TIDINGS_JWT_SECRET === value.TIDINGS_ENCRYPTION_KEY) {
    problems.push('TIDINGS_ENCRYPTION_KEY: must not be TIDINGS_JWT_SECRET, so that one can leak without the other')
  }
  return problems
}
