import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CommandFailure } from '../failure.ts'
import { logSize, startChild } from './child.ts'
import { stopLeftover, writePidFile } from './pid-file.ts'
import { freePort, isFree } from './ports.ts'
import type { StopStep } from './process-table.ts'
import { migrateTemporalDatabases, postgresAccess, type TemporalDatabases } from './temporal-databases.ts'
import { waitForPort } from './temporal-port.ts'
import type { TemporalServerPrograms } from './temporal-server-program.ts'
import { LOCAL_SETTINGS, type DynamicConfig } from './temporal-settings.ts'

/** What operators give their servers too. */
const TEMPLATE = join(import.meta.dirname, '..', '..', 'deploy', 'regions', 'temporal', 'server.yaml.template')

// Fixed for the life of the databases; the clusters of a namespace's replication need equal numbers, or multiples.
const HISTORY_SHARDS = '4'
const MAX_CONNECTIONS = '20'
const STOP_WAIT_MS = 5000

const stopSteps = (waitMs: number): readonly StopStep[] => [
  { signal: 'SIGTERM', waitMs },
  { signal: 'SIGKILL', waitMs: 1000 },
]

/** Over the settings of a local server: a minute until the clusters hear of each other is long for somebody who waits. */
const CLUSTER_SETTINGS: DynamicConfig = { 'system.clusterMetadataRefreshInterval': '1s' }

export interface TemporalServerOptions {
  readonly programs: TemporalServerPrograms
  /** Exists and is writable. Holds the ports, the pid file, the dynamic configuration and the log. */
  readonly dataDir: string
  /** Name of the cluster, as its peers and namespaces know it: that of its region. */
  readonly cluster: string
  /** Of this cluster alone among its peers, 1 to 99, and the same as long as it lives (`initialFailoverVersion`). */
  readonly clusterVersion: number
  /** `postgres://` URL of a user that may create databases; which database it names does not matter. */
  readonly databaseUrl: string
  /** Of this cluster alone; unless told `temporal` and `temporal_visibility`. */
  readonly databases?: TemporalDatabases
  /** Of its frontend. 0: the one of its last start, at its first any free one. */
  readonly port?: number
  /** Where it serves what it measures; absent: nowhere. */
  readonly metricsPort?: number
  /** Over the settings that every server of ours has. */
  readonly dynamicConfig?: DynamicConfig
  /** Further variables of the template, for TLS. */
  readonly environment?: Readonly<Record<string, string>>
}

/** A full Temporal server: one cluster in one process. */
export interface TemporalServer {
  /** host:port of its frontend, the same after a restart. */
  readonly address: string
  readonly cluster: string
  readonly pid: number
  readonly logFile: string
  /** Resolves when the server has ended, asked or not, with how. */
  readonly ended: Promise<string>
  /** Asks it to end and kills it after `waitMs`, 5 s unless told. Never rejects. */
  stop(waitMs?: number): Promise<void>
}

/**
 * Starts a Temporal cluster on a Postgres, in databases of its own that are made or migrated first, and waits until its
 * frontend listens. It knows no other cluster but those that its database names; namespaces are made by the caller. A
 * server that a killed run left behind is stopped first. The caller sees to it that no other run uses the same data
 * directory.
 * @throws {CommandFailure} `temporal_failed` or `port_taken`
 */
export async function startTemporalServer(options: TemporalServerOptions): Promise<TemporalServer> {
  const { programs, dataDir, cluster } = options
  const pidFile = join(dataDir, 'temporal.pid')
  const dynamicConfigFile = join(dataDir, 'temporal-dynamic-config.json')
  await stopLeftover(pidFile, programs.server, stopSteps(STOP_WAIT_MS))
  const databases = options.databases ?? { persistence: 'temporal', visibility: 'temporal_visibility' }
  await migrateTemporalDatabases(programs.sqlTool, postgresAccess(options.databaseUrl), databases)
  const ports = await choosePorts(join(dataDir, 'temporal-ports.json'), options)
  const portVariables = Object.fromEntries(Object.entries(ports).map(([variable, port]) => [variable, String(port)]))
  writeFileSync(dynamicConfigFile, dynamicConfigOf({ ...LOCAL_SETTINGS, ...CLUSTER_SETTINGS, ...options.dynamicConfig }))
  const logFile = join(dataDir, 'temporal.log')
  const from = logSize(logFile)
  const child = await startChild({
    command: programs.server,
    args: ['--config-file', TEMPLATE, '--allow-no-auth', 'start'],
    logFile,
    env: { ...environmentOf(options, databases, dynamicConfigFile), ...portVariables },
    cwd: dataDir,
    stopSteps: stopSteps(STOP_WAIT_MS),
  })
  writePidFile(pidFile, child.pid)
  const stop = async (waitMs = STOP_WAIT_MS) => {
    await child.stop(stopSteps(waitMs))
    rmSync(pidFile, { force: true })
  }
  try {
    await waitForPort(child, ports.FRONTEND_GRPC_PORT, { logFile, from })
  } catch (error) {
    await stop()
    throw error
  }
  return { address: `127.0.0.1:${ports.FRONTEND_GRPC_PORT}`, cluster, pid: child.pid, logFile, ended: child.ended, stop }
}

