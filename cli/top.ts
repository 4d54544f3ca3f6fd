import { setTimeout as pause } from 'node:timers/promises'
import { readConfig } from '../config/index.ts'
import { readOptions, runCommand } from './command.ts'
import { CommandFailure, reasonOf } from './failure.ts'
import { stopRequested } from './stopping.ts'
import { figuresOf, type Figures, type Look } from './top/figures.ts'
import { parseMetrics, type Sample } from './top/samples.ts'
import { screen } from './top/screen.ts'

const HELP = `npm run top -- [options]

Shows what Tidings' processes do, live, from their /metrics: deliveries, response times, queues, utilisation, the busiest endpoints.
  --metrics URL     of a process; repeated, their figures are added up (http://127.0.0.1:TIDINGS_METRICS_PORT/metrics, 9464 unless set)
  --interval S      seconds between two looks, over which rates are taken (2)
  --once            one look, and one more after the interval, then ends
  --json            one JSON object a look instead of a table
Ctrl-C ends it. Where stdout is no terminal it prints each look below the last.`

const DEFAULT_PORT = 9464
const FETCH_TIMEOUT_MS = 5000
const MAX_INTERVAL_S = 3600
const CLEAR = '\u001B[H\u001B[J'

await runCommand({
  help: HELP,
  async main(args) {
    const options = readOptions(args, {
      metrics: { type: 'string', multiple: true },
      interval: { type: 'string', default: '2' },
      once: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    })
    const urls = [...new Set((options.metrics ?? [`http://127.0.0.1:${readConfig().metricsPort ?? DEFAULT_PORT}/metrics`]).map(readUrl))]
    const intervalMs = readInterval(options.interval) * 1000
    const stopping = stopRequested().then(() => true as const)
    let before = await lookAt(urls)
    if (before.processes.length === 0) throw new CommandFailure('not_running', before.problems.join('\n'))
    for (;;) {
      if ((await Promise.race([stopping, pause(intervalMs, undefined, { ref: true })])) === true) return 0
      const now = await lookAt(urls)
      print(figuresOf(before, now), options.json)
      if (options.once) return now.processes.length === 0 ? 1 : 0
      if (now.processes.length > 0) before = now
    }
  },
})

function print(figures: Figures, json: boolean): void {
  if (json) process.stdout.write(`${JSON.stringify(figures)}\n`)
  else if (process.stdout.isTTY) process.stdout.write(CLEAR + screen(figures, { rows: process.stdout.rows, colour: true }))
  else process.stdout.write(`${screen(figures, { rows: Infinity, colour: false })}\n`)
}

function readUrl(text: string): string {
  const url = URL.parse(text)
  if (url === null || !/^https?:$/.test(url.protocol)) throw new CommandFailure('usage', `--metrics ${text}: is no http:// or https:// URL`)
  return url.href
}

function readInterval(text: string): number {
  const seconds = Number(text)
  if (!(seconds >= 0.1 && seconds <= MAX_INTERVAL_S)) {
    throw new CommandFailure('usage', `--interval ${text}: must be 0.1 to ${MAX_INTERVAL_S} seconds`)
  }
  return seconds
}

/** Asks all processes at a time; those that do not answer are told of, not waited for. */
async function lookAt(urls: readonly string[]): Promise<Look> {
  const atMs = Date.now()
  const answers = await Promise.allSettled(urls.map((url) => read(url)))
  const processes: { url: string; samples: readonly Sample[] }[] = []
  const problems: string[] = []
  for (const [i, answer] of answers.entries()) {
    if (answer.status === 'fulfilled') processes.push({ url: urls[i]!, samples: answer.value })
    else problems.push(`${urls[i]} does not answer (${reasonOf(answer.reason)}): is TIDINGS_METRICS_PORT set there?`)
  }
  return { atMs, processes, problems }
}

async function read(url: string): Promise<readonly Sample[]> {
  const response = await fetch(url, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) })
  if (!response.ok) throw new Error(`status ${response.status}`)
  return parseMetrics(await response.text())
}
