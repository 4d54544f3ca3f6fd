import { availableParallelism } from 'node:os'
import type { Logger } from 'pino'
import { readConfig, type Config } from '../config/index.ts'
import { LIMITS } from '../domain/limits.ts'
import type { ScalingTarget } from '../domain/scaling.ts'
import { DEFAULT_RULES } from '../domain/scaling-rules.ts'
import { DECISIONS_SHOWN, openAutoscale, parseFor, type AutoscaleClient } from './autoscale-client.ts'
import { decisionTable, statusText } from './autoscale-report.ts'
import { createKubernetesTarget } from '../workers/kubernetes-target.ts'
import { describe, readOptions, runCommand } from './command.ts'
import { prepareNamespace } from './embedded/namespace.ts'
import { CommandFailure, reasonOf } from './failure.ts'
import { openLocalPool } from './local-target.ts'
import { createLog } from './logger.ts'
import { migrateDatabase } from './stack.ts'
import { atMost, stopRequested } from './stopping.ts'

/** A target, the limits it has unless told, and what stops what it has started. */
interface OpenedTarget {
  readonly target: ScalingTarget
  readonly min: number
  readonly max: number
  stop(): Promise<void>
}

/** Where workers can be started and stopped: `--target` takes these names. */
const TARGETS: Readonly<Record<string, (config: Config, log: Logger) => OpenedTarget | Promise<OpenedTarget>>> = {
  local(config, log) {
    const target = openLocalPool(config, LIMITS.localWorkersMax, log)
    return { target, min: 1, max: LOCAL_MAX, stop: () => target.stop() }
  },
  kubernetes({ kubernetesDeployment: deployment }) {
    if (deployment === undefined) {
      throw new CommandFailure('usage', 'set TIDINGS_KUBERNETES_DEPLOYMENT to the Deployment whose Pods are the workers')
    }
    const target = createKubernetesTarget({ deployment })
    return { target, min: DEFAULT_RULES.min, max: DEFAULT_RULES.max, stop: () => Promise.resolve() }
  },
}

/** Workers of this machine unless told: one for each core. */
const LOCAL_MAX = availableParallelism()

const names = Object.keys(TARGETS).join('|')
const HELP = `npm run autoscale -- run --target ${names} | status | decisions | pause | resume | set N | clear

Adds and removes workers as the queues need it, by the rules of docs/autoscaling.md.
  run --target NAME     runs it until it is stopped, with DATABASE_URL and TEMPORAL_ADDRESS
    --min N --max N       workers at least and at most (TIDINGS_AUTOSCALE_MIN, TIDINGS_AUTOSCALE_MAX; else ${DEFAULT_RULES.min} and ${DEFAULT_RULES.max},
                          on this machine 1 and ${LOCAL_MAX})
  status [--json]       workers, the last sample, the last decisions and why
  decisions [--json]    the last ${DECISIONS_SHOWN} decisions, from Postgres where DATABASE_URL is set
  pause, resume         the rules decide nothing, or again
  set N [--for 10m]     N workers whatever the rules say, for that time (s, m, h) or until clear
  clear                 the rules decide again
  --pool NAME           of each: the pool of workers (workers); the workflow is autoscale/NAME
The others find Temporal at TEMPORAL_ADDRESS, else where npm start runs it on this machine.`

const DRAIN_MS = 10_000
const OPTIONS = {
  pool: { type: 'string', default: 'workers' },
  target: { type: 'string' },
  min: { type: 'string' },
  max: { type: 'string' },
  json: { type: 'boolean', default: false },
  for: { type: 'string' },
} as const

interface Asked {
  readonly client: AutoscaleClient
  readonly json: boolean
  readonly workers: string | undefined
  readonly for: string | undefined
}

