import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createToken } from '../api/token.ts'
import { startPostgres } from '../cli/embedded/postgres.ts'
import { findTemporal } from '../cli/embedded/temporal-program.ts'
import { startTemporal } from '../cli/embedded/temporal.ts'
import { CommandFailure } from '../cli/failure.ts'
import type { Progress } from '../cli/progress.ts'
import { createCleanup } from '../cli/stopping.ts'
import { readConfig } from '../config/index.ts'
import { DEFAULT_ORGANISATION } from '../domain/default-organisation.ts'
import type { ProcessGroup } from './process-groups.ts'

/** One process of the service. */
export interface Member {
  readonly pid: number
  /** SIGTERM. @throws {CommandFailure} where it does not exit with 0 */
  stop(): Promise<void>
}

/** A service in parts: a Postgres and a Temporal of its own, one API process, and workers as they are wanted. */
export interface Fleet {
  readonly url: string
  readonly token: string
  readonly databaseUrl: string
  startWorker(role: 'dispatcher' | 'all', env?: Readonly<Record<string, string>>): Promise<Member>
  /** The workers' CPU is that of `pids`; that of the servers and of the API is apart. */
  groups(workers: readonly Member[]): readonly ProcessGroup[]
  /** Rejects when one of them ends by itself. */
  readonly died: Promise<never>
  stop(): Promise<void>
}

const ROOT = join(import.meta.dirname, '..')
const READY_TIMEOUT_MS = 120_000
const NAMESPACE = 'tidings-bench'

/** @param env of all its processes, over the defaults */
export async function startFleet(progress: Progress, env: Readonly<Record<string, string>> = {}): Promise<Fleet> {
  const cleanup = createCleanup((error) => progress.say(`while stopping: ${String(error)}`))
  const folder = mkdtempSync(join(tmpdir(), 'tidings-bench-'))
  // Postgres runs as another user where we are root.
  chmodSync(folder, 0o755)
  cleanup.add(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 }))
  const dirs = { postgres: join(folder, 'postgres'), temporal: join(folder, 'temporal') }
  for (const dir of Object.values(dirs)) mkdirSync(dir)
  try {
    const postgres = await startPostgres({ dataDir: dirs.postgres, port: 0, settings: { max_connections: '300' } })
    cleanup.add(() => postgres.stop())
    const program = await findTemporal({ cacheDir: readConfig().cacheDir, dataDir: folder }, progress)
    const temporal = await startTemporal({ program, dataDir: dirs.temporal, namespace: NAMESPACE, port: 0, uiPort: 0 })
    cleanup.add(() => temporal.stop())
    const secret = randomBytes(32).toString('base64url')
    const members = createMembers({
      TIDINGS_ENV: 'production',
      TIDINGS_PORT: '0',
      TIDINGS_DATA_DIR: folder,
      TIDINGS_JWT_SECRET: secret,
      TIDINGS_ENCRYPTION_KEY: `${secret}, for encryption`,
      TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8',
      TIDINGS_LOG_LEVEL: 'warn',
      TIDINGS_GROUP_MAX: '100',
      DATABASE_URL: postgres.url,
      TEMPORAL_ADDRESS: temporal.address,
      TEMPORAL_NAMESPACE: NAMESPACE,
      ...env,
    })
    cleanup.add(() => members.killAll())
    const api = await members.start('cli/api.ts', [])
    return {
      url: /^tidings ready (\S+)/m.exec(api.said)![1]!,
      token: await createToken({ secret, subject: DEFAULT_ORGANISATION }),
      databaseUrl: postgres.url,
      startWorker: (role, more) => members.start('cli/worker.ts', ['--role', role], more),
      groups: (workers) => [
        { name: 'workers', pids: workers.map(({ pid }) => pid) },
        { name: 'api', pids: [api.pid] },
        { name: 'temporal', pids: [temporal.pid] },
        { name: 'postgres', pids: [postgres.pid] },
      ],
      died: members.died,
      stop: () => cleanup.run(),
    }
  } catch (error) {
    await cleanup.run()
    throw error
  }
}

function createMembers(common: Readonly<Record<string, string>>) {
  const running = new Set<{ readonly ended: Promise<string>; readonly kill: () => void }>()
  let fail: (error: CommandFailure) => void = () => undefined
  const died = new Promise<never>((_, reject) => (fail = reject))
  died.catch(() => undefined)
  const start = async (script: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) => {
    const child = spawn(
      process.execPath,
      ['--max-semi-space-size=32', '--disable-warning=ExperimentalWarning', join(ROOT, script), ...args],
      {
        // The channel tells it when we are gone, however that came; Ctrl-C in the terminal is for us.
        ...{ stdio: ['ignore', 'pipe', 'pipe', 'ipc'], cwd: ROOT, detached: true },
        env: { ...process.env, MALLOC_ARENA_MAX: '2', ...common, ...env },
      },
    )
    let said = ''
    let stopping = false
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message))
      child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
    })
    const member = { ended, kill: () => void child.kill('SIGKILL') }
    running.add(member)
    void ended.then((how) => {
      running.delete(member)
      if (!stopping) fail(new CommandFailure('service_failed', `a process ended by itself (${how}): ${said.trim().slice(-500)}`))
    })
    const ready = new Promise<'ready'>((resolve) => {
      const listen = (chunk: string) => {
        said = `${said}${chunk}`.slice(-8000)
        if (/^tidings (worker )?ready/m.test(said)) resolve('ready')
      }
      child.stdout?.setEncoding('utf8').on('data', listen)
      child.stderr?.setEncoding('utf8').on('data', listen)
    })
    const late = new Promise<string>((resolve) => setTimeout(resolve, READY_TIMEOUT_MS, 'too late').unref())
    const how = await Promise.race([ready, ended, late])
    if (how !== 'ready') throw new CommandFailure('service_failed', `${script} does not start (${how}): ${said.trim().slice(-500)}`)
    return {
      said,
      pid: child.pid!,
      async stop() {
        stopping = true
        child.kill('SIGTERM')
        const end = await ended
        if (end !== 'exit code 0') throw new CommandFailure('service_failed', `${script} was stopped and ended with ${end}`)
      },
    }
  }
  return {
    start,
    died,
    async killAll() {
      fail = () => undefined
      for (const one of running) one.kill()
      await Promise.all([...running].map(({ ended }) => ended))
    },
  }
}
