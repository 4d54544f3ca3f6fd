import { setTimeout as delay } from 'node:timers/promises'
import { describe, readOptions, runCommand } from '../cli/command.ts'
import { CommandFailure } from '../cli/failure.ts'
import { createProgress, type Progress } from '../cli/progress.ts'
import { createCleanup, stopRequested, type Cleanup } from '../cli/stopping.ts'
import { nowMs } from './clock.ts'
import { startFleet, type Fleet } from './fleet.ts'
import { describeRun, formatRun, nameOf, RESULTS_FOLDER, writeFiles } from './history.ts'
import { arrivalMs, arrivalsOf, total, type Ledger } from './ledger.ts'
import { cpuBetween } from './observe.ts'
import { buildPayload } from './payload.ts'
import { loadAverage, sampleCpu } from './process-groups.ts'
import { createPublisher, publishAll, type Publisher } from './publisher.ts'
import type { Behaviour } from './scenarios.ts'
import { startSink, type Sink } from './sink.ts'
import { rounded } from './statistics.ts'
import { plotWorkers, workersTable, type Step } from './workers-report.ts'

const HELP = `npm run bench:workers -- [options]

What a worker process more brings: deliveries a second of 1, 2, 4 and 8 of them (npm run worker -- --role all), beside one API
process, a Postgres and a Temporal of their own. Receivers take their time, and each worker may have few requests in flight,
so that waiting and not the CPU is what bounds a worker. Events are published faster than they can be delivered, to 20
endpoints each; the rate is that between the 10th and the 90th percent of the arrivals. Prints a table (min/median/max), and
how far each number of workers is from as many times one worker.

  --workers 1,2,4,8     numbers of workers, each 1 to 64
  --repetitions 3       of all of them, 1 to 20
  --answer-ms 50        each request takes so long, 1 to 900
  --requests 5          in flight of one worker at a time, 1 to 1000
  --seconds 15          of work for all workers together, 2 to 600
  --json                prints the results as JSON after the table
  --results DIR         bench/results unless told; --no-results: nowhere`

interface Options {
  readonly workers: readonly number[]
  readonly repetitions: number
  readonly answerMs: number
  readonly requests: number
  readonly seconds: number
  readonly json: boolean
  readonly results: string | undefined
}

const ENDPOINTS = 20
const PUBLISHERS = 16
const PAYLOAD_BYTES = 1024
const SETTINGS_HEARD_MS = 2500
const SILENCE_MS = 60_000
const POLL_MS = 50
const WARM_UP_EVENTS = 20
const STEADY = { from: 0.1, to: 0.9 }

await runCommand({ help: HELP, main })

async function main(args: readonly string[]): Promise<number> {
  const options = readWorkersOptions(args)
  const progress = createProgress()
  const cleanup = createCleanup((error) => process.stderr.write(`tidings: while stopping: ${describe(error)}\n`))
  const about = describeRun(new Date())
  const steps: Step[] = []
  const measuring = measure(options, steps, cleanup, progress)
  try {
    const reason = await Promise.race([stopRequested(), measuring])
    if (typeof reason === 'string') progress.say(`stopping (${reason})`)
    if (steps.length > 0) process.stdout.write(`${workersTable(steps)}\n`)
    if (typeof reason === 'string') return 1
    const { answerMs, requests, seconds } = options
    if (options.json) process.stdout.write(`${JSON.stringify({ ...about, answerMs, requests, seconds, results: steps })}\n`)
    if (options.results === undefined) return 0
    const json = formatRun({ ...about, ...{ answerMs, requests, seconds }, results: steps })
    const svg = plotWorkers(`${answerMs} ms to answer, ${requests} requests in flight of a worker, ${about.start.slice(0, 10)}`, steps)
    progress.say(`written to ${writeFiles(options.results, `workers-${nameOf(new Date(about.start))}`, { json, svg })}`)
    return 0
  } finally {
    measuring.catch(() => undefined)
    await cleanup.run()
  }
}

async function measure(options: Options, steps: Step[], cleanup: Cleanup, progress: Progress): Promise<void> {
  const { requests } = options
  const starting = startFleet(progress, { TIDINGS_LANE_REQUESTS: `fast=${requests},slow=${requests},retry=${requests}` })
  cleanup.add(async () => (await starting.catch(() => undefined))?.stop())
  const fleet = await progress.step('starting servers and an API', () => starting)
  const sink = await startSink()
  cleanup.add(() => sink.stop())
  const publisher = createPublisher(fleet.url, fleet.token)
  cleanup.add(() => publisher.close())
  for (let rep = 1; rep <= options.repetitions; rep++) {
    for (const workers of options.workers) {
      const text = `${workers} workers, repetition ${rep} of ${options.repetitions}`
      const step = await progress.step(text, () => Promise.race([execute({ fleet, sink, publisher }, options, workers, rep), fleet.died]))
      steps.push(step)
      progress.say(`${step.deliveries_per_s} deliveries/s, ${step.cores_busy} cores busy, ${step.lost} lost, ${step.duplicated} twice`)
    }
  }
}

interface Bench {
  readonly fleet: Fleet
  readonly sink: Sink
  readonly publisher: Publisher
}

