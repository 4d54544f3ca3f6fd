import { setTimeout as delay } from 'node:timers/promises'
import { reasonOf } from '../cli/failure.ts'
import { nowMs } from './clock.ts'
import { arrivalMs, arrivalsOf, total, type Ledger } from './ledger.ts'
import { buildPayload } from './payload.ts'
import { loadAverage, sampleCpu, sampleRssMb, type ProcessGroup } from './process-groups.ts'
import { publishAll, type Publisher } from './publisher.ts'
import { cpuBetween, observeQuiet, observeRecovery } from './observe.ts'
import type { DatabaseCounter, DatabaseCounts } from './database.ts'
import type { DatabaseCost, Peer, Result } from './result.ts'
import { measureLateness } from './retry.ts'
import type { Behaviour, Scenario } from './scenarios.ts'
import type { Sink } from './sink.ts'
import { distributionOf, rounded } from './statistics.ts'

export interface Bench {
  /** What is measured: `tidings`, or `relay` (`relay.ts`). */
  readonly peer: Peer
  readonly publisher: Publisher
  readonly sink: Sink
  /** Of the service. */
  readonly groups: readonly ProcessGroup[]
  /** Where the service keeps its attempts; undefined where nobody said. */
  readonly databaseUrl: string | undefined
  /** Of that Postgres. */
  readonly database: DatabaseCounter | undefined
}

const POLL_MS = 5
const SAMPLE_EVERY_MS = 500
/** Settings that are younger are treated as if some process had not heard of them yet (`storage/accept.ts`). */
const SETTINGS_HEARD_MS = 2500
/** How long duplicates may come after the last delivery. */
const LATE_MS = 1500
const SELF = 'driver+sink'

interface Published {
  /** `nowMs()` just before each publish, or when it was due. */
  readonly startsMs: Float64Array
  /** NaN where the publish failed. */
  readonly answeredMs: Float64Array
  accepted: number
  firstError: string | undefined
}

/** Runs one scenario once, in an application of its own. */
export async function execute(bench: Bench, scenario: Scenario, rep: number): Promise<Result> {
  const run = `${scenario.name}-${rep}-${Date.now().toString(36)}`
  const { ledger, urls } = await bench.sink.begin(run, scenario)
  const { id: appId } = await bench.publisher.createApplication(run, urls, scenario.endpoint)
  await delay(SETTINGS_HEARD_MS)
  const groups = [...bench.groups, { name: SELF, pids: [process.pid] }]
  const peaks = samplePeaks(bench.groups)
  try {
    const quiet = await observeQuiet(bench.groups, scenario, ledger)
    const start = new Date().toISOString()
    const counts = await bench.database?.read()
    const before = sampleCpu(groups)
    const startMs = nowMs()
    const published = await publish(bench.publisher, scenario, run, appId, startMs)
    const publishedMs = nowMs()
    const recovery = await observeRecovery(bench, scenario, ledger)
    const timedOut = await arrivals(scenario, ledger, published.accepted, startMs)
    const cpu = cpuBetween(before, sampleCpu(groups), SELF)
    await delay(LATE_MS)
    const arrived = describeArrivals(scenario, ledger, published, startMs)
    return {
      ...{ peer: bench.peer, scenario: scenario.name, rep, start },
      ...describeLoad(scenario, published, publishedMs - startMs),
      ...arrived,
      ...{ timed_out: timedOut, hang_peak: total(ledger, 'hangingPeak'), ...cpu, ...peaks.end() },
      database: counts && databaseCost(counts, await bench.database!.read(), arrived.delivered),
      ...{ requests: total(ledger, 'requests'), quiet: await quiet?.again(), recovery: recovery?.end() },
      retry:
        scenario.retry === undefined || bench.databaseUrl === undefined
          ? undefined
          : await measureLateness(bench.databaseUrl, appId, ledger, urls),
    }
  } finally {
    peaks.end()
    await bench.sink.end()
    // What waits for the deleted endpoints comes to its end; a service that does not answer any more has other troubles.
    await bench.publisher.deleteApplication(appId).catch(() => undefined)
  }
}

async function publish(publisher: Publisher, scenario: Scenario, run: string, appId: string, startMs: number): Promise<Published> {
  const published: Published = {
    startsMs: new Float64Array(scenario.messages),
    answeredMs: new Float64Array(scenario.messages).fill(NaN),
    accepted: 0,
    firstError: undefined,
  }
  await publishAll(scenario, startMs, async (message, dueMs) => {
    const payload = buildPayload(run, message, scenario.payloadBytes)
    published.startsMs[message] = dueMs ?? nowMs()
    try {
      await publisher.publish(appId, `${run}-${message}`, payload)
      published.answeredMs[message] = nowMs()
      published.accepted++
    } catch (error) {
      published.firstError ??= reasonOf(error)
    }
  })
  return published
}

