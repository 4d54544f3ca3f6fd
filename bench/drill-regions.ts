import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createToken } from '../api/token.ts'
import { describe, readOptions, runCommand } from '../cli/command.ts'
import { findTemporalServer } from '../cli/embedded/temporal-server-program.ts'
import { CommandFailure } from '../cli/failure.ts'
import { createProgress, type Progress } from '../cli/progress.ts'
import { createCleanup, stopRequested, type Cleanup } from '../cli/stopping.ts'
import { readConfig } from '../config/index.ts'
import { DEFAULT_ORGANISATION } from '../domain/default-organisation.ts'
import { writeFiles } from './history.ts'
import { createPublisher, type Publisher } from './publisher.ts'
import { bringBack, lose, moveHome, notice, split, takeOver } from './regions/acts.ts'
import { missingOf, startLoad, startReceivers, CANARY, type Ledger } from './regions/load.ts'
import { planDrill } from './regions/plan.ts'
import { countOutcome, plotDrill, problemsOf, type Act, type Measured } from './regions/report.ts'
import { searchFolders } from './regions/residency.ts'
import { createStreams, createProbe, RESIDENT_NAME } from './regions/streams.ts'
import { startWatch } from './regions/watch.ts'
import { startWorld, type World } from './regions/world.ts'

const HELP = `npm run drill:regions -- [options]

Runs two or four regions of config/regions.json on this machine, each with a Postgres, a Temporal cluster, an API and workers
of its own, configuration that they share, and lines between them that take as long as the file says. Publishes in all of
them; cuts a line; kills one region with everything in it; has its peer take over; brings it back, delivers what it alone had
accepted, and moves it home. Accounts for every delivery. Nothing is left behind. The last line of the output is JSON:
acknowledged, delivered, lost, unreplicated, takeoverMs, latencies, lags and more.

  --regions 4      2 or 4
  --rate 200       events a second, in all regions together, each to an endpoint in two regions or three
  --warm-up 8      seconds of load before the steady ones: connections, caches, code that was not run yet
  --steady 60      seconds before anything goes wrong, which the latencies are of
  --split 60       seconds that a line is cut; 0: it is not
  --after 20       seconds of load after each thing that is done
  --json           writes only that line to stdout
  --results DIR    writes a plot and the JSON there
  --keep           leaves the folder of all data and logs behind, and says where it is

The Temporal server is that of TIDINGS_TEMPORAL_SERVER, else built once with Go, which takes some minutes.
Exit code 1 where something was lost, out of order, diverged, listed wrongly, or found outside of its zone.`

interface DrillOptions {
  readonly regions: 2 | 4
  readonly rate: number
  readonly warmUpS: number
  readonly steadyS: number
  readonly splitS: number
  readonly afterS: number
  readonly results: string | undefined
  readonly keep: boolean
}

/** Events that are not accepted by then are given up. */
const ACCEPTED_WITHIN_MS = 60_000
/** What is to come is given up after so long without an arrival: more than retries and handed-over activities wait. */
const SILENCE_MS = 90_000

await runCommand({ help: HELP, main })

async function main(args: readonly string[]): Promise<number> {
  const options = readDrillOptions(args)
  const progress = createProgress()
  const cleanup = createCleanup((error) => process.stderr.write(`tidings: while stopping: ${describe(error)}\n`))
  const drilling = drill(options, cleanup, progress)
  try {
    const measured = await Promise.race([stopRequested(), drilling])
    if (typeof measured === 'string') {
      progress.say(`stopping (${measured})`)
      return 1
    }
    const outcome = countOutcome(measured)
    if (options.results !== undefined) {
      const name = `regions-${options.regions}`
      const path = writeFiles(options.results, name, { json: `${JSON.stringify({ ...options, ...outcome })}\n`, svg: plotDrill(measured) })
      progress.say(`written to ${path}, and as a plot beside it`)
    }
    const problems = problemsOf(outcome)
    for (const problem of problems) progress.say(problem)
    process.stdout.write(`${JSON.stringify(outcome)}\n`)
    return problems.length > 0 ? 1 : 0
  } finally {
    drilling.catch(() => undefined)
    await cleanup.run()
  }
}