/** Starts so many workers, loads them, and stops them. */
async function execute({ fleet, sink, publisher }: Bench, options: Options, count: number, rep: number): Promise<Step> {
  const { answerMs, requests, seconds } = options
  const perS = (count * requests * 1000) / answerMs
  const messages = WARM_UP_EVENTS + Math.ceil((perS * seconds) / ENDPOINTS)
  const run = `workers-${count}-${rep}-${Date.now().toString(36)}`
  const behaviours = Array<Behaviour>(ENDPOINTS).fill('healthy')
  const scenario = { name: run, behaviours, messages, publishers: PUBLISHERS, payloadBytes: PAYLOAD_BYTES, silenceMs: 0, capMs: 0 }
  const { ledger, urls } = await sink.begin(run, { ...scenario, hosts: ENDPOINTS, answerAfterMs: answerMs })
  const { id: appId } = await publisher.createApplication(run, urls)
  const workers = await Promise.all(Array.from({ length: count }, () => fleet.startWorker('all')))
  try {
    await delay(SETTINGS_HEARD_MS)
    const publish = (from: number, to: number) =>
      publishAll({ messages: to - from, publishers: PUBLISHERS }, 0, (n) =>
        publisher.publish(appId, `${run}-${from + n}`, buildPayload(run, from + n, PAYLOAD_BYTES)),
      )
    await publish(0, WARM_UP_EVENTS)
    await arrived(ledger, WARM_UP_EVENTS * ENDPOINTS)
    const groups = fleet.groups(workers)
    const before = sampleCpu(groups)
    const startMs = nowMs()
    await publish(WARM_UP_EVENTS, messages)
    const publishedMs = nowMs()
    await arrived(ledger, messages * ENDPOINTS)
    const tookS = (nowMs() - startMs) / 1000
    const cpu = cpuBetween(before, sampleCpu(groups))
    return {
      ...{ workers: count, rep, perfect_per_s: perS, ...describeArrivals(ledger, WARM_UP_EVENTS) },
      ...{ publish_s: rounded((publishedMs - startMs) / 1000, 2), total_s: rounded(tookS, 2) },
      ...{ ...cpu, cores_busy: rounded((cpu.cpu_s_total + cpu.other_cpu_s) / tookS, 2), load1: loadAverage() },
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.stop()))
    await sink.end()
    await publisher.deleteApplication(appId)
  }
}

/** Resolves when so many deliveries have arrived, or nothing comes any more. */
async function arrived(ledger: Ledger, wanted: number): Promise<void> {
  let seen = -1
  let seenAtMs = nowMs()
  while (nowMs() - seenAtMs < SILENCE_MS) {
    const now = total(ledger, 'complete')
    if (now >= wanted) return
    if (now !== seen) seenAtMs = nowMs()
    seen = now
    await delay(POLL_MS)
  }
}

function describeArrivals(ledger: Ledger, fromMessage: number): Pick<Step, 'delivered' | 'lost' | 'duplicated' | 'deliveries_per_s'> {
  const timesMs: number[] = []
  let arrivals = 0
  for (let endpoint = 0; endpoint < ledger.endpoints; endpoint++) {
    for (let message = fromMessage; message < ledger.messages; message++) {
      const count = arrivalsOf(ledger, endpoint, message)
      arrivals += count
      if (count > 0) timesMs.push(arrivalMs(ledger, endpoint, message, 0))
    }
  }
  const sorted = Float64Array.from(timesMs).sort()
  const [from, to] = [Math.floor(sorted.length * STEADY.from), Math.floor(sorted.length * STEADY.to)]
  const seconds = ((sorted[to] ?? 0) - (sorted[from] ?? 0)) / 1000
  return {
    delivered: sorted.length,
    lost: ledger.endpoints * (ledger.messages - fromMessage) - sorted.length,
    duplicated: arrivals - sorted.length,
    deliveries_per_s: seconds > 0 ? rounded((to - from) / seconds, 1) : 0,
  }
}

/** @throws {CommandFailure} `usage` */
function readWorkersOptions(args: readonly string[]): Options {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean', default: false } as const
  const values = readOptions(args, {
    workers: { ...text, default: '1,2,4,8' },
    repetitions: { ...text, default: '3' },
    'answer-ms': { ...text, default: '50' },
    requests: { ...text, default: '5' },
    seconds: { ...text, default: '15' },
    results: { ...text, default: RESULTS_FOLDER },
    'no-results': flag,
    json: flag,
  })
  const number = (name: string, value: string, minimum: number, maximum: number) => {
    const read = Number(value)
    if (Number.isInteger(read) && read >= minimum && read <= maximum) return read
    throw new CommandFailure('usage', `${name} is a number from ${minimum} to ${maximum} (--help shows the options)`)
  }
  return {
    workers: values.workers.split(',').map((one) => number('--workers', one, 1, 64)),
    repetitions: number('--repetitions', values.repetitions, 1, 20),
    answerMs: number('--answer-ms', values['answer-ms'], 1, 900),
    requests: number('--requests', values.requests, 1, 1000),
    seconds: number('--seconds', values.seconds, 2, 600),
    json: values.json,
    results: values['no-results'] ? undefined : values.results,
  }
}
