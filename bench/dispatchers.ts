import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { describe, readOptions, runCommand } from '../cli/command.ts'
import { CommandFailure } from '../cli/failure.ts'
import { createProgress, type Progress } from '../cli/progress.ts'
import { createCleanup, stopRequested, type Cleanup } from '../cli/stopping.ts'
import { nowMs } from './clock.ts'
import { startFleet, type Fleet } from './fleet.ts'
import { describeRun, formatRun, nameOf, RESULTS_FOLDER, writeFiles } from './history.ts'
import { dispatchersTable, plotDispatchers, type Drain } from './dispatchers-report.ts'
import { arrivalsOf, total, type Ledger } from './ledger.ts'
import { cpuBetween } from './observe.ts'
import { buildPayload } from './payload.ts'
import { sampleCpu } from './process-groups.ts'
import { createPublisher, publishAll, type Publisher } from './publisher.ts'
import { startSink, type Sink } from './sink.ts'
import { rounded } from './statistics.ts'

const HELP = `npm run bench:dispatchers -- [options]

What a second dispatcher brings: events are accepted while no dispatcher runs, then one or two (npm run worker -- --role
dispatcher) start and drain the outbox. Measured from the first event that leaves it until the last has, on servers of its own.
With --answer-ms 0 receivers answer at once, and the CPU is what bounds a dispatcher; otherwise each may have --requests in
flight, and the waiting does. Prints a table (min/median/max).

  --dispatchers 1,2     numbers of dispatchers, each 1 to 16
  --events 50000        that wait, 100 to 1000000
  --answer-ms 0         each request takes so long, 0 to 900
  --requests 100        in flight of one dispatcher at a time, 1 to 1000
  --repetitions 3       1 to 20
  --json                prints the results as JSON after the table
  --results DIR         bench/results unless told; --no-results: nowhere`

interface Options {
  readonly dispatchers: readonly number[]
  readonly events: number
  readonly answerMs: number
  readonly requests: number
  readonly repetitions: number
  readonly json: boolean
  readonly results: string | undefined
}

const ENDPOINTS = 10
/** One event goes to one endpoint: what is measured is the outbox. */
const PUBLISHERS = 64
const PAYLOAD_BYTES = 200
const SETTINGS_HEARD_MS = 2500
const POLL_MS = 100
const SILENCE_MS = 60_000

await runCommand({ help: HELP, main })

async function main(args: readonly string[]): Promise<number> {
  const options = readDispatchersOptions(args)
  const progress = createProgress()
  const cleanup = createCleanup((error) => process.stderr.write(`tidings: while stopping: ${describe(error)}\n`))
  const about = describeRun(new Date())
  const drains: Drain[] = []
  const measuring = measure(options, drains, cleanup, progress)
  try {
    const reason = await Promise.race([stopRequested(), measuring])
    if (typeof reason === 'string') progress.say(`stopping (${reason})`)
    if (drains.length > 0) process.stdout.write(`${dispatchersTable(drains)}\n`)
    if (typeof reason === 'string') return 1
    const { events, answerMs, requests } = options
    const setting = { events, answerMs, requests }
    if (options.json) process.stdout.write(`${JSON.stringify({ ...about, ...setting, results: drains })}\n`)
    if (options.results === undefined) return 0
    const json = formatRun({ ...about, ...setting, results: drains })
    const svg = plotDispatchers(`${events} events wait, ${answerMs} ms to answer, ${about.start.slice(0, 10)}`, drains)
    progress.say(`written to ${writeFiles(options.results, `dispatchers-${nameOf(new Date(about.start))}`, { json, svg })}`)
    return 0
  } finally {
    measuring.catch(() => undefined)
    await cleanup.run()
  }
}

interface Bench {
  readonly fleet: Fleet
  readonly sink: Sink
  readonly publisher: Publisher
  readonly database: pg.Client
}

async function measure(options: Options, drains: Drain[], cleanup: Cleanup, progress: Progress): Promise<void> {
  const { requests } = options
  const starting = startFleet(progress, { TIDINGS_LANE_REQUESTS: `fast=${requests},slow=${requests},retry=${requests}` })
  cleanup.add(async () => (await starting.catch(() => undefined))?.stop())
  const fleet = await progress.step('starting servers and an API', () => starting)
  const sink = await startSink()
  cleanup.add(() => sink.stop())
  const publisher = createPublisher(fleet.url, fleet.token)
  cleanup.add(() => publisher.close())
  const database = new pg.Client({ connectionString: fleet.databaseUrl })
  database.on('error', () => undefined)
  await database.connect()
  cleanup.add(() => database.end())
  for (let rep = 1; rep <= options.repetitions; rep++) {
    for (const count of options.dispatchers) {
      const text = `${count} dispatchers, repetition ${rep} of ${options.repetitions}`
      const bench = { fleet, sink, publisher, database }
      const drain = await progress.step(text, () => Promise.race([execute(bench, options, count, rep), fleet.died]))
      drains.push(drain)
      progress.say(`${drain.events_per_s} events/s, ${drain.cores_busy} cores busy, ${drain.lost} lost, ${drain.duplicated} twice`)
    }
  }
}

