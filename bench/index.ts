import { appendFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, runCommand } from '../cli/command.ts'
import { CommandFailure, reasonOf } from '../cli/failure.ts'
import { createProgress, type Progress } from '../cli/progress.ts'
import { createCleanup, stopRequested, type Cleanup } from '../cli/stopping.ts'
import { comparisonTable } from './compare.ts'
import { openDatabaseCounter } from './database.ts'
import { execute, type Bench } from './driver.ts'
import { describeRun, formatRun, lastCommitted, nameOf, RESULTS_FOLDER, writeFiles, type Run } from './history.ts'
import { HELP, readBenchOptions, type BenchOptions } from './options.ts'
import { startOwnService, type Target } from './own-service.ts'
import { plotRun } from './plot.ts'
import { createPublisher } from './publisher.ts'
import { startRelay } from './relay.ts'
import type { Result } from './result.ts'
import { RELAYED, scenarioOf } from './scenarios.ts'
import { startSink, type Sink } from './sink.ts'
import { tables } from './table.ts'

const SETTLE_MS = 2000

await runCommand({ help: HELP, main })

async function main(args: readonly string[]): Promise<number> {
  const options = readBenchOptions(args)
  const progress = createProgress()
  const cleanup = createCleanup((error) => process.stderr.write(`tidings: while stopping: ${describe(error)}\n`))
  const results: Result[] = []
  const about = describeRun(new Date())
  const measuring = measure(options, cleanup, progress, results)
  try {
    const reason = await Promise.race([stopRequested(), measuring])
    if (reason !== undefined) progress.say(`stopping (${reason})`)
    if (results.length > 0) process.stdout.write(tables(results))
    if (reason === undefined) keep({ ...about, results }, options.results, progress)
    return reason === undefined ? 0 : 1
  } finally {
    measuring.catch(() => undefined)
    await cleanup.run()
  }
}

async function measure(options: BenchOptions, cleanup: Cleanup, progress: Progress, results: Result[]): Promise<undefined> {
  const { target, died } = await findTarget(options, cleanup, progress)
  const publisher = createPublisher(target.url, target.token)
  cleanup.add(() => publisher.close())
  const sink = await startSink()
  cleanup.add(() => sink.stop())
  const { groups, databaseUrl } = target
  const database = databaseUrl === undefined ? undefined : await openDatabaseCounter(databaseUrl)
  cleanup.add(() => database?.close())
  const service: Bench = { peer: 'tidings', publisher, sink, groups, databaseUrl, database }
  const relayed = options.scenarios.some((name) => RELAYED.includes(name)) && options.relay
  const relay = relayed ? await startRelayBench(sink, cleanup) : undefined
  const run = async (bench: Bench, name: string, rep: number) => {
    const running = execute(bench, scenarioOf(name, options.retry), rep)
    running.catch(() => undefined)
    const text = `${name}${bench.peer === 'relay' ? ' of the bare relay' : ''}, repetition ${rep} of ${options.repetitions}`
    const result = await progress.step(text, () => Promise.race([running, died]))
    results.push(result)
    progress.say(brief(result))
    if (options.out !== undefined) append(options.out, result)
    await delay(SETTLE_MS)
  }
  for (let rep = 1; rep <= options.repetitions; rep++) {
    for (const name of options.scenarios) {
      await run(service, name, rep)
      // Right after: the machine is what it was, as far as it can be.
      if (relay !== undefined && RELAYED.includes(name)) await run(relay, name, rep)
    }
  }
  return undefined
}

async function startRelayBench(sink: Sink, cleanup: Cleanup): Promise<Bench> {
  const relay = await startRelay()
  cleanup.add(() => relay.stop())
  const publisher = createPublisher(relay.url, 'none')
  cleanup.add(() => publisher.close())
  return { peer: 'relay', publisher, sink, groups: relay.groups, databaseUrl: undefined, database: undefined }
}

/** Writes the run down, and tells what has changed since the last one that is committed. */
function keep(run: Run, results: string | undefined, progress: Progress): void {
  const last = lastCommitted(results ?? RESULTS_FOLDER)
  const then = typeof last === 'string' ? undefined : last
  process.stdout.write(
    typeof last === 'string' ? `\nnothing to compare with: ${last}\n` : `\n${comparisonTable(run, last.run, last.name)}\n`,
  )
  if (results === undefined) return
  const path = writeFiles(results, nameOf(new Date(run.start)), { json: formatRun(run), svg: plotRun(run, then) })
  progress.say(`written to ${path}, and as a plot beside it`)
}

async function findTarget(options: BenchOptions, cleanup: Cleanup, progress: Progress): Promise<{ target: Target; died: Promise<never> }> {
  const { target: given, groups, databaseUrl } = options
  if (given !== undefined) return { target: { ...given, groups, databaseUrl }, died: new Promise<never>(() => undefined) }
  const starting = startOwnService()
  // A stop that comes while it starts waits for it, so that it leaves nothing.
  cleanup.add(async () => (await starting.catch(() => undefined))?.stop())
  const service = await progress.step('starting a service', () => starting)
  return { target: service, died: service.died }
}

function brief(result: Result): string {
  const { latency, retry } = result
  const late = retry === undefined ? '' : `; retries late p50 ${retry.left.p50_ms}, p99 ${retry.left.p99_ms}, max ${retry.left.max_ms} ms`
  const counts = `${result.accepted} accepted at ${result.accepted_per_s}/s, ${result.delivered} delivered at ${result.deliveries_per_s}/s`
  return `${counts}, ${result.lost} lost, p50 ${latency.p50_ms}, p99 ${latency.p99_ms} ms${late}; load ${result.load1_max}`
}

function append(file: string, result: Result): void {
  try {
    appendFileSync(file, `${JSON.stringify(result)}\n`)
  } catch (cause) {
    throw new CommandFailure('usage', `--out: ${file} cannot be written (${reasonOf(cause)})`, { cause })
  }
}
