import { readConfig, type Config } from '../config/index.ts'
import { LIMITS } from '../domain/limits.ts'
import type { ReconcileProgress, ReconcileRequest } from '../domain/reconcile.ts'
import { createPool, type Pool } from '../storage/pool.ts'
import { registerReconcile } from '../storage/reconcile.ts'
import { readOptions, runCommand } from './command.ts'
import { databaseUrlOf } from './data-dir.ts'
import { CommandFailure, reasonOf } from './failure.ts'
import { createProgress } from './progress.ts'
import { countsOf, describeCounts, runReconcile } from './reconcile/run.ts'
import { connectTemporal } from './temporal-client.ts'
import { instantOf } from './time.ts'

const HELP = `npm run --silent reconcile -- --since <time> [options]

Postgres is the truth: looks through the messages since then, and starts again what is undelivered and has no workflow, after a
failover, or after Temporal lost its store or was restored from an older backup. What is recorded as delivered is not sent, nor
what a fan-out that is open carries. Works on DATABASE_URL and TEMPORAL_ADDRESS (else on npm start here), beside live traffic.
  --since <time>  accepted since: 90m, 12h, 7d, or 2026-11-23T09:00:00Z; 90 days at most
  --until <time>  accepted before (10 s ago)
  --dry-run       counts, and changes nothing
  --changed       also what endpoints would get that were changed after the message was accepted
  --task          registers it as a background task, which the service goes on with by itself, and prints the task's id
  --json          prints the counts as JSON

Run it again where it left deliveries of open fan-outs alone.`

await runCommand({
  help: HELP,
  async main(args) {
    const text = { type: 'string' } as const
    const flag = { type: 'boolean', default: false } as const
    const options = readOptions(args, { since: text, until: text, 'dry-run': flag, changed: flag, task: flag, json: flag })
    if (options.since === undefined) throw usage('--since is missing')
    if (options.task && options['dry-run']) throw usage('--task and --dry-run exclude each other')
    const nowMs = Date.now()
    const request: ReconcileRequest = {
      since: instantOf('--since', options.since, nowMs, LIMITS.historyMaxDays).toISOString(),
      until: untilOf(options.until, nowMs).toISOString(),
      changed: options.changed,
      dryRun: options['dry-run'],
    }
    const config = readConfig()
    const pool = createPool(databaseUrlOf(config), 4)
    try {
      if (options.task) return await hand(pool, request, options.json)
      const done = await reconcile(config, pool, request)
      process.stdout.write(options.json ? `${JSON.stringify(summary(request, done))}\n` : report(request, done))
      return 0
    } finally {
      await pool.end()
    }
  },
})

/** What was accepted just now is under way. */
function untilOf(text: string | undefined, nowMs: number): Date {
  return text === undefined ? new Date(nowMs - LIMITS.reconcileMarginMs) : instantOf('--until', text, nowMs, LIMITS.historyMaxDays)
}

function usage(text: string): CommandFailure {
  return new CommandFailure('usage', `${text} (--help shows the options)`)
}

async function hand(pool: Pool, { since, until, changed }: ReconcileRequest, json: boolean): Promise<number> {
  const taskId = await toTheEnd(() => registerReconcile(pool, { since, until, changed }))
  process.stdout.write(json ? `${JSON.stringify({ taskId })}\n` : `${taskId}\n`)
  return 0
}

async function reconcile(config: Config, pool: Pool, request: ReconcileRequest): Promise<ReconcileProgress> {
  const progress = createProgress()
  const { client, close } = await connectTemporal(config)
  try {
    return await toTheEnd(() => runReconcile({ client, pool, partitions: config.partitions, request, progress }))
  } finally {
    await close()
  }
}

/** Says in one line that a server does not answer. */
async function toTheEnd<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (cause instanceof CommandFailure) throw cause
    throw new CommandFailure(
      'service_failed',
      `the reconciliation has stopped (${reasonOf(cause)}): run it again, it goes on where it is needed`,
      {
        cause,
      },
    )
  }
}

function summary({ since, until, dryRun }: ReconcileRequest, done: ReconcileProgress) {
  return { since, until, dryRun, ...countsOf(done) }
}

function report(request: ReconcileRequest, done: ReconcileProgress): string {
  const [messages, ...lines] = describeCounts(done)
  const looked = `${messages} from ${request.since} to ${request.until}${request.dryRun ? '; nothing was changed, these would be' : ''}`
  return `${[looked, ...lines].join('\n')}\n`
}
