import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { request } from 'undici'
import { describe, readOptions, runCommand } from '../cli/command.ts'
import { CommandFailure } from '../cli/failure.ts'
import { createProgress, type Progress } from '../cli/progress.ts'
import { createCleanup, stopRequested, type Cleanup } from '../cli/stopping.ts'
import { nowMs } from './clock.ts'
import { describeRun, formatRun, nameOf, RESULTS_FOLDER, writeFiles } from './history.ts'
import { arrivalsOf, total, type Ledger } from './ledger.ts'
import { startLoad, type Answers, type Burst } from './overload-load.ts'
import { plotOverload, trendTable, type Sample } from './overload-report.ts'
import { startOwnService, type OwnService } from './own-service.ts'
import { sampleRssMb } from './process-groups.ts'
import { createPublisher } from './publisher.ts'
import type { Behaviour } from './scenarios.ts'
import { startSink } from './sink.ts'

const HELP = `npm run bench:overload -- [options]

Publishes more than a service of our own can deliver, and shows what its memory does meanwhile: publishers that each publish
one message after the other without a pause, and bursts of publishes that do not wait for answers, so that 429 is answered.
Every message goes to ten endpoints that answer at once and to one that never does. At the end everything that was accepted
has to arrive. Prints the answers, what was lost, and memory at minute 1, in the middle and at the end; writes JSON and plots.

  --minutes 10          of publishing, 0.5 to 600
  --publishers 64       without a pause, 1 to 1000
  --burst 4000x5@30     messages a second x seconds @ every so many seconds; 0x1@60 for none
  --results DIR         bench/results unless told; --no-results: nowhere`

interface OverloadOptions {
  readonly minutes: number
  readonly publishers: number
  readonly burst: Burst
  readonly results: string | undefined
}

interface Outcome {
  /** While it was published. */
  readonly samples: readonly Sample[]
  /** From then on. */
  readonly afterwards: readonly Sample[]
  /** Deliveries that were still to come when the last publish had been answered. */
  readonly outstanding: number
  readonly answers: Answers
  readonly lost: number
  readonly drainedS: number
}

const BEHAVIOURS: readonly Behaviour[] = [...Array<Behaviour>(10).fill('healthy'), 'hang']
const HEALTHY = BEHAVIOURS.length - 1
const SAMPLE_EVERY_MS = 2000
const SETTINGS_HEARD_MS = 2500
/** More than are accepted a second, besides bursts. */
const ACCEPTED_PER_S_MAX = 3000
/** The drain is given up after so long without an arrival. */
const SILENCE_MS = 60_000

await runCommand({ help: HELP, main })

async function main(args: readonly string[]): Promise<number> {
  const options = readOverloadOptions(args)
  const progress = createProgress()
  const cleanup = createCleanup((error) => process.stderr.write(`tidings: while stopping: ${describe(error)}\n`))
  const about = describeRun(new Date())
  const measuring = measure(options, cleanup, progress)
  try {
    const outcome = await Promise.race([stopRequested(), measuring])
    if (typeof outcome === 'string') {
      progress.say(`stopping (${outcome})`)
      return 1
    }
    const { samples, afterwards, outstanding, answers, lost, drainedS } = outcome
    const { acceptedCount: accepted, refused, refusedWithRetryAfter, failed, firstError } = answers
    process.stdout.write(`${trendTable(samples)}\n\n`)
    process.stdout.write(
      `accepted ${accepted}; 429 ${refused}, with Retry-After ${refusedWithRetryAfter}; failed ${failed} ${firstError ?? ''}\n`,
    )
    process.stdout.write(
      `deliveries lost: ${lost} of ${accepted * HEALTHY}; ${outstanding} were still to come after the last publish, ${drainedS.toFixed(1)} s for them\n`,
    )
    process.stdout.write(`most messages that waited in Postgres: ${Math.max(...samples.map(({ backlog }) => backlog))}\n`)
    if (options.results === undefined) return 0
    const counts = { accepted, refused, refusedWithRetryAfter, failed, lost, outstanding, drainedS, publishedSamples: samples.length }
    const all = [...samples, ...afterwards]
    const json = formatRun({ ...about, ...counts, results: all })
    const svg = plotOverload(`overload for ${options.minutes} minutes, ${about.start.slice(0, 10)}`, all)
    progress.say(
      `written to ${writeFiles(options.results, `overload-${nameOf(new Date(about.start))}`, { json, svg })}, and as plots beside it`,
    )
    return 0
  } finally {
    measuring.catch(() => undefined)
    await cleanup.run()
  }
}