/** Waits until everything has been delivered. @returns why that was given up */
async function arrivals(scenario: Scenario, ledger: Ledger, accepted: number, startMs: number): Promise<string | undefined> {
  const wanted = accepted * upEndpoints(scenario.behaviours).length
  let seen = -1
  let seenAtMs = nowMs()
  for (;;) {
    const complete = total(ledger, 'complete')
    if (complete >= wanted) return undefined
    if (complete !== seen) {
      seen = complete
      seenAtMs = nowMs()
    }
    if (nowMs() - seenAtMs > scenario.silenceMs) return `${scenario.silenceMs / 1000} s without an arrival`
    if (nowMs() - startMs > scenario.capMs) return `${scenario.capMs / 1000} s are over`
    await delay(POLL_MS)
  }
}

function upEndpoints(behaviours: readonly Behaviour[]): number[] {
  return [...behaviours.keys()].filter((i) => behaviours[i] !== 'hang' && behaviours[i] !== 'fail')
}

function describeLoad({ behaviours, messages, publishers, ratePerS }: Scenario, published: Published, tookMs: number) {
  const latencies = [...published.answeredMs.keys()]
    .filter((i) => !Number.isNaN(published.answeredMs[i]))
    .map((i) => published.answeredMs[i]! - published.startsMs[i]!)
  return {
    ...{ f: behaviours.length, healthy_f: upEndpoints(behaviours).length, m: messages, c: publishers, rate: ratePerS },
    ...{ accepted: published.accepted, publish_errors: messages - published.accepted, first_error: published.firstError },
    publish_seconds: rounded(tookMs / 1000, 3),
    accepted_per_s: rounded((published.accepted * 1000) / tookMs, 1),
    publish_latency: distributionOf(latencies),
  }
}

function describeArrivals({ behaviours, messages }: Scenario, ledger: Ledger, published: Published, startMs: number) {
  const latencies: number[] = []
  let lastMs = startMs
  let copies = 0
  let unhealthyHits = 0
  const up = new Set(upEndpoints(behaviours))
  // A delivery that is meant to fail arrives once more after each failure.
  const meant = ledger.kept
  for (let endpoint = 0; endpoint < behaviours.length; endpoint++) {
    for (let message = 0; message < messages; message++) {
      const count = arrivalsOf(ledger, endpoint, message)
      if (!up.has(endpoint)) unhealthyHits += count
      else if (count >= meant) {
        copies += count - meant
        latencies.push(arrivalMs(ledger, endpoint, message, 0) - published.startsMs[message]!)
        lastMs = Math.max(lastMs, arrivalMs(ledger, endpoint, message, meant - 1))
      }
    }
  }
  return {
    ...{ delivered: latencies.length, lost: published.accepted * up.size - latencies.length, duplicated: copies },
    total_seconds: rounded((lastMs - startMs) / 1000, 3),
    deliveries_per_s: lastMs > startMs ? rounded((latencies.length * 1000) / (lastMs - startMs), 1) : 0,
    latency: distributionOf(latencies),
    unhealthy_hits: unhealthyHits,
  }
}

function databaseCost(before: DatabaseCounts, after: DatabaseCounts, deliveries: number): DatabaseCost {
  const perDelivery = (value: (counts: DatabaseCounts) => number, digits: number) =>
    rounded((value(after) - value(before)) / Math.max(1, deliveries), digits)
  return {
    statements_per_delivery: before.statements === undefined ? undefined : perDelivery(({ statements }) => statements ?? 0, 3),
    transactions_per_delivery: perDelivery(({ transactions }) => transactions, 3),
    wal_bytes_per_delivery: perDelivery(({ walBytes }) => walBytes, 0),
  }
}

/** The highest load average and the most memory of each group from now on. */
function samplePeaks(groups: readonly ProcessGroup[]) {
  let load = loadAverage()
  const rss = sampleRssMb(groups)
  const timer = setInterval(() => {
    load = Math.max(load, loadAverage())
    for (const [name, mb] of Object.entries(sampleRssMb(groups))) rss[name] = Math.max(rss[name] ?? 0, mb)
  }, SAMPLE_EVERY_MS)
  return {
    end() {
      clearInterval(timer)
      return { rss_mb: rss, load1_max: load }
    },
  }
}
