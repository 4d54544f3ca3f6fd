import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { describe, readOptions, runCommand } from '../cli/command.ts'
import { CommandFailure } from '../cli/failure.ts'
import { createProgress, type Progress } from '../cli/progress.ts'
import { createCleanup, stopRequested, type Cleanup } from '../cli/stopping.ts'
import { eventsOf, publishCurve, startReceivers, type Arrivals, type LoadCurve, type Published } from './elastic-load.ts'
import { countOutcome, plotElastic, type ElasticSample, type Outcome } from './elastic-report.ts'
import { startElasticStack, type ElasticStack } from './elastic-stack.ts'
import { startAutoscaledWorkers, startChurnedWorkers, type DrilledWorkers } from './elastic-workers.ts'
import { writeFiles } from './history.ts'
import { createPublisher } from './publisher.ts'

const HELP = `npm run drill:elastic -- [options]

Starts Postgres, Temporal, an API process and an autoscaler with a pool of worker processes, all of its own on free ports,
publishes more and then less, kills workers meanwhile, and accounts for every delivery. The rules are those of the product
with shorter times. Nothing is left behind. The last line of the output is JSON:
accepted, delivered, lost, duplicated (requests beyond the first of a delivery), duplicatedByKills (those of them that were
under way when a worker was killed), kills, scaledUp, scaledDown.

  --minutes 3         of publishing, 0.5 to 600
  --json              writes only that line to stdout
  --kill-every 40     kills a worker every so many seconds while there are two; 0: never
  --churn 0           instead of the autoscaler: adds or removes a worker every so many seconds, half of those removed by kill
  --max-workers 4     2 to 16
  --low 10            events a second, each to four endpoints that take 50 ms: at the beginning and the end
  --high 80           and between
  --results DIR       writes a plot and the JSON there

Exit code 1 where something was lost, or came twice without a kill.`

interface DrillOptions {
  readonly minutes: number
  readonly json: boolean
  readonly killEveryS: number
  readonly churnS: number
  readonly maxWorkers: number
  readonly curve: LoadCurve
  readonly results: string | undefined
}

const ENDPOINTS = 4
const ANSWER_AFTER_MS = 50
/** Requests at a time of one worker: 160 a second at 50 ms each, so that this machine has room for several. */
const REQUESTS = '8'
/** How much shorter than the product's are the times of the rules: of 15 s, 5 min, 15 min, 60 s and 300 s. */
const TIME_SCALE = 1 / 40
const SETTINGS_HEARD_MS = 2500
const SAMPLE_EVERY_MS = 1000
/** The rest is given up after so long without an arrival: more than the time in which a killed worker's activities are given on. */
const SILENCE_MS = 120_000
/** After the load the rules have this long to shrink the pool. */
const SHRINK_MS = 45_000

await runCommand({ help: HELP, main })

async function main(args: readonly string[]): Promise<number> {
  const options = readDrillOptions(args)
  const progress = createProgress()
  const cleanup = createCleanup((error) => process.stderr.write(`tidings: while stopping: ${describe(error)}\n`))
  const drilling = drill(options, cleanup, progress)
  try {
    const result = await Promise.race([stopRequested(), drilling])
    if (typeof result === 'string') {
      progress.say(`stopping (${result})`)
      return 1
    }
    const { outcome, samples } = result
    if (options.results !== undefined) {
      const svg = plotElastic(`elastic for ${options.minutes} minutes`, samples)
      const path = writeFiles(options.results, 'elastic', { json: `${JSON.stringify({ ...outcome, samples })}\n`, svg })
      progress.say(`written to ${path}, and as a plot beside it`)
    }
    process.stdout.write(`${JSON.stringify(outcome)}\n`)
    return outcome.lost > 0 || outcome.duplicated > outcome.duplicatedByKills ? 1 : 0
  } finally {
    drilling.catch(() => undefined)
    await cleanup.run()
  }
}

async function drill(options: DrillOptions, cleanup: Cleanup, progress: Progress): Promise<{ outcome: Outcome; samples: ElasticSample[] }> {
  const { curve } = options
  const stack = await startElasticStack({ TIDINGS_LANE_REQUESTS: `fast=${REQUESTS},slow=${REQUESTS},retry=${REQUESTS}` }, cleanup, progress)
  const events = eventsOf(curve)
  const receivers = await startReceivers(ENDPOINTS, events, ANSWER_AFTER_MS)
  cleanup.add(() => receivers.close())
  const publisher = createPublisher(stack.apiUrl, stack.token)
  cleanup.add(() => publisher.close())
  const starting = startWorkers(options, stack)
  cleanup.add(async () => (await starting.catch(() => undefined))?.stop())
  const workers = await progress.step('starting the workers', () => starting)
  const { id: appId } = await publisher.createApplication(`elastic-${Date.now().toString(36)}`, receivers.urls)
  await delay(SETTINGS_HEARD_MS)
  const published: Published = { accepted: new Uint8Array(events), acceptedCount: 0, repeated: 0 }
  const sampling = startSampling({ published, arrivals: receivers.arrivals, workers, progress })
  const striking = strike(options, workers, progress)
  try {
    const unlessDied = <T>(work: Promise<T>) => Promise.race([work, stack.died])
    await unlessDied(publishCurve(curve, published, { publisher, appId }))
    striking.stop()
    await progress.step('waiting for all that was accepted', () => unlessDied(arrived(published, receivers.arrivals)))
    if (options.churnS === 0) await progress.step('waiting for the pool to shrink', () => unlessDied(shrunk(workers)))
  } finally {
    striking.stop()
    sampling.stop()
  }
  const scaled = options.churnS === 0 ? await readDecisions(stack.databaseUrl) : striking.turns
  const { outcome, unexplained } = countOutcome({ published, arrivals: receivers.arrivals, killedAtMs: workers.killedAtMs, scaled })
  for (const line of unexplained) progress.say(line)
  return { outcome, samples: sampling.samples }
}

