/**
 * What a flood of one application costs another. `npm run bench:fairness -- [flood messages] [messages]` prints a table.
 *
 * A modest application publishes 20 messages a second, first alone, then again while another publishes its messages (20,000)
 * as fast as the API takes them. Both have one endpoint that answers at once, on different ports. Latency is from just
 * before the publish to the arrival at the sink. The aim: the modest one's p99 beside the flood within twice of that alone.
 */
import { setTimeout as delay } from 'node:timers/promises'
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
}

/** Publishes messages from a number on. @returns `nowMs()` of each just before its publish, or when it was due */
async function publish(
  { publisher, run, apps }: Run,
  app: number,
  from: number,
  load: { count: number; perS?: number },
): Promise<number[]> {
  const startsMs: number[] = []
  const scenario = { messages: load.count, publishers: FLOOD_PUBLISHERS, ratePerS: load.perS }
  await publishAll(scenario, nowMs(), async (n, dueMs) => {
    startsMs[n] = dueMs ?? nowMs()
    await publisher.publish(apps[app]!, `${run}-${from + n}`, buildPayload(run, from + n, PAYLOAD_BYTES))
  })
  return startsMs
}

async function latencies({ ledger }: Run, app: number, from: number, startsMs: readonly number[]): Promise<Distribution> {
  const missing = () => startsMs.filter((_, n) => arrivalsOf(ledger, app, from + n) === 0).length
  const endMs = nowMs() + GIVE_UP_MS
  while (missing() > 0 && nowMs() < endMs) await delay(POLL_MS)
  if (missing() > 0) throw new Error(`${missing()} messages did not arrive`)
  return distributionOf(startsMs.map((startMs, n) => arrivalMs(ledger, app, from + n, 0) - startMs))
}

function report(rows: readonly (readonly [string, Distribution])[]): void {
  process.stdout.write('| application | messages | p50 ms | p99 ms | max ms |\n| --- | --- | --- | --- | --- |\n')
  for (const [name, { n, p50_ms: p50, p99_ms: p99, max_ms: max }] of rows) {
    process.stdout.write(`| ${name} | ${n} | ${p50} | ${p99} | ${max} |\n`)
  }
}

async function measure(publisher: Publisher, sink: Awaited<ReturnType<typeof startSink>>): Promise<void> {
  const name = `fairness-${Date.now().toString(36)}`
  const all = WARM_UP + 2 * messages + flood
  const behaviours = ['healthy', 'healthy'] as const
  const scenario = { name, behaviours, messages: all, publishers: 1, payloadBytes: PAYLOAD_BYTES, silenceMs: 0, capMs: 0 }
  const { ledger, urls } = await sink.begin(name, { ...scenario, hosts: 2 })
  const apps = []
  for (const [i, url] of urls.entries()) apps.push((await publisher.createApplication(`${name}-${i}`, [url])).id)
  const run = { publisher, run: name, ledger, apps }
  await latencies(run, MODEST, 0, await publish(run, MODEST, 0, { count: WARM_UP }))
  await delay(SETTLE_MS)
  const alone = await latencies(run, MODEST, WARM_UP, await publish(run, MODEST, WARM_UP, { count: messages, perS: PER_S }))
  const fromModest = WARM_UP + messages
  const fromFlood = fromModest + messages
  const [besideMs, floodMs] = await Promise.all([
    publish(run, MODEST, fromModest, { count: messages, perS: PER_S }),
    publish(run, FLOOD, fromFlood, { count: flood }),
  ])
  const beside = await latencies(run, MODEST, fromModest, besideMs)
  const flooding = await latencies(run, FLOOD, fromFlood, floodMs)
  report([
    ['modest, alone', alone],
    ['modest, beside the flood', beside],
    ['flood', flooding],
  ])
  process.stdout.write(`p99 beside the flood is ${(beside.p99_ms / alone.p99_ms).toFixed(2)} times that alone\n`)
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
