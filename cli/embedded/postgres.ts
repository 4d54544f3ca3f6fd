import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chownSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import pg from 'pg'
import { CommandFailure, reasonOf } from '../failure.ts'
import { logSize, readLog, startChild, type Child } from './child.ts'
import { claimPort } from './ports.ts'
import { findPostgresHome, type PostgresHome } from './postgres-home.ts'
import { commandOf, isRunning, stopProcess, type StopStep } from './process-table.ts'

const ROLE = 'tidings'
const DATABASE = 'tidings'
const READY_POLL_MS = 20
const READY_TIMEOUT_MS = 60_000
const SHARED_MEMORY_RETRIES = 40
const SHARED_MEMORY_RETRY_MS = 250

// Fast shutdown, then immediate: both keep every commit. Must fit, with Temporal's, into the 10 s that a stop may take.
const STOP_STEPS: readonly StopStep[] = [
  { signal: 'SIGINT', waitMs: 4000 },
  { signal: 'SIGQUIT', waitMs: 1500 },
  { signal: 'SIGKILL', waitMs: 1000 },
]

const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '200',
  shared_buffers: '256MB',
  synchronous_commit: 'on',
  fsync: 'on',
  wal_compression: 'on',
  max_wal_size: '2GB',
  checkpoint_timeout: '15min',
  log_line_prefix: '%m [%p] ',
  log_timezone: 'UTC',
  timezone: 'UTC',
}

export interface PostgresOptions {
  /** Exists and is writable. Holds the cluster, its password and its log. */
  readonly dataDir: string
  /** 0 takes any free port. */
  readonly port: number
  /** Server settings over the usual ones. */
  readonly settings?: Readonly<Record<string, string>>
}

/** A Postgres server of our own. */
export interface EmbeddedPostgres {
  /** Address with user and password. */
  readonly url: string
  readonly port: number
  readonly pid: number
  readonly logFile: string
  /** Resolves when the server has ended, asked or not, with how. */
  readonly ended: Promise<string>
  /** Ends it within 6.5 s. Never rejects; nothing that was committed is lost. */
  stop(): Promise<void>
}

/**
 * Starts the embedded Postgres and creates the cluster at the first start. A server that a killed run left behind is
 * stopped first; one that crashed recovers. The caller sees to it that no other run uses the same data directory.
 * @throws {CommandFailure} `postgres_failed` or `port_taken`
 */
export async function startPostgres(options: PostgresOptions): Promise<EmbeddedPostgres> {
  const home = findPostgresHome(options.dataDir)
  await stopLeftover(home.cluster)
  const port = await claimPort(options.port, { name: 'Postgres', variable: 'TIDINGS_POSTGRES_PORT' })
  const password = await createCluster(home, options.dataDir)
  const logFile = join(options.dataDir, 'postgres.log')
  const child = await launch(home, { ...SETTINGS, ...options.settings, port: String(port) }, logFile)
  const address = (database: string) => `postgres://${ROLE}:${password}@127.0.0.1:${port}/${database}`
  try {
    await createDatabase(address)
  } catch (cause) {
    await child.stop()
    throw new CommandFailure('postgres_failed', `Postgres refuses our connection (${reasonOf(cause)}): see ${logFile}`, { cause })
  }
  return { url: address(DATABASE), port, pid: child.pid, logFile, ended: child.ended, stop: () => child.stop() }
}

/** A run that was killed may leave its server, or a pid file whose number another program has now: Postgres would refuse to start. */
async function stopLeftover(cluster: string): Promise<void> {
  const file = join(cluster, 'postmaster.pid')
  const pid = Number(readPidFile(file)?.[0] ?? 0)
  if (pid <= 0) return
  if (isRunning(pid) && commandOf(pid).includes(cluster)) await stopProcess(pid, STOP_STEPS)
  else rmSync(file, { force: true })
}

function readPidFile(file: string): string[] | undefined {
  try {
    return readFileSync(file, 'utf8').split('\n')
  } catch {
    return undefined
  }
}