async function measure(options: OverloadOptions, cleanup: Cleanup, progress: Progress): Promise<Outcome> {
  const starting = startOwnService()
  cleanup.add(async () => (await starting.catch(() => undefined))?.stop())
  const service = await progress.step('starting a service', () => starting)
  const sink = await startSink()
  cleanup.add(() => sink.stop())
  const publisher = createPublisher(service.url, service.token)
  cleanup.add(() => publisher.close())
  const run = `overload-${Date.now().toString(36)}`
  const messagesMax = Math.ceil(options.minutes * 60 * ACCEPTED_PER_S_MAX)
  const scenario = { name: run, behaviours: BEHAVIOURS, messages: messagesMax, publishers: 1, payloadBytes: 0, silenceMs: 0, capMs: 0 }
  const { ledger, urls } = await sink.begin(run, { ...scenario, hosts: BEHAVIOURS.length })
  const { id: appId } = await publisher.createApplication(run, urls)
  await delay(SETTINGS_HEARD_MS)
  const { answers, done } = startLoad(service, { ...options, run, appId, messagesMax })
  const sampling = await startSampling(service, answers, ledger, progress)
  try {
    await Promise.race([done, service.died])
    const samples = [...sampling.samples]
    const endMs = nowMs()
    const outstanding = lostOf(answers, ledger)
    await progress.step('waiting for all that was accepted', () => Promise.race([drained(answers, ledger), service.died]))
    const afterwards = sampling.samples.slice(samples.length)
    return { samples, afterwards, outstanding, answers, lost: lostOf(answers, ledger), drainedS: (nowMs() - endMs) / 1000 }
  } finally {
    await sampling.stop()
  }
}

async function startSampling(service: OwnService, answers: Answers, ledger: Ledger, progress: Progress) {
  const client = new pg.Client({ connectionString: service.databaseUrl })
  client.on('error', () => undefined)
  await client.connect()
  const samples: Sample[] = []
  const startMs = nowMs()
  let taking: Promise<void> = Promise.resolve()
  const take = async (): Promise<void> => {
    const [{ rows }, heap] = await Promise.all([
      client.query<{ backlog: number }>('SELECT count(*)::int AS backlog FROM outbox'),
      readHeapMb(service.metricsUrl),
    ])
    samples.push({
      seconds: (nowMs() - startMs) / 1000,
      mb: { ...sampleRssMb(service.groups), ...(heap === undefined ? {} : { heap }) },
      ...{ accepted: answers.acceptedCount, refused: answers.refused, backlog: rows[0]!.backlog, delivered: total(ledger, 'complete') },
    })
    const { mb, accepted, refused, backlog } = samples.at(-1)!
    if (samples.length % 15 === 0) {
      progress.say(`${accepted} accepted, ${refused} answered 429, ${backlog} wait; MB ${Object.entries(mb).flat().join(' ')}`)
    }
  }
  // A busy service may answer later than the next sample is due; a sample that fails is left out.
  const timer = setInterval(() => (taking = taking.then(take).catch(() => undefined)), SAMPLE_EVERY_MS)
  return {
    samples,
    async stop() {
      clearInterval(timer)
      await taking
      await client.end()
    },
  }
}

/** What V8 uses in the service's main thread, in MB; undefined where it does not say. */
async function readHeapMb(metricsUrl: string): Promise<number | undefined> {
  const { body } = await request(metricsUrl)
  const used = /^nodejs_heap_size_used_bytes (\S+)$/m.exec(await body.text())?.[1]
  return used === undefined ? undefined : Math.round(Number(used) / 1e6)
}

/** Resolves when every accepted message has arrived at every endpoint that answers, or nothing comes any more. */
async function drained(answers: Answers, ledger: Ledger): Promise<void> {
  let seen = -1
  let seenAtMs = nowMs()
  while (nowMs() - seenAtMs < SILENCE_MS) {
    const now = total(ledger, 'complete')
    if (now >= answers.acceptedCount * HEALTHY && lostOf(answers, ledger) === 0) return
    if (now !== seen) seenAtMs = nowMs()
    seen = now
    await delay(500)
  }
}

function lostOf({ accepted, used }: Answers, ledger: Ledger): number {
  let lost = 0
  for (let message = 0; message < used; message++) {
    if (accepted[message] !== 1) continue
    for (let endpoint = 0; endpoint < HEALTHY; endpoint++) if (arrivalsOf(ledger, endpoint, message) === 0) lost++
  }
  return lost
}

/** @throws {CommandFailure} `usage` */
function readOverloadOptions(args: readonly string[]): OverloadOptions {
  const text = { type: 'string' } as const
  const values = readOptions(args, {
    minutes: { ...text, default: '10' },
    publishers: { ...text, default: '64' },
    burst: { ...text, default: '4000x5@30' },
    results: { ...text, default: RESULTS_FOLDER },
    'no-results': { type: 'boolean', default: false },
  })
  const [minutes, publishers] = [Number(values.minutes), Number(values.publishers)]
  if (!(minutes >= 0.5 && minutes <= 600)) throw usage('--minutes is 0.5 to 600')
  if (!Number.isInteger(publishers) || publishers < 1 || publishers > 1000) throw usage('--publishers is a number from 1 to 1000')
  const match = /^(\d+)x(\d+)@(\d+)$/.exec(values.burst)
  const [ratePerS, seconds, everyS] = (match?.slice(1) ?? []).map(Number)
  if (ratePerS === undefined || !seconds || !everyS || seconds > everyS) {
    throw usage('--burst is messages a second x seconds @ every so many seconds, e.g. 4000x5@30')
  }
  return { minutes, publishers, burst: { ratePerS, seconds, everyS }, results: values['no-results'] ? undefined : values.results }
}

function usage(text: string): CommandFailure {
  return new CommandFailure('usage', `${text} (--help shows the options)`)
}
