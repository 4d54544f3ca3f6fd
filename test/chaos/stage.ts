import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Connection } from '@temporalio/client'
import { createToken } from '../../api/token.ts'
import { freePort } from '../../cli/embedded/ports.ts'
import { startPostgres, type EmbeddedPostgres } from '../../cli/embedded/postgres.ts'
import { childrenOf } from '../../cli/embedded/process-table.ts'
import { findTemporal } from '../../cli/embedded/temporal-program.ts'
import { startTemporal, type EmbeddedTemporal } from '../../cli/embedded/temporal.ts'
import { createProgress } from '../../cli/progress.ts'
import { readConfig } from '../../config/index.ts'
import { newId } from '../../domain/ids.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { assertNoProcessNames, spawnScript, type RunningProcess } from '../support/processes.ts'
import { createScratch } from '../support/scratch.ts'
import { eventually } from './eventually.ts'

export type WorkerRole = 'dispatcher' | 'delivery' | 'all'

const SECRET = 'a secret of the chaos tests, 32 characters or more'
const NAMESPACE = 'tidings-chaos'

/**
 * Real processes, each of which can be killed and started again where it was: a Postgres and a Temporal of the test's own,
 * the API, and workers.
 */
export interface Stage {
  readonly apiUrl: string
  /** Of the organisation that the test speaks for. */
  readonly token: string
  /** The test's own connections. */
  readonly pool: Pool
  /** For more of them. */
  databaseUrl(): string
  startApi(): Promise<RunningProcess>
  /** Another API process, on a port of its own. */
  startSecondApi(): Promise<{ readonly url: string; readonly process: RunningProcess }>
  /** @param env over that of the stage */
  startWorker(role: WorkerRole, env?: Readonly<Record<string, string>>): Promise<RunningProcess>
  /** `npm start` without servers of its own: API, dispatcher and delivery in one process. */
  startAll(): Promise<RunningProcess>
  /** Runs a command of the product in the environment of the services. */
  command(script: string, args: readonly string[]): RunningProcess
  /** Ends a process that this stage has started, and waits for its end. */
  end(service: RunningProcess, signal: 'SIGKILL' | 'SIGTERM'): Promise<number | NodeJS.Signals>
  /** Kills all services, and keeps the servers for the next test. */
  endAll(): Promise<void>
  /** Services that have ended without being told to. */
  fallen(): number[]
  /** kill -9 of the server and of every process it has. */
  killPostgres(): Promise<void>
  /** On the same data directory and port. */
  startPostgres(): Promise<void>
  killTemporal(): Promise<void>
  startTemporal(): Promise<void>
  /** Deletes all that a Temporal which does not run has kept. */
  eraseTemporal(): void
  signalTemporal(signal: 'SIGSTOP' | 'SIGCONT'): void
  /** The Temporal server, for questions of the test. */
  readonly temporal: { readonly address: string; readonly namespace: string }
  /** Fan-outs that have not ended. */
  openFanOuts(): Promise<number>
  /** The last lines that the services wrote, for a failure's message. */
  logs(): string
  /** Kills what still runs and removes the scratch folder. */
  close(): Promise<void>
}

export interface StageOptions {
  /** Environment of the API and the workers, over the usual one. */
  readonly env?: Readonly<Record<string, string>>
  /** Settings of the Temporal server, over the usual ones. */
  readonly dynamicConfig?: Readonly<Record<string, number>>
}

