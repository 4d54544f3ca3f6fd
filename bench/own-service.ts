import { spawn, type ChildProcess } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, chmodSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { createToken } from '../api/token.ts'
import { freePort } from '../cli/embedded/ports.ts'
import { startPostgres } from '../cli/embedded/postgres.ts'
import { CommandFailure } from '../cli/failure.ts'
import { DEFAULT_ORGANISATION } from '../domain/default-organisation.ts'
import { descendants, type ProcessGroup } from './process-groups.ts'

/** A running service and what the benchmark has to know about it. */
export interface Target {
  readonly url: string
  readonly token: string
  readonly groups: readonly ProcessGroup[]
  readonly databaseUrl: string | undefined
}

export interface OwnService extends Target {
  readonly databaseUrl: string
  /** Where its Prometheus metrics are. */
  readonly metricsUrl: string
  readonly temporalAddress: string
  readonly namespace: string
  /** What it encrypts at rest with. */
  readonly encryptionKey: string
  /** Rejects when the service ends by itself. */
  readonly died: Promise<never>
  /** Ends it and removes everything it kept, once, however often it is called. */
  stop(): Promise<void>
}

const READY_TIMEOUT_MS = 180_000
// The service takes 10 s at most; its guards stop the servers of one that was killed.
const STOP_TIMEOUT_MS = 20_000
const ROOT = join(import.meta.dirname, '..')

/**
 * Starts a service with everything it needs on free ports and an empty data directory, as `npm start` does.
 * @throws {CommandFailure} `service_failed` with what it said
 */
export async function startOwnService(): Promise<OwnService> {
  const dataDir = mkdtempSync(join(tmpdir(), 'tidings-bench-'))
  // Postgres runs as another user where we are root.
  chmodSync(dataDir, 0o755)
  const secret = randomBytes(32).toString('base64url')
  const [port, postgresPort, temporalPort, uiPort] = [await freePort(), await freePort(), await freePort(), await freePort()]
  const metricsPort = await freePort()
  await preparePostgres(dataDir)
  const url = `http://127.0.0.1:${port}`
  const child = spawn(
    process.execPath,
    ['--max-semi-space-size=32', '--disable-warning=ExperimentalWarning', join(ROOT, 'cli', 'start.ts')],
    {
      // The channel tells the service when we are gone, however that came.
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      cwd: ROOT,
      // Ctrl-C in the terminal is for us; we stop the service after the run has ended.
      detached: true,
      env: {
        ...process.env,
        MALLOC_ARENA_MAX: '2',
        DATABASE_URL: undefined,
        TEMPORAL_ADDRESS: undefined,
        TEMPORAL_NAMESPACE: undefined,
        TIDINGS_DATA_DIR: dataDir,
        TIDINGS_PORT: String(port),
        TIDINGS_METRICS_PORT: String(metricsPort),
        TIDINGS_POSTGRES_PORT: String(postgresPort),
        TIDINGS_TEMPORAL_PORT: String(temporalPort),
        TIDINGS_TEMPORAL_UI_PORT: String(uiPort),
        TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8',
        TIDINGS_JWT_SECRET: secret,
        TIDINGS_ENCRYPTION_KEY: secret,
      },
    },
  )
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message))
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
  })
  let stopping: Promise<void> | undefined
  const stop = () => (stopping ??= end(child, ended).then(() => removeData(dataDir)))
  try {
    await ready(child, ended)
    const password = readFileSync(join(dataDir, 'postgres.password'), 'utf8').trim()
    return {
      url,
      metricsUrl: `http://127.0.0.1:${metricsPort}/metrics`,
      temporalAddress: `127.0.0.1:${temporalPort}`,
      namespace: 'tidings-local',
      encryptionKey: secret,
      token: await createToken({ secret, subject: DEFAULT_ORGANISATION }),
      groups: groupsOf(child.pid!),
      databaseUrl: `postgres://tidings:${password}@127.0.0.1:${postgresPort}/tidings`,
      died: rejectWhenEnded(ended),
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Makes the cluster that the service will find, so that its Postgres counts statements. A statement costs it a few µs more. */
async function preparePostgres(dataDir: string): Promise<void> {
  const server = await startPostgres({ dataDir, port: 0 })
  try {
    const client = new pg.Client({ connectionString: server.url })
    await client.connect()
    await client.query("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
    await client.end()
  } finally {
    await server.stop()
  }
}

/** Node is the service's process without the servers that it started. */
function groupsOf(pid: number): ProcessGroup[] {
  return [
    { name: 'node', pids: [pid] },
    { name: 'temporal', pids: descendants(pid, /server start-dev/) },
    { name: 'postgres', pids: descendants(pid, /postgres -D/) },
  ]
}

/** The welcome ends with how to stop: by then the first start's own event has been delivered. */
async function ready(child: ChildProcess, ended: Promise<string>): Promise<void> {
  let told = ''
  const listening = new Promise<'ready'>((resolve) => {
    const listen = (chunk: string) => {
      told = `${told}${chunk}`.slice(-8000)
      if (told.includes('Ctrl-C stops everything')) resolve('ready')
    }
    child.stdout?.setEncoding('utf8').on('data', listen)
    child.stderr?.setEncoding('utf8').on('data', listen)
  })
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(`not ready in ${READY_TIMEOUT_MS / 1000} s`), READY_TIMEOUT_MS)
  })
  const how = await Promise.race([listening, ended, late])
  clearTimeout(timer)
  if (how === 'ready') return
  throw new CommandFailure('service_failed', `the service does not start (${how}): ${told.trim().split('\n').at(-1) ?? ''}`)
}

function rejectWhenEnded(ended: Promise<string>): Promise<never> {
  const died = ended.then((how) => Promise.reject(new CommandFailure('service_failed', `the service ended by itself (${how})`)))
  died.catch(() => undefined)
  return died
}

async function end(child: ChildProcess, ended: Promise<string>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
  await ended
  clearTimeout(timer)
}

/** Where we are root and Postgres's user cannot reach the directory, some of it is elsewhere, named after it. */
function removeData(dataDir: string): void {
  const suffix = createHash('sha256').update(realpathSync(dataDir)).digest('hex').slice(0, 16)
  for (const parent of ['/var/lib', '/var/tmp'].filter((path) => existsSync(path))) {
    for (const name of readdirSync(parent)) {
      if (name.startsWith('tidings-') && name.endsWith(suffix)) rmSync(join(parent, name), { recursive: true, force: true })
    }
  }
  rmSync(dataDir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
}