const actions: Readonly<Record<string, (asked: Asked) => Promise<string>>> = {
  async status({ client, json }) {
    const view = await client.state()
    return json ? JSON.stringify(view, undefined, 2) : statusText(view)
  },
  async decisions({ client, json }) {
    const decisions = await client.decisions()
    return json ? JSON.stringify(decisions, undefined, 2) : decisionTable(decisions)
  },
  async pause({ client }) {
    await client.signal('pause')
    return 'paused: the rules decide nothing until npm run autoscale -- resume'
  },
  async resume({ client }) {
    await client.signal('resume')
    return 'the rules decide again'
  },
  async clear({ client }) {
    await client.signal('clear')
    return 'no override any more'
  },
  async set({ client, workers = '', for: lasting }) {
    const { max } = (await client.state()).rules
    const count = /^\d+$/.test(workers) ? Number(workers) : Infinity
    if (count > max) throw new CommandFailure('usage', `set ${workers}: must be a whole number from 0 to ${max}`)
    const until = lasting === undefined ? undefined : new Date(Date.now() + parseFor(lasting)).toISOString()
    await client.signal('override', { workers: count, until })
    return `asked for ${count} until ${until ?? 'npm run autoscale -- clear'}`
  },
}

await runCommand({ help: HELP, main })

async function main([command = '', ...rest]: readonly string[]): Promise<number> {
  const workers = command === 'set' ? rest[0] : undefined
  const options = readOptions(command === 'set' ? rest.slice(1) : rest, OPTIONS)
  const config = readConfig()
  if (command === 'run') return run(config, options)
  const act = actions[command]
  if (act === undefined) throw new CommandFailure('usage', `"${command}" is no command (--help shows them)`)
  const client = await openAutoscale(config, options.pool)
  try {
    process.stdout.write(`${await act({ client, json: options.json, workers, for: options.for })}\n`)
    return 0
  } finally {
    await client.close()
  }
}

async function run(
  config: Config,
  options: { readonly pool: string; readonly target?: string; readonly min?: string; readonly max?: string },
) {
  const { databaseUrl, temporalAddress } = config
  if (databaseUrl === undefined || temporalAddress === undefined) throw new CommandFailure('usage', 'set DATABASE_URL and TEMPORAL_ADDRESS')
  const stopping = stopRequested()
  const { log, flush } = createLog(config.logLevel)
  const opened = await createTarget(options.target ?? '', config, log)
  try {
    const min = limitOf('--min', options.min) ?? config.autoscale.min ?? opened.min
    const max = limitOf('--max', options.max) ?? config.autoscale.max ?? opened.max
    if (min > max) throw new CommandFailure('usage', `at least ${min} workers and at most ${max} are no limits`)
    await Promise.all([
      migrateDatabase(databaseUrl),
      prepareNamespace(temporalAddress, config.temporalNamespace, { access: config.temporalAccess }),
    ])
    const { startAutoscaler } = await import('../workers/autoscaler.ts')
    const autoscaler = await startAutoscaler(config, { target: opened.target, pool: options.pool, min, max, log })
    process.stdout.write(`tidings autoscaler ready ${autoscaler.workflowId}\n`)
    const failure = await Promise.race([stopping.then(() => undefined), autoscaler.failed.catch((error: unknown) => error)])
    log.info({ reason: failure === undefined ? 'asked' : describe(failure) }, 'autoscaler.stopping')
    await atMost(DRAIN_MS, autoscaler.stop())
    if (failure !== undefined) throw new CommandFailure('service_failed', `its worker failed: ${reasonOf(failure)}`, { cause: failure })
    return 0
  } finally {
    await opened.stop()
    flush()
  }
}

function createTarget(name: string, config: Config, log: Logger): OpenedTarget | Promise<OpenedTarget> {
  const create = TARGETS[name]
  if (create === undefined) throw new CommandFailure('usage', `--target "${name}": must be one of ${names}`)
  return create(config, log)
}

function limitOf(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new CommandFailure('usage', `${option} ${text}: must be a whole number from 1`)
  return Number(text)
}
