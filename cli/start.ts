import { createToken } from '../api/token.ts'
import { readConfig, type Config } from '../config/index.ts'
import { DEFAULT_ORGANISATION } from '../domain/default-organisation.ts'
import { LANES } from '../domain/names.ts'
import { describe, runCommand } from './command.ts'
import { announceService, openDataDir, readSecrets, withdrawService } from './data-dir.ts'
import { claimPort, isFree } from './embedded/ports.ts'
import { CommandFailure, reasonOf } from './failure.ts'
import { moveFirstEndpoint, publishFirstEvent, readFirstRun } from './first-event.ts'
import { createFileLog } from './logger.ts'
import { createProgress, type Progress } from './progress.ts'
import { createRestClient } from './rest.ts'
import { startStack } from './stack.ts'
import { atMost, createCleanup, stopRequested, type Cleanup } from './stopping.ts'
import { welcome } from './welcome.ts'

const HELP = `npm start

Starts everything: Postgres, Temporal with its Web UI, the API, the dispatcher and the delivery workers. Data is kept in
TIDINGS_DATA_DIR (.tidings); TIDINGS_PORT (8071) is the API's port. DATABASE_URL and TEMPORAL_ADDRESS name servers to use
instead of the embedded ones. Ctrl-C stops it.`

// A stop takes 10 s at most, for what stops us: service, Temporal, Postgres. Requests in flight get 7 s of them.
const DRAIN_MS = 7000
const SERVICE_STOP_MS = 7600
const STOP_MS = 9500
const POSTGRES_RESERVE_MS = 500
const START_ABORT_MS = 6000

await runCommand({ help: HELP, main })

async function main(): Promise<number> {
  const progress = createProgress()
  const stopping = stopRequested()
  const config = readConfig()
  const abort = new AbortController()
  const cleanup = createCleanup((error) => process.stderr.write(`tidings: while stopping: ${describe(error)}\n`))
  const running = bringUp(config, cleanup, progress, abort.signal)
  let failure: Error | undefined
  let reason: string | undefined
  try {
    const first = await Promise.race([stopping, running.then(({ died }) => died)])
    if (typeof first === 'string') reason = first
    else failure = first
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error))
  }
  if (failure === undefined) progress.say(`stopping (${reason})`)
  abort.abort()
  await atMost(START_ABORT_MS, running)
    // Why the start was given up is known already.
    .catch(() => undefined)
  await cleanup.run()
  if (failure !== undefined) throw failure
  progress.say('stopped')
  return 0
}

/** The port is checked before anything is started; 0 becomes a real one, which the inbox's address needs. */
async function withPort(config: Config): Promise<Config> {
  if (config.port !== 0 && !(await isFree(config.port, config.host))) {
    throw new CommandFailure(
      'port_taken',
      `port ${config.port} is taken by another program: stop that, or set TIDINGS_PORT to another port (0 for any free one)`,
    )
  }
  return { ...config, port: await claimPort(config.port, { name: 'the API', variable: 'TIDINGS_PORT' }) }
}

interface Running {
  /** Resolves when a server that we started has ended by itself, or a worker has failed for good. */
  readonly died: Promise<CommandFailure>
}

async function bringUp(given: Config, cleanup: Cleanup, progress: Progress, signal: AbortSignal): Promise<Running> {
  const dataDir = openDataDir(given.dataDir)
  cleanup.add(() => dataDir.release())
  const config = await withPort(given)
  const secrets = readSecrets(config, dataDir.path, true)
  // Loading the service takes as long as starting the servers it needs.
  const loading = import('../workers/service.ts')
  loading.catch(() => undefined)
  const stack = await startStack(config, dataDir.path, progress, signal)
  let stopSinceMs: number | undefined
  cleanup.add(() => stack.stop(Math.max(300, STOP_MS - POSTGRES_RESERVE_MS - (performance.now() - (stopSinceMs ?? performance.now())))))
  signal.throwIfAborted()
  const { log, file, flush } = createFileLog(dataDir.path, config.logLevel)
  cleanup.add(flush)
  const settings: Config = {
    ...config,
    ...secrets,
    databaseUrl: stack.databaseUrl,
    temporalAddress: stack.temporalAddress,
    temporalUiUrl: stack.temporalUiUrl,
  }
  const { startService } = await loading
  const service = await Promise.race([
    progress.step('starting the service', () =>
      startService(settings, {
        roles: ['api', 'dispatcher', 'delivery'],
        lanes: LANES,
        partitions: 'all',
        log,
        drainMs: DRAIN_MS,
      }),
    ),
    stack.died.then((failure) => Promise.reject(failure)),
  ])
  cleanup.add(() => {
    stopSinceMs = performance.now()
    return atMost(SERVICE_STOP_MS, service.stop())
  })
  signal.throwIfAborted()
  const url = service.url ?? `http://${config.host}:${config.port}`
  announceService(dataDir.path, { url, temporalUiUrl: stack.temporalUiUrl, namespace: config.temporalNamespace })
  cleanup.add(() => withdrawService(dataDir.path))
  process.stdout.write(`tidings ready ${url}\n`)
  await showWelcome({ settings, url, secret: secrets.jwtSecret, dataDir: dataDir.path, logFile: file, progress })
  return { died: Promise.race([stack.died, serviceFailure(service.failed, file)]) }
}

async function serviceFailure(failed: Promise<never>, logFile: string): Promise<CommandFailure> {
  try {
    return await failed
  } catch (cause) {
    return new CommandFailure('service_failed', `a worker failed (${reasonOf(cause)}), so everything was stopped: see ${logFile}`, {
      cause,
    })
  }
}

interface Shown {
  readonly settings: Config
  readonly url: string
  readonly secret: string
  readonly dataDir: string
  readonly logFile: string
  readonly progress: Progress
}

/** The service runs by now: what goes wrong here is said, and ends nothing. */
async function showWelcome({ settings, url, secret, dataDir, logFile, progress }: Shown): Promise<void> {
  const token = await createToken({ secret, subject: DEFAULT_ORGANISATION })
  const rest = createRestClient(url, token)
  const inboxUrl = `http://127.0.0.1:${settings.port}/inbox/first`
  let run = readFirstRun(dataDir)
  let delivery
  try {
    if (run === undefined) {
      ;({ run, delivery } = await publishFirstEvent(rest, dataDir, inboxUrl))
      if (delivery === undefined) progress.say(`the first event was not delivered in time: see ${logFile}`)
    } else await moveFirstEndpoint(rest, run, inboxUrl)
  } catch (error) {
    progress.say(`the first event could not be published: ${describe(error)}`)
  }
  process.stdout.write(
    welcome({ url, uiUrl: settings.temporalUiUrl, namespace: settings.temporalNamespace, token, dataDir, logFile, run, delivery }),
  )
}