/** Makes the cluster where there is none; complete or not at all, since it is renamed into place. Returns its password. */
async function createCluster(home: PostgresHome, dataDir: string): Promise<string> {
  const passwordFile = join(dataDir, 'postgres.password')
  const exists = existsSync(join(home.cluster, 'PG_VERSION'))
  if (exists && !existsSync(passwordFile)) {
    throw new CommandFailure(
      'postgres_failed',
      `${passwordFile} is gone: restore it, or remove ${home.cluster} to begin with an empty database`,
    )
  }
  if (!existsSync(passwordFile)) writeFileSync(passwordFile, randomBytes(24).toString('hex'), { mode: 0o600 })
  const password = readFileSync(passwordFile, 'utf8').trim()
  if (exists) return password
  // The parent of the cluster is ours, not the other user's: what initdb fills has to be made for it.
  const partial = `${home.cluster}.new`
  const handOver = join(dirname(home.cluster), `.initdb-${process.pid}`)
  rmSync(partial, { recursive: true, force: true })
  try {
    mkdirSync(partial, { mode: 0o700 })
    writeFileSync(handOver, password, { mode: 0o600 })
    if (home.user !== undefined) for (const path of [partial, handOver]) chownSync(path, home.user.uid, home.user.gid)
    await initialise(home, partial, handOver)
    if (existsSync(home.cluster) && readdirSync(home.cluster).length === 0) rmdirSync(home.cluster)
    renameSync(partial, home.cluster)
  } catch (cause) {
    rmSync(partial, { recursive: true, force: true })
    throw new CommandFailure('postgres_failed', `cannot create the Postgres cluster in ${home.cluster}: ${reasonOf(cause)}`, { cause })
  } finally {
    rmSync(handOver, { force: true })
  }
  return password
}

async function initialise(home: PostgresHome, directory: string, passwordFile: string): Promise<void> {
  const args = [
    '-D',
    directory,
    '-U',
    ROLE,
    '-A',
    'scram-sha-256',
    `--pwfile=${passwordFile}`,
    '-E',
    'UTF8',
    '--locale=C',
    '--no-instructions',
  ]
  await promisify(execFile)(join(home.bin, 'initdb'), args, { cwd: '/', env: environment(), ...home.user })
}

const environment = () => ({ PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' })

async function launch(home: PostgresHome, settings: Readonly<Record<string, string>>, logFile: string): Promise<Child> {
  const args = ['-D', home.cluster, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])]
  for (let retry = 0; ; retry++) {
    const from = logSize(logFile)
    const child = await startChild({
      command: join(home.bin, 'postgres'),
      args,
      logFile,
      user: home.user,
      env: environment(),
      cwd: '/',
      stopSteps: STOP_STEPS,
    })
    if (await isReady(child, home.cluster)) return child
    await child.stop()
    const log = readLog(logFile, from)
    // The workers of a postmaster that was killed take a moment to notice.
    if (/shared memory block/.test(log) && retry < SHARED_MEMORY_RETRIES) {
      await delay(SHARED_MEMORY_RETRY_MS)
      continue
    }
    const reason = /(?:FATAL|PANIC|ERROR|error): .*/.exec(log)?.[0] ?? (await child.ended)
    throw new CommandFailure('postgres_failed', `Postgres does not start (${reason}): see ${logFile}`)
  }
}

/** What a server writes into its pid file when it answers: a standby, or any other. */
const READY = ['ready', 'standby']

/** Postgres writes its state into the pid file's eighth line. False: it ended, or was not ready in time. */
async function isReady(child: Child, cluster: string): Promise<boolean> {
  const deadline = performance.now() + READY_TIMEOUT_MS
  while (!child.hasEnded() && performance.now() < deadline) {
    const lines = readPidFile(join(cluster, 'postmaster.pid'))
    if (Number(lines?.[0]) === child.pid && READY.includes(lines?.[7]?.trim() ?? '')) return true
    await delay(READY_POLL_MS)
  }
  return false
}

async function createDatabase(address: (database: string) => string): Promise<void> {
  const client = new pg.Client({ connectionString: address('postgres') })
  await client.connect()
  try {
    const { rowCount } = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [DATABASE])
    if (rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE}`)
  } finally {
    await client.end()
  }
}
