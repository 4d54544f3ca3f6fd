import { statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, readOptions, runCommand } from '../cli/command.ts'
import { CommandFailure } from '../cli/failure.ts'
import { createProgress, type Progress } from '../cli/progress.ts'
import { createCleanup, stopRequested, type Cleanup } from '../cli/stopping.ts'
import { openDatabaseCounter } from './database.ts'
import { execute, type Bench } from './driver.ts'
import { DIMENSIONS, pointOf, SIZES, type Dimension, type Point } from './growth-points.ts'
import { growthTable, plotGrowth, verdictOf, type Measured } from './growth-report.ts'
import { describeRun, formatRun, nameOf, RESULTS_FOLDER, writeFiles } from './history.ts'
import { startOwnService, type OwnService } from './own-service.ts'
import { createPublisher, type Publisher } from './publisher.ts'
import type { Result } from './result.ts'
import { ENDPOINTS_EACH, openSeed, SEEDED_FOR, type Seed } from './seed.ts'
import { startSink } from './sink.ts'

const HELP = `npm run bench:growth -- [options]

What a delivery costs as one thing after the other grows, each on a service of our own with an empty data directory. Prints a
table for each, where the cost leaves the flat part of its curve, and writes JSON and plots. All traffic is on 127.0.0.1.

  --dimensions a,b,…    ${DIMENSIONS.join(',')} unless told
  --largest a=N,b=N     leaves out what is larger; unless told ${DIMENSIONS.map((name) => `${name}=${SIZES[name].at(-1)}`).join(',')}
  --repetitions 3       of each point, 1 to 20
  --seed-minutes 5      for the stored messages of one point; the point is what was stored by then
  --results DIR         bench/results unless told; --no-results: nowhere

endpoints: so many exist, ten to an application; ${SEEDED_FOR} of the applications are published to. stored: so many messages of these
applications have been delivered, each with 200 bytes and one attempt. payload: bytes. fan-out: endpoints that get each event.`

interface GrowthOptions {
  readonly dimensions: readonly Dimension[]
  readonly largest: Readonly<Record<Dimension, number>>
  readonly repetitions: number
  readonly seedMs: number
  readonly results: string | undefined
}

/** What a stored message takes with its indexes, and the log while it is written. */
const STORED_BYTES = 2500
const REPETITIONS_MAX = 20
const SETTLE_MS = 2000
const MINUTE_MS = 60_000

await runCommand({ help: HELP, main })

async function main(args: readonly string[]): Promise<number> {
  const options = readGrowthOptions(args)
  const progress = createProgress()
  const cleanup = createCleanup((error) => process.stderr.write(`tidings: while stopping: ${describe(error)}\n`))
  const about = describeRun(new Date())
  const measured: Measured[] = []
  const measuring = measureAll(options, cleanup, progress, measured)
  try {
    const reason = await Promise.race([stopRequested(), measuring])
    if (reason !== undefined) progress.say(`stopping (${reason})`)
    for (const dimension of options.dimensions) {
      const points = measured.filter((point) => point.dimension === dimension)
      if (points.length > 0) process.stdout.write(`${growthTable(points)}\n\n${verdictOf(points)}\n\n`)
    }
    if (reason !== undefined || options.results === undefined) return reason === undefined ? 0 : 1
    const name = `growth-${nameOf(new Date(about.start))}`
    const json = formatRun({ ...about, results: measured })
    const path = writeFiles(options.results, name, { json, svg: plotGrowth(`growth, ${about.start.slice(0, 10)}`, measured) })
    progress.say(`written to ${path}, and as plots beside it`)
    return 0
  } finally {
    measuring.catch(() => undefined)
    await cleanup.run()
  }
}

async function measureAll(options: GrowthOptions, cleanup: Cleanup, progress: Progress, measured: Measured[]): Promise<undefined> {
  for (const dimension of options.dimensions) {
    const starting = startOwnService()
    cleanup.add(async () => (await starting.catch(() => undefined))?.stop())
    const service = await progress.step(`starting a service for ${dimension}`, () => starting)
    const measuring = measureDimension(dimension, service, options, progress, measured)
    measuring.catch(() => undefined)
    await Promise.race([measuring, service.died])
    await service.stop()
  }
  return undefined
}

async function measureDimension(
  dimension: Dimension,
  service: OwnService,
  options: GrowthOptions,
  progress: Progress,
  measured: Measured[],
): Promise<void> {
  const publisher = createPublisher(service.url, service.token)
  const [sink, seed] = [await startSink(), await openSeed(service.databaseUrl, service.encryptionKey)]
  const database = await openDatabaseCounter(service.databaseUrl)
  const bench: Bench = { peer: 'tidings', publisher, sink, groups: service.groups, databaseUrl: undefined, database }
  try {
    await progress.step('warming up', async () => void (await execute(bench, pointOf('fan-out', ENDPOINTS_EACH).scenario, 0)))
    for (const size of SIZES[dimension].filter((one) => one <= options.largest[dimension])) {
      const grown = await grow(dimension, size, seed, options, progress)
      const used = grown.applications === undefined ? bench : { ...bench, publisher: publishTo(publisher, seed, grown.applications) }
      const results: Result[] = []
      for (let rep = 1; rep <= options.repetitions; rep++) {
        results.push(await measurePoint(used, pointOf(dimension, size), rep, progress))
        await delay(SETTLE_MS)
      }
      measured.push({ dimension, size: grown.size, results })
      if (grown.size < size) break
    }
  } finally {
    await database.close()
    await seed.close()
    await sink.stop()
    await publisher.close()
  }
}