/** Variables of the template, the ports apart. */
function environmentOf(options: TemporalServerOptions, databases: TemporalDatabases, dynamicConfigFile: string): Record<string, string> {
  const { cluster, clusterVersion, databaseUrl, dataDir, metricsPort } = options
  const access = postgresAccess(databaseUrl)
  return {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    HOME: dataDir,
    LOG_LEVEL: 'warn',
    TEMPORAL_CLUSTER: cluster,
    TEMPORAL_CLUSTER_VERSION: String(clusterVersion),
    NUM_HISTORY_SHARDS: HISTORY_SHARDS,
    POSTGRES_SEEDS: access.host,
    DB_PORT: access.port,
    POSTGRES_USER: access.user,
    POSTGRES_PWD: access.password,
    DBNAME: databases.persistence,
    VISIBILITY_DBNAME: databases.visibility,
    SQL_MAX_CONNS: MAX_CONNECTIONS,
    BIND_ON_IP: '127.0.0.1',
    TEMPORAL_BROADCAST_ADDRESS: '127.0.0.1',
    DYNAMIC_CONFIG_FILE_PATH: dynamicConfigFile,
    ...(metricsPort === undefined ? {} : { PROMETHEUS_ENDPOINT: `127.0.0.1:${metricsPort}` }),
    ...options.environment,
  }
}

/** JSON is YAML. */
function dynamicConfigOf(settings: DynamicConfig): string {
  return JSON.stringify(Object.fromEntries(Object.entries(settings).map(([key, value]) => [key, [{ value }]])))
}

/** As the template names them. */
const PORT_VARIABLES = [
  'FRONTEND_GRPC_PORT',
  'FRONTEND_MEMBERSHIP_PORT',
  'MATCHING_GRPC_PORT',
  'MATCHING_MEMBERSHIP_PORT',
  'HISTORY_GRPC_PORT',
  'HISTORY_MEMBERSHIP_PORT',
  'WORKER_GRPC_PORT',
  'WORKER_MEMBERSHIP_PORT',
] as const

type Ports = Readonly<Record<(typeof PORT_VARIABLES)[number], number>>

/**
 * The ports of the last start, where they are free: peers know the frontend's, and the server looks for its own parts where
 * its database says that they were.
 */
async function choosePorts(file: string, { cluster, port = 0 }: TemporalServerOptions): Promise<Ports> {
  const last = readPorts(file)
  const frontend = port === 0 ? last.FRONTEND_GRPC_PORT : port
  if (frontend !== undefined && !(await isFree(frontend))) {
    throw new CommandFailure(
      'port_taken',
      `port ${frontend}, where its peers look for Temporal's cluster ${cluster}, is taken by another program: stop that`,
    )
  }
  const wanted = { ...last, ...(frontend === undefined ? {} : { FRONTEND_GRPC_PORT: frontend }) }
  const chosen = new Map<string, number>()
  for (const variable of PORT_VARIABLES) {
    const kept = wanted[variable]
    let port = kept !== undefined && (await isFree(kept)) ? kept : await freePort()
    while ([...chosen.values()].includes(port)) port = await freePort()
    chosen.set(variable, port)
  }
  const ports = Object.fromEntries(chosen) as Ports
  writeFileSync(file, JSON.stringify(ports))
  return ports
}

function readPorts(file: string): Partial<Ports> {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Partial<Ports>
  } catch {
    return {}
  }
}