export async function setStage(options: StageOptions = {}): Promise<Stage> {
  const scratch = createScratch('chaos')
  const ports = { api: await freePort(), postgres: await freePort(), temporal: await freePort(), ui: await freePort() }
  const dataDirs = { postgres: join(scratch.path, 'postgres'), temporal: join(scratch.path, 'temporal') }
  for (const path of Object.values(dataDirs)) mkdirSync(path)
  const program =
    process.env['TIDINGS_TEST_TEMPORAL_PROGRAM'] ??
    (await findTemporal({ cacheDir: readConfig().cacheDir, dataDir: scratch.path }, createProgress()))
  // A killed server leaves what it wrote with the kernel: only a power cut needs fsync.
  const runPostgres = () =>
    startPostgres({ dataDir: dataDirs.postgres, port: ports.postgres, settings: { fsync: 'off', shared_buffers: '64MB' } })
  const runTemporal = () =>
    startTemporal({
      ...{ program, dataDir: dataDirs.temporal, namespace: NAMESPACE, port: ports.temporal, uiPort: ports.ui },
      ...(options.dynamicConfig === undefined ? {} : { dynamicConfig: options.dynamicConfig }),
    })

  const servers: { postgres?: EmbeddedPostgres; temporal?: EmbeddedTemporal } = {}
  const services = createServices()
  const started = await Promise.allSettled([runPostgres(), runTemporal()])
  if (started[0].status === 'fulfilled') servers.postgres = started[0].value
  if (started[1].status === 'fulfilled') servers.temporal = started[1].value
  const stopServers = async () => {
    if (servers.temporal !== undefined) await kill(servers.temporal)
    await servers.postgres?.stop()
  }
  if (servers.postgres === undefined || servers.temporal === undefined) {
    await stopServers()
    scratch.remove()
    throw new AggregateError(started.map((one) => (one.status === 'rejected' ? one.reason : undefined)))
  }
  const pool = createPool(servers.postgres.url, 2)
  const spawn = (script: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
    spawnScript(script, args, { env: { ...serviceEnvironment(servers.postgres!.url, ports, scratch.path), ...options.env, ...env } })
  const run = async (script: string, args: readonly string[], ready: RegExp, env: Readonly<Record<string, string>> = {}) => {
    const service = spawn(script, args, env)
    services.add(service)
    await service.line(ready)
    return service
  }
  return {
    apiUrl: `http://127.0.0.1:${ports.api}`,
    token: await createToken({ secret: SECRET, subject: newId('org') }),
    pool,
    databaseUrl: () => servers.postgres!.url,
    startApi: () => run('cli/api.ts', [], /^tidings ready/),
    async startSecondApi() {
      const second = await run('cli/api.ts', [], /^tidings ready/, { TIDINGS_PORT: '0' })
      return { url: (await second.line(/^tidings ready (\S+)/))[1]!, process: second }
    },
    startWorker: (role, env) => run('cli/worker.ts', ['--role', role], /^tidings worker ready/, env),
    command: (script, args) => spawn(script, args),
    startAll: () => run('cli/start.ts', [], /^tidings ready/),
    ...services,
    async killPostgres() {
      const { pid, stop } = servers.postgres!
      const children = childrenOf(pid)
      for (const one of [pid, ...children]) signalIfThere(one, 'SIGKILL')
      await stop()
    },
    async startPostgres() {
      servers.postgres = await runPostgres()
    },
    killTemporal: () => kill(servers.temporal!),
    async startTemporal() {
      servers.temporal = await runTemporal()
    },
    eraseTemporal() {
      rmSync(dataDirs.temporal, { recursive: true })
      mkdirSync(dataDirs.temporal)
    },
    signalTemporal: (signal) => void process.kill(servers.temporal!.pid, signal),
    temporal: { address: `127.0.0.1:${ports.temporal}`, namespace: NAMESPACE },
    openFanOuts: () => countOpenFanOuts(`127.0.0.1:${ports.temporal}`),
    async close() {
      await services.endAll()
      await pool.end()
      await stopServers()
      await assertNoProcessNames(scratch.path)
      scratch.remove()
    },
  }
}

/** The processes of one stage. */
function createServices() {
  const running = new Set<RunningProcess>()
  const started: RunningProcess[] = []
  const fallen: number[] = []
  const end = async (service: RunningProcess, signal: 'SIGKILL' | 'SIGTERM') => {
    running.delete(service)
    service.signal(signal)
    return service.ended
  }
  return {
    add(service: RunningProcess) {
      running.add(service)
      started.push(service)
      void service.ended.then(() => running.delete(service) && fallen.push(service.pid))
    },
    end,
    endAll: async () => void (await Promise.all([...running].map((service) => end(service, 'SIGKILL')))),
    fallen: () => fallen,
    logs: () => started.map((one) => `--- process ${one.pid}\n${tail(one.stdout())}\n${tail(one.stderr())}`).join('\n'),
  }
}

function serviceEnvironment(databaseUrl: string, ports: { api: number; temporal: number }, folder: string): Record<string, string> {
  return {
    TIDINGS_ENV: 'production',
    TIDINGS_PORT: String(ports.api),
    TIDINGS_DATA_DIR: folder,
    TIDINGS_JWT_SECRET: SECRET,
    TIDINGS_ENCRYPTION_KEY: `${SECRET}, for encryption`,
    TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8',
    TIDINGS_GROUP_MAX: '100',
    TIDINGS_PARTITIONS: '2',
    TIDINGS_LOG_LEVEL: 'warn',
    TIDINGS_RETRY_SCHEDULE: '1,2,600',
    DATABASE_URL: databaseUrl,
    TEMPORAL_ADDRESS: `127.0.0.1:${ports.temporal}`,
    TEMPORAL_NAMESPACE: NAMESPACE,
  }
}

/** `stop` waits for the end, which `ended` alone does not: an embedded server does not keep this process alive. */
async function kill(server: EmbeddedTemporal): Promise<void> {
  signalIfThere(server.pid, 'SIGKILL')
  await server.stop()
}

function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended already.
  }
}

async function countOpenFanOuts(address: string): Promise<number> {
  const connection = await Connection.connect({ address })
  try {
    const query = `WorkflowType = 'fanOut' AND ExecutionStatus = 'Running'`
    const { count } = await connection.workflowService.countWorkflowExecutions({ namespace: NAMESPACE, query })
    return Number(count ?? 0)
  } finally {
    await connection.close()
  }
}

const TAIL_CHARS = 3000

function tail(text: string): string {
  return text.length > TAIL_CHARS ? `…${text.slice(-TAIL_CHARS)}` : text
}

/** Waits until no fan-out is open: from then on nothing is sent again. */
export async function untilFanOutsEnded(stage: Stage, withinMs: number): Promise<void> {
  let open = -1
  await eventually({ what: 'the end of all fan-outs', withinMs, told: () => `${open} are open` }, async () => {
    open = await stage.openFanOuts()
    return open === 0
  })
}