async function measurePoint(bench: Bench, { dimension, size, scenario }: Point, rep: number, progress: Progress): Promise<Result> {
  const result = await progress.step(`${dimension} ${size}, repetition ${rep}`, () => execute(bench, scenario, rep))
  const gaveUp = result.timed_out === undefined ? '' : `; given up, ${result.timed_out}`
  const cost = ((result.cpu_s_total * 1000) / Math.max(1, result.delivered)).toFixed(2)
  progress.say(`${result.deliveries_per_s} deliveries/s, p99 ${result.latency.p99_ms} ms, ${cost} CPU ms a delivery${gaveUp}`)
  return result
}

/** @returns the size that was reached, and the applications to publish to; undefined: one of each run's own */
async function grow(dimension: Dimension, size: number, seed: Seed, { seedMs }: GrowthOptions, progress: Progress) {
  if (dimension === 'payload' || dimension === 'fan-out') return { size, applications: undefined }
  const endpoints = dimension === 'endpoints' ? size : SEEDED_FOR * ENDPOINTS_EACH
  await progress.step(`${endpoints} endpoints`, () => seed.growEndpoints(endpoints))
  const applications = seed.applications(Math.min(SEEDED_FOR, endpoints / ENDPOINTS_EACH))
  if (dimension === 'endpoints') return { size, applications }
  const { bavail, bsize } = statfsSync(tmpdir())
  const room = Math.floor((bavail * bsize) / 2 / STORED_BYTES)
  const stored = await progress.step(`storing ${size} messages`, () => seed.growMessages(Math.min(size, room), seedMs))
  const short = room < size ? ': the disk has room for no more' : stored < size ? `: ${seedMs / MINUTE_MS} minutes are over` : ''
  progress.say(`${stored} messages are stored${short}; the database has ${Math.round((await seed.size()) / 1e6)} MB`)
  return { size: stored, applications }
}

/** Publishes to several applications in turn, whose endpoints have the run's URLs; they outlive the run. */
function publishTo(publisher: Publisher, seed: Seed, applications: readonly string[]): Publisher {
  let next = 0
  return {
    ...publisher,
    async createApplication(_run, urls) {
      await seed.pointTo(applications, urls)
      return { id: applications[0]!, endpointIds: [] }
    },
    deleteApplication: () => Promise.resolve(),
    publish: (_appId, ...message) => publisher.publish(applications[next++ % applications.length]!, ...message),
  }
}

/** @throws {CommandFailure} `usage` */
function readGrowthOptions(args: readonly string[]): GrowthOptions {
  const text = { type: 'string' } as const
  const values = readOptions(args, {
    dimensions: { ...text, default: DIMENSIONS.join(',') },
    largest: { ...text, default: '' },
    repetitions: { ...text, default: '3' },
    'seed-minutes': { ...text, default: '5' },
    results: { ...text, default: RESULTS_FOLDER },
    'no-results': { type: 'boolean', default: false },
  })
  const dimensions = values.dimensions.split(',').map((name) => name.trim())
  const unknown = dimensions.find((name) => !isDimension(name))
  if (unknown !== undefined) throw usage(`no dimension "${unknown}": there are ${DIMENSIONS.join(', ')}`)
  const [repetitions, minutes] = [Number(values.repetitions), Number(values['seed-minutes'])]
  if (!Number.isInteger(repetitions) || repetitions < 1 || repetitions > REPETITIONS_MAX) {
    throw usage(`--repetitions is a number from 1 to ${REPETITIONS_MAX}`)
  }
  if (!(minutes > 0 && minutes <= 60)) throw usage('--seed-minutes is over 0 and at most 60')
  return {
    dimensions: dimensions.filter(isDimension),
    largest: readLargest(values.largest),
    ...{ repetitions, seedMs: minutes * MINUTE_MS, results: values['no-results'] ? undefined : values.results },
  }
}

function readLargest(text: string): Record<Dimension, number> {
  const largest = Object.fromEntries(DIMENSIONS.map((name) => [name, SIZES[name].at(-1)!])) as Record<Dimension, number>
  for (const part of text.split(',').filter((one) => one !== '')) {
    const [name, size] = part.split('=') as [string, string?]
    if (!isDimension(name) || !(Number(size) >= SIZES[name][0]!)) throw usage(`--largest: "${part}" is not a dimension=number`)
    largest[name] = Number(size)
  }
  return largest
}

function isDimension(name: string): name is Dimension {
  return (DIMENSIONS as readonly string[]).includes(name)
}

function usage(text: string): CommandFailure {
  return new CommandFailure('usage', `${text} (--help shows the options)`)
}