async function startWorkers({ churnS, maxWorkers }: DrillOptions, stack: ElasticStack): Promise<DrilledWorkers> {
  if (churnS > 0) {
    const workers = startChurnedWorkers(stack, maxWorkers)
    await workers.turn?.()
    return workers
  }
  return startAutoscaledWorkers(stack, {
    TIDINGS_AUTOSCALE_MIN: '1',
    TIDINGS_AUTOSCALE_MAX: String(maxWorkers),
    TIDINGS_AUTOSCALE_TIME_SCALE: String(TIME_SCALE),
  })
}

/** Kills workers, or adds and removes them, until it is stopped. */
function strike(options: DrillOptions, workers: DrilledWorkers, progress: Progress) {
  const turns = { up: 0, down: 0 }
  const timers: NodeJS.Timeout[] = []
  const { turn } = workers
  if (turn !== undefined) {
    timers.push(
      setInterval(() => {
        const before = workers.pids().length
        turn().then(
          (what) => {
            progress.say(what)
            turns[workers.pids().length > before ? 'up' : 'down']++
          },
          (error: unknown) => progress.say(`no turn: ${describe(error)}`),
        )
      }, options.churnS * 1000),
    )
  } else if (options.killEveryS > 0) {
    timers.push(setInterval(() => workers.kill() && progress.say('a worker was killed'), options.killEveryS * 1000))
  }
  return { turns, stop: () => timers.forEach((timer) => clearInterval(timer)) }
}

interface Sampled {
  readonly published: Published
  readonly arrivals: Arrivals
  readonly workers: DrilledWorkers
  readonly progress: Progress
}

function startSampling({ published, arrivals, workers, progress }: Sampled) {
  const samples: ElasticSample[] = []
  const startedAtMs = performance.now()
  const timer = setInterval(() => {
    const sample = {
      seconds: (performance.now() - startedAtMs) / 1000,
      ...{ workers: workers.pids().length, accepted: published.acceptedCount, delivered: arrivals.delivered },
    }
    samples.push(sample)
    if (samples.length % 10 === 0) {
      progress.say(`${sample.workers} workers, ${sample.accepted} accepted, ${sample.delivered} delivered`)
    }
  }, SAMPLE_EVERY_MS)
  return { samples, stop: () => clearInterval(timer) }
}

async function arrived(published: Published, arrivals: Arrivals): Promise<void> {
  let seen = arrivals.delivered
  let sinceMs = performance.now()
  while (arrivals.delivered < published.acceptedCount * ENDPOINTS && performance.now() - sinceMs < SILENCE_MS) {
    await delay(100)
    if (arrivals.delivered === seen) continue
    seen = arrivals.delivered
    sinceMs = performance.now()
  }
}

async function shrunk(workers: DrilledWorkers): Promise<void> {
  const endMs = performance.now() + SHRINK_MS
  while (workers.pids().length > 1 && performance.now() < endMs) await delay(200)
}

async function readDecisions(databaseUrl: string): Promise<{ up: number; down: number }> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    const { rows } = await client.query<{ up: number; down: number }>(
      `SELECT count(*) FILTER (WHERE action = 'up')::int AS up, count(*) FILTER (WHERE action = 'down')::int AS down FROM scaling_decision`,
    )
    return rows[0]!
  } finally {
    await client.end()
  }
}

function readDrillOptions(args: readonly string[]): DrillOptions {
  const text = { type: 'string' } as const
  const values = readOptions(args, {
    minutes: { ...text, default: '3' },
    json: { type: 'boolean', default: false },
    'kill-every': { ...text, default: '40' },
    churn: { ...text, default: '0' },
    'max-workers': { ...text, default: '4' },
    low: { ...text, default: '10' },
    high: { ...text, default: '80' },
    results: text,
  })
  const number = (name: 'minutes' | 'kill-every' | 'churn' | 'max-workers' | 'low' | 'high', least: number, most: number): number => {
    const value = Number(values[name])
    if (!(value >= least && value <= most)) {
      throw new CommandFailure('usage', `--${name} is a number from ${least} to ${most} (--help shows the options)`)
    }
    return value
  }
  const minutes = number('minutes', 0.5, 600)
  return {
    minutes,
    json: values.json,
    killEveryS: number('kill-every', 0, 3600),
    churnS: number('churn', 0, 3600),
    maxWorkers: Math.floor(number('max-workers', 2, 16)),
    curve: { seconds: minutes * 60, low: number('low', 1, 1000), high: number('high', 1, 1000) },
    results: values.results,
  }
}
