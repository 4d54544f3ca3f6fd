import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { SEARCH_ATTRIBUTES } from '../../domain/names.ts'
import { CommandFailure } from '../failure.ts'
import { logSize, readLog, startChild, type Child } from './child.ts'
import { claimPort } from './ports.ts'
import { birthOf, commandOf, isRunning, stopProcess, type StopStep } from './process-table.ts'
import { prepareNamespace } from './namespace.ts'

const READY_TIMEOUT_MS = 60_000
const POLL_MS = 20

const STOP_WAIT_MS = 3000

// The server takes 1 to 2.5 s to end; SQLite in WAL mode loses nothing when it has to be killed.
const stopSteps = (waitMs: number): readonly StopStep[] => [
  { signal: 'SIGTERM', waitMs },
  { signal: 'SIGKILL', waitMs: 1000 },
]

/** JSON values. What limits a development server to a few hundred operations a second is set out of the way. */
const DYNAMIC_CONFIG: DynamicConfig = {
  // 100 message ids in one keyword list; the default of 2,048 bytes refuses the 61st. Coupled to LIMITS.groupMaxMessages.
  'frontend.searchAttributesSizeOfValueLimit': 8192,
  'matching.enableFairness': true,
  'frontend.rps': 100_000,
  'frontend.namespaceRPS': 100_000,
  'frontend.namespaceCount': 100_000,
  'frontend.namespaceRPS.visibility': 1000,
  'frontend.persistenceMaxQPS': 100_000,
  'history.rps': 100_000,
  'history.persistenceMaxQPS': 100_000,
  'matching.rps': 100_000,
  'matching.persistenceMaxQPS': 100_000,
  'history.visibilityProcessorMaxPollRPS': 4,
  'history.visibilityProcessorSchedulerWorkerCount': 1,
  'history.visibilityTaskBatchSize': 1000,
  'system.visibilityPersistenceMaxReadQPS': 100_000,
  'system.visibilityPersistenceMaxWriteQPS': 100_000,
}

// With a write-ahead log, `synchronous=normal` survives the end of the process; only a power cut may take the last
// transactions, which Postgres has and the reconciler starts again.
const PRAGMAS = ['journal_mode=wal', 'synchronous=normal'] as const

type DynamicConfig = Readonly<Record<string, string | number | boolean>>

export interface TemporalOptions {
  /** The `temporal` program. */
  readonly program: string
  /** Exists and is writable. Holds the SQLite file, the pid file and the log. */
  readonly dataDir: string
  readonly namespace: string
  /** 0 takes any free port. */
  readonly port: number
  /** 0 takes any free port. */
  readonly uiPort: number
  /** Where it serves what it measures; absent: on a port of its own choice. */
  readonly metricsPort?: number
  /** Over the settings that every server of ours has. */
  readonly dynamicConfig?: DynamicConfig
}

/** A Temporal server of our own. */
export interface EmbeddedTemporal {
  /** host:port of its frontend. */
  readonly address: string
  readonly uiUrl: string
  readonly pid: number
  readonly logFile: string
  /** Resolves when the server has ended, asked or not, with how. */
  readonly ended: Promise<string>
  /** Asks it to end and kills it after `waitMs`, 3 s unless told. Never rejects. */
  stop(waitMs?: number): Promise<void>
}

/**
 * Starts a Temporal development server on its SQLite file and waits until the namespace answers. A server that a killed
 * run left behind is stopped first. The caller sees to it that no other run uses the same data directory.
 * @throws {CommandFailure} `temporal_failed` or `port_taken`
 */
export async function startTemporal(options: TemporalOptions): Promise<EmbeddedTemporal> {
  const database = join(options.dataDir, 'temporal.db')
  const pidFile = join(options.dataDir, 'temporal.pid')
  await stopLeftover(pidFile, database)
  const port = await claimPort(options.port, { name: 'Temporal', variable: 'TIDINGS_TEMPORAL_PORT' })
  const uiPort = await claimPort(options.uiPort, { name: "Temporal's Web UI", variable: 'TIDINGS_TEMPORAL_UI_PORT' })
  const logFile = join(options.dataDir, 'temporal.log')
  const from = logSize(logFile)
  const child = await startChild({
    command: options.program,
    args: serverArguments({ ...options, database, port, uiPort }),
    logFile,
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: options.dataDir },
    cwd: options.dataDir,
    stopSteps: stopSteps(STOP_WAIT_MS),
  })
  writeFileSync(pidFile, `${child.pid} ${birthOf(child.pid)}\n`)
  const address = `127.0.0.1:${port}`
  const stop = async (waitMs = STOP_WAIT_MS) => {
    await child.stop(stopSteps(waitMs))
    rmSync(pidFile, { force: true })
  }
  try {
    await waitForPort(child, port, logFile, from)
    await prepareNamespace(address, options.namespace, { setRetention: true })
  } catch (error) {
    await stop()
    throw error
  }
  return { address, uiUrl: `http://127.0.0.1:${uiPort}`, pid: child.pid, logFile, ended: child.ended, stop }
}

function serverArguments(options: TemporalOptions & { readonly database: string }): string[] {
  const { namespace, database, port, uiPort, metricsPort, dynamicConfig } = options
  const repeated = (flag: string, values: readonly string[]) => values.flatMap((value) => [flag, value])
  return [
    ...['server', 'start-dev', '--ip', '127.0.0.1', '--port', String(port), '--ui-port', String(uiPort), '--ui-disable-news-fetch'],
    ...(metricsPort === undefined ? [] : ['--metrics-port', String(metricsPort)]),
    ...['--db-filename', database, '--namespace', namespace, '--log-level', 'warn', '--log-format', 'json'],
    ...repeated('--sqlite-pragma', PRAGMAS),
    ...repeated(
      '--search-attribute',
      Object.values(SEARCH_ATTRIBUTES).map((name) => `${name}=KeywordList`),
    ),
    ...repeated(
      '--dynamic-config-value',
      Object.entries({ ...DYNAMIC_CONFIG, ...dynamicConfig }).map(([key, value]) => `${key}=${JSON.stringify(value)}`),
    ),
  ]
}

async function stopLeftover(pidFile: string, database: string): Promise<void> {
  let recorded: string
  try {
    recorded = readFileSync(pidFile, 'utf8').trim()
  } catch {
    return
  }
  const pid = Number(recorded.split(' ')[0])
  const isOurs = pid > 0 && isRunning(pid) && recorded === `${pid} ${birthOf(pid)}` && commandOf(pid).includes(database)
  if (isOurs) await stopProcess(pid, stopSteps(STOP_WAIT_MS))
  rmSync(pidFile, { force: true })
}

/** gRPC backs off for a second after a refused connection; knocking first is quicker. */
async function waitForPort(child: Child, port: number, logFile: string, from: number): Promise<void> {
  const deadline = performance.now() + READY_TIMEOUT_MS
  while (!(await answers(port))) {
    if (child.hasEnded() || performance.now() > deadline) {
      const how = child.hasEnded() ? await child.ended : `no answer on port ${port} in ${READY_TIMEOUT_MS / 1000} s`
      const reason = /(?:rror: |"error":")([^"\n]+)/.exec(readLog(logFile, from))?.[1] ?? how
      throw new CommandFailure('temporal_failed', `Temporal does not start (${reason.trim()}): see ${logFile}`)
    }
    await delay(POLL_MS)
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
