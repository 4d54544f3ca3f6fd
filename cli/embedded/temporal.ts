import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { SEARCH_ATTRIBUTES } from '../../domain/names.ts'
import { logSize, startChild } from './child.ts'
import { claimPort } from './ports.ts'
import type { StopStep } from './process-table.ts'
import { prepareNamespace } from './namespace.ts'
import { stopLeftover, writePidFile } from './pid-file.ts'
import { waitForPort } from './temporal-port.ts'
import { LOCAL_SETTINGS, type DynamicConfig } from './temporal-settings.ts'

const STOP_WAIT_MS = 3000

// The server takes 1 to 2.5 s to end; SQLite in WAL mode loses nothing when it has to be killed.
const stopSteps = (waitMs: number): readonly StopStep[] => [
  { signal: 'SIGTERM', waitMs },
  { signal: 'SIGKILL', waitMs: 1000 },
]

// With a write-ahead log, `synchronous=normal` survives the end of the process; only a power cut may take the last
// transactions, which Postgres has and the reconciler starts again.
// A fan-out is some 150 pages of its log. With a checkpoint every 10,000 pages (40 MB of log) instead of every 1,000 the disk,
// which Postgres commits to as well, is waited for a tenth as often.
const PRAGMAS = ['journal_mode=wal', 'synchronous=normal', 'wal_autocheckpoint=10000'] as const

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
  await stopLeftover(pidFile, database, stopSteps(STOP_WAIT_MS))
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
  writePidFile(pidFile, child.pid)
  const address = `127.0.0.1:${port}`
  const stop = async (waitMs = STOP_WAIT_MS) => {
    await child.stop(stopSteps(waitMs))
    rmSync(pidFile, { force: true })
  }
  try {
    await waitForPort(child, port, { logFile, from })
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
      Object.entries({ ...LOCAL_SETTINGS, ...dynamicConfig }).map(([key, value]) => `${key}=${JSON.stringify(value)}`),
    ),
  ]
}