async function drill(options: DrillOptions, cleanup: Cleanup, progress: Progress): Promise<Measured> {
  const plan = planDrill(options.regions)
  const ledger: Ledger = { streams: [], events: [], violations: [], repeated: 0 }
  // Closed last: what stops may still be sending.
  const receivers = await startReceivers(ledger)
  cleanup.add(() => receivers.close())
  const root = mkdtempSync(join(tmpdir(), 'tidings-regions-'))
  // Postgres runs as another user where we are root.
  chmodSync(root, 0o755)
  cleanup.add(() => (options.keep ? progress.say(`kept: ${root}`) : rmSync(root, { recursive: true, force: true, maxRetries: 3 })))
  const { temporalServer, cacheDir } = readConfig()
  const programs = await findTemporalServer({ program: temporalServer, cacheDir }, progress)
  const world = await startWorld({ plan, root, programs, cacheDir }, cleanup, progress)
  const token = await createToken({ secret: world.secret, subject: DEFAULT_ORGANISATION })
  const publishers = new Map([...world.apiRoutes].map(([name, { address }]) => [name, createPublisher(`http://${address}`, token)]))
  cleanup.add(async () => void (await Promise.all([...publishers.values()].map((publisher) => publisher.close()))))
  const publisherOf = (region: string) => publishers.get(region)!

  const creating = () => createStreams({ plan, receivers, publisherOf, rate: options.rate })
  ledger.streams.push(...(await progress.step('creating applications and endpoints', creating)))
  const watch = startWatch(world, publisherOf, {
    appId: await createProbe(publisherOf(plan.peer)),
    regions: plan.regions.map(({ name }) => name),
  })
  const load = startLoad(ledger, publisherOf)
  const acts: Act[] = []
  const act = (name: string) => {
    acts.push({ atMs: performance.now(), name })
    progress.say(`${name}: ${ledger.events.length} events, ${missingOf(ledger).length} deliveries under way`)
  }
  try {
    const done = await Promise.race([world.died, perform({ world, options, act, progress })])
    const refused = await load.stop(ACCEPTED_WITHIN_MS)
    act('end of load')
    if (refused > 0) progress.say(`${refused} events were never accepted`)
    await progress.step('waiting for all that was accepted', () => Promise.race([world.died, arrived(ledger)]))
    act('end')
    await watch.stop()
    const diverged = await countDiverged(plan.regions.map(({ name }) => publisherOf(name)))
    const residency = plan.resident === undefined ? null : search(world, ledger, progress)
    const { lags, changes } = watch
    return { ledger, acts, lags, changes, ...done, home: plan.home, regions: options.regions, diverged, residency }
  } finally {
    await Promise.all([load.stop(0), watch.stop()])
  }
}

interface Performance {
  readonly world: World
  readonly options: DrillOptions
  readonly act: (name: string) => void
  readonly progress: Progress
}

/** Everything that is done to the regions, one thing after the other. */
async function perform({ world, options, act, progress }: Performance): Promise<Pick<Measured, 'listed' | 'promoted'>> {
  const pause = (seconds: number) => delay(seconds * 1000)
  await pause(options.warmUpS)
  act('steady')
  await pause(options.steadyS)
  if (options.splitS > 0) {
    act('split')
    await split(world, options.splitS * 1000)
    act('mended')
    await pause(options.afterS)
  }
  act('kill')
  await lose(world)
  await notice(world)
  act('noticed')
  const { promoted } = await takeOver(world, progress)
  act('taken over')
  await pause(options.afterS)
  act('return')
  const { missing } = await bringBack(world, progress)
  act('delivered what it alone had')
  await pause(options.afterS)
  act('move home')
  await moveHome(world, progress)
  act('home')
  await pause(options.afterS)
  return { promoted, listed: new Set(missing.map(({ messageId }) => messageId)) }
}

async function arrived(ledger: Ledger): Promise<void> {
  let left = missingOf(ledger).length
  let sinceMs = performance.now()
  while (left > 0 && performance.now() - sinceMs < SILENCE_MS) {
    await delay(500)
    const now = missingOf(ledger).length
    if (now !== left) sinceMs = performance.now()
    left = now
  }
}

/** Applications that one region shows and another does not, or otherwise. */
async function countDiverged(publishers: readonly Publisher[]): Promise<number> {
  interface Application {
    readonly id: string
    readonly name: string
    readonly updatedAt: string
  }
  const shown = await Promise.all(
    publishers.map(async (publisher) => {
      const { data } = JSON.parse(await publisher.send('GET', '/app?limit=250', null)) as { data: Application[] }
      return new Set(data.filter(({ name }) => name !== RESIDENT_NAME).map(({ id, name, updatedAt }) => `${id} ${name} ${updatedAt}`))
    }),
  )
  const everything = new Set(shown.flatMap((one) => [...one]))
  return shown.reduce((sum, one) => sum + everything.size - one.size, 0)
}

/** @returns how often something of the resident application was found outside of its zone */
function search(world: World, { streams, events }: Ledger, progress: Progress): number {
  const { resident, regions } = world.plan
  const ids = events.filter(({ stream }) => streams[stream]!.isResident).map(({ messageId }) => messageId)
  const texts = [CANARY, RESIDENT_NAME, ...ids.filter((id) => id !== '').slice(-200)]
  const folders = regions.filter(({ name }) => name !== resident).map(({ name }) => world.folders.of(name))
  const { files, found } = searchFolders(folders, texts)
  progress.say(`${files} files outside of the zone searched for ${texts.length} texts: ${found.length} found`)
  for (const one of found.slice(0, 10)) progress.say(one)
  return found.length
}

function readDrillOptions(args: readonly string[]): DrillOptions {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean', default: false } as const
  const values = readOptions(args, {
    regions: { ...text, default: '4' },
    rate: { ...text, default: '200' },
    'warm-up': { ...text, default: '8' },
    steady: { ...text, default: '60' },
    split: { ...text, default: '60' },
    after: { ...text, default: '20' },
    json: flag,
    results: text,
    keep: flag,
  })
  const number = (name: 'rate' | 'warm-up' | 'steady' | 'split' | 'after', least: number, most: number): number => {
    const value = Number(values[name])
    if (!(value >= least && value <= most)) {
      throw new CommandFailure('usage', `--${name} is a number from ${least} to ${most} (--help shows the options)`)
    }
    return value
  }
  const regions = Number(values.regions)
  if (regions !== 2 && regions !== 4) throw new CommandFailure('usage', '--regions is 2 or 4 (--help shows the options)')
  return {
    regions,
    rate: number('rate', 1, 2000),
    warmUpS: number('warm-up', 1, 3600),
    steadyS: number('steady', 5, 3600),
    splitS: number('split', 0, 3600),
    afterS: number('after', 1, 3600),
    results: values.results,
    keep: values.keep,
  }
}