/** Fills the outbox, starts so many dispatchers, and stops them when everything has arrived. */
async function execute({ fleet, sink, publisher, database }: Bench, options: Options, count: number, rep: number): Promise<Drain> {
  const { events, answerMs } = options
  const run = `dispatchers-${count}-${rep}-${Date.now().toString(36)}`
  const each = Math.ceil(events / ENDPOINTS)
  const scenario = { name: run, messages: events, publishers: PUBLISHERS, payloadBytes: PAYLOAD_BYTES, silenceMs: 0, capMs: 0 }
  const behaviours = Array.from({ length: ENDPOINTS }, () => 'healthy' as const)
  const { ledger, urls } = await sink.begin(run, { ...scenario, behaviours, hosts: ENDPOINTS, answerAfterMs: answerMs })
  const apps: string[] = []
  for (const [i, url] of urls.entries()) apps.push((await publisher.createApplication(`${run}-${i}`, [url])).id)
  await delay(SETTINGS_HEARD_MS)
  await publishAll({ messages: events, publishers: PUBLISHERS }, 0, (n) =>
    publisher.publish(apps[Math.floor(n / each)]!, `${run}-${n}`, buildPayload(run, n, PAYLOAD_BYTES)),
  )
  const waiting = await readWaiting(database)
  if (waiting < events) throw new CommandFailure('service_failed', `${waiting} of ${events} events wait in the outbox`)
  const dispatchers = await Promise.all(Array.from({ length: count }, () => fleet.startWorker('dispatcher')))
  try {
    const groups = fleet.groups(dispatchers)
    const before = sampleCpu(groups)
    const startMs = nowMs()
    const startWaiting = await readWaiting(database)
    await untilDrained(database, startWaiting)
    const drainedS = (nowMs() - startMs) / 1000
    const cpu = cpuBetween(before, sampleCpu(groups))
    await untilArrived(ledger, events)
    return {
      ...{ dispatchers: count, rep, events: startWaiting, drained_s: rounded(drainedS, 2) },
      ...{ events_per_s: rounded(startWaiting / drainedS, 0), ...countArrivals(ledger, each) },
      ...{ ...cpu, cores_busy: rounded((cpu.cpu_s_total + cpu.other_cpu_s) / drainedS, 2) },
    }
  } finally {
    await Promise.all(dispatchers.map((one) => one.stop()))
    await sink.end()
    for (const app of apps) await publisher.deleteApplication(app)
  }
}

async function readWaiting(database: pg.Client): Promise<number> {
  const { rows } = await database.query<{ waiting: number }>('SELECT count(*)::int AS waiting FROM outbox')
  return rows[0]!.waiting
}

/** Resolves when the outbox is empty. @throws where nothing leaves it any more */
async function untilDrained(database: pg.Client, from: number): Promise<void> {
  let seen = from
  let seenAtMs = nowMs()
  for (;;) {
    const now = await readWaiting(database)
    if (now === 0) return
    if (now !== seen) seenAtMs = nowMs()
    seen = now
    if (nowMs() - seenAtMs > SILENCE_MS) throw new CommandFailure('service_failed', `${now} events stay in the outbox`)
    await delay(POLL_MS)
  }
}

async function untilArrived(ledger: Ledger, wanted: number): Promise<void> {
  const endMs = nowMs() + SILENCE_MS
  while (total(ledger, 'complete') < wanted && nowMs() < endMs) await delay(POLL_MS)
}

function countArrivals(ledger: Ledger, each: number): Pick<Drain, 'lost' | 'duplicated'> {
  let [lost, duplicated] = [0, 0]
  for (let message = 0; message < ledger.messages; message++) {
    const count = arrivalsOf(ledger, Math.floor(message / each), message)
    if (count === 0) lost++
    else duplicated += count - 1
  }
  return { lost, duplicated }
}

/** @throws {CommandFailure} `usage` */
function readDispatchersOptions(args: readonly string[]): Options {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean', default: false } as const
  const values = readOptions(args, {
    dispatchers: { ...text, default: '1,2' },
    events: { ...text, default: '50000' },
    'answer-ms': { ...text, default: '0' },
    requests: { ...text, default: '100' },
    repetitions: { ...text, default: '3' },
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
    dispatchers: values.dispatchers.split(',').map((one) => number('--dispatchers', one, 1, 16)),
    events: number('--events', values.events, 100, 1_000_000),
    answerMs: number('--answer-ms', values['answer-ms'], 0, 900),
    requests: number('--requests', values.requests, 1, 1000),
    repetitions: number('--repetitions', values.repetitions, 1, 20),
    json: values.json,
    results: values['no-results'] ? undefined : values.results,
  }
}
