/**
 * What a flood costs somebody else. `npm run bench:fairness -- [flood messages] [messages]` prints two tables.
 *
 * First another application: a modest one publishes 20 messages a second, first alone, then while another publishes its
 * messages (20,000) as fast as the API takes them. Then another priority: messages of high priority, 20 a second, alone and
 * while half as many of medium and of low priority each are published as fast as that. All endpoints answer at once. Latency
 * is from just before the publish to the arrival at the sink. The aims: p99 beside the flood within twice of that alone, and
 * low priority not below 5 % of what arrives while all publish.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Priority } from '../domain/priority.ts'
import { nowMs } from './clock.ts'
import { arrivalMs, arrivalsOf, type Ledger } from './ledger.ts'
import { startOwnService } from './own-service.ts'
import { buildPayload } from './payload.ts'
import { createPublisher, publishAll, type Publisher } from './publisher.ts'
import { startSink } from './sink.ts'
import { distributionOf, type Distribution } from './statistics.ts'

const FLOOD_PUBLISHERS = 32
const WARM_UP = 200
const PER_S = 20
const PAYLOAD_BYTES = 1024
const SETTLE_MS = 3000
const POLL_MS = 50
const GIVE_UP_MS = 120_000

const [flood = 20_000, messages = 400] = process.argv.slice(2).map(Number)
const MODEST = 0
const FLOOD = 1

interface Run {
  readonly publisher: Publisher
  readonly run: string
  readonly ledger: Ledger
  readonly apps: readonly string[]
  /** Messages whose numbers are given out. */
  used: number
}

interface Load {
  readonly app: number
  readonly count: number
  readonly perS?: number
  readonly publishers?: number
  readonly priority?: Priority
}

/** What was published: numbers from `from` on, and `nowMs()` of each just before its publish, or when it was due. */
interface Published {
  readonly app: number
  readonly from: number
  readonly startsMs: readonly number[]
}

async function publish(run: Run, { app, count, perS, publishers = FLOOD_PUBLISHERS, priority }: Load): Promise<Published> {
  const from = run.used
  run.used += count
  const startsMs: number[] = []
  await publishAll({ messages: count, publishers, ratePerS: perS }, nowMs(), async (n, dueMs) => {
    startsMs[n] = dueMs ?? nowMs()
    await run.publisher.publish(run.apps[app]!, `${run.run}-${from + n}`, buildPayload(run.run, from + n, PAYLOAD_BYTES), priority)
  })
  return { app, from, startsMs }
}

/** @returns `nowMs()` of the arrivals */
async function arrivals({ ledger }: Run, { app, from, startsMs }: Published): Promise<number[]> {
  const missing = () => startsMs.filter((_, n) => arrivalsOf(ledger, app, from + n) === 0).length
  const endMs = nowMs() + GIVE_UP_MS
  while (missing() > 0 && nowMs() < endMs) await delay(POLL_MS)
  if (missing() > 0) throw new Error(`${missing()} messages did not arrive`)
  return startsMs.map((_, n) => arrivalMs(ledger, app, from + n, 0))
}

interface Measured extends Distribution {
  /** Arrivals a second, from the first publish to the last arrival. */
  readonly perS: number
}

async function latencies(run: Run, published: Published): Promise<Measured> {
  const arrivedMs = await arrivals(run, published)
  const { startsMs } = published
  const perS = (1000 * startsMs.length) / (Math.max(...arrivedMs) - Math.min(...startsMs))
  return { ...distributionOf(startsMs.map((startMs, n) => arrivedMs[n]! - startMs)), perS }
}

function report(rows: readonly (readonly [string, Measured])[]): void {
  process.stdout.write('| messages of | number | a second | p50 ms | p99 ms | max ms |\n| --- | --- | --- | --- | --- | --- |\n')
  for (const [name, { n, perS, p50_ms: p50, p99_ms: p99, max_ms: max }] of rows) {
    process.stdout.write(`| ${name} | ${n} | ${perS.toFixed(0)} | ${p50} | ${p99} | ${max} |\n`)
  }
  const [[, alone], [, beside]] = rows as [(typeof rows)[0], (typeof rows)[0]]
  process.stdout.write(`p99 beside the flood is ${(beside.p99_ms / alone.p99_ms).toFixed(2)} times that alone\n\n`)
}

/** Beside another application. */
async function applications(run: Run): Promise<void> {
  const modest = { app: MODEST, count: messages, perS: PER_S }
  const alone = await latencies(run, await publish(run, modest))
  const [beside, flooding] = await Promise.all([publish(run, modest), publish(run, { app: FLOOD, count: flood })])
  report([
    ['the modest application, alone', alone],
    ['the modest application, beside the flood', await latencies(run, beside)],
    ['the flood', await latencies(run, flooding)],
  ])
}

/** Beside other priorities of the same application. */
async function priorities(run: Run): Promise<void> {
  const high = { app: MODEST, count: messages, perS: PER_S, priority: 'high' } as const
  const half = { app: MODEST, count: flood / 2, publishers: FLOOD_PUBLISHERS / 2 }
  const alone = await latencies(run, await publish(run, high))
  const [beside, medium, low] = await Promise.all([
    publish(run, high),
    publish(run, { ...half, priority: 'medium' }),
    publish(run, { ...half, priority: 'low' }),
  ])
  report([
    ['high priority, alone', alone],
    ['high priority, beside the others', await latencies(run, beside)],
    ['medium priority', await latencies(run, medium)],
    ['low priority', await latencies(run, low)],
  ])
  const [mediumMs, lowMs] = [await arrivals(run, medium), await arrivals(run, low)]
  // Until one of them has nothing more to send.
  const untilMs = Math.min(Math.max(...medium.startsMs), Math.max(...low.startsMs))
  const count = (timesMs: readonly number[]) => timesMs.filter((ms) => ms <= untilMs).length
  const share = count(lowMs) / (count(lowMs) + count(mediumMs))
  process.stdout.write(`low priority had ${(100 * share).toFixed(0)} % of what arrived while both were published\n`)
}

async function measure(publisher: Publisher, sink: Awaited<ReturnType<typeof startSink>>): Promise<void> {
  const name = `fairness-${Date.now().toString(36)}`
  const all = WARM_UP + 4 * messages + 2 * flood
  const behaviours = ['healthy', 'healthy'] as const
  const scenario = { name, behaviours, messages: all, publishers: 1, payloadBytes: PAYLOAD_BYTES, silenceMs: 0, capMs: 0, hosts: 2 }
  const { ledger, urls } = await sink.begin(name, scenario)
  const apps = []
  for (const [i, url] of urls.entries()) apps.push((await publisher.createApplication(`${name}-${i}`, [url])).id)
  const run = { publisher, run: name, ledger, apps, used: 0 }
  await latencies(run, await publish(run, { app: MODEST, count: WARM_UP }))
  for (const part of [applications, priorities]) {
    await delay(SETTLE_MS)
    await part(run)
  }
}

const service = await startOwnService()
const sink = await startSink()
const publisher = createPublisher(service.url, service.token)
try {
  await Promise.race([measure(publisher, sink), service.died])
} finally {
  await publisher.close()
  await sink.stop()
  await service.stop()
}
