import { writeFileSync } from 'node:fs'
import { relative } from 'node:path'
import { DEFAULT_CAPACITY_INPUT, readCapacityInput, type CapacityInput } from '../domain/capacity-input.ts'
import { contradictions, requestResources, requestYears } from '../domain/capacity-request.ts'
import { planCapacity } from '../domain/capacity.ts'
import { readOptions, runCommand } from './command.ts'
import { CommandFailure, reasonOf } from './failure.ts'
import { EXAMPLE_PRICES, readCosts, readPriceFile } from './plan/files.ts'
import { formatHtml, formatText } from './plan/formats.ts'
import { adviceOf, type PlanReport } from './plan/report.ts'

const D = DEFAULT_CAPACITY_INPUT
const HELP = `npm run --silent plan -- [options]

Computes what a load needs (workers, dispatchers, API processes, Temporal, Postgres, network) and what that costs, from the unit
costs that npm run bench has measured, beside the plan that was asked for. docs/capacity.md tells how. Numbers like 1e6 are fine.
  --webhooks <n>          endpoints (${D.webhooks})
  --events-per-day <n>    (${D.eventsPerDay})
  --fan-out <n>           endpoints that take one event, on average (${D.fanOut})
  --payload-bytes <n>     (${D.payloadBytes})
  --peak-factor <n>       rate of the busiest hour over that of the day (${D.peakFactor})
  --latency-ms <n>        how long endpoints take to answer (${D.latencyMs})
  --failure-percent <n>   deliveries of a hundred that need a second attempt (${D.failurePercent})
  --retention-days <n>    how long messages and attempts are kept (${D.retentionDays})
  --years <n>             1 to 10 (${D.years})
  --growth <n,n,…>        load of each year as a multiple of the first (1,2,3,…)
  --in-flight <n>         requests in flight of one worker, as TIDINGS_LANE_REQUESTS (${D.inFlight})
  --partitions <n>        as TIDINGS_PARTITIONS (${D.partitions})
  --commit-ms <n>         a write in the Temporal server's database (${D.commitMs})
  --prices <file>         prices in USD a month and sizes of machines (deploy/prices.json, examples)
  --costs <file>          a run of npm run bench, or unit costs by name (the newest in bench/results/)
  --format text|json|html what is written (text)
  --out <file>            where to (stdout)`

type Figure = Exclude<keyof CapacityInput, 'growth'>

const FORMATS = {
  text: formatText,
  json: (report: PlanReport) => `${JSON.stringify(report, null, 2)}\n`,
  html: formatHtml,
} as const

const optionOf = (name: string) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

await runCommand({
  help: HELP,
  main(args) {
    const figures = Object.keys(D) as Figure[]
    const options = readOptions(args, {
      ...Object.fromEntries(figures.map((name) => [optionOf(name).slice(2), { type: 'string' as const }])),
      growth: { type: 'string' },
      prices: { type: 'string' },
      costs: { type: 'string' },
      format: { type: 'string' },
      out: { type: 'string' },
    })
    const given = (name: string) => (options as Readonly<Record<string, string | undefined>>)[name]
    const format = formatOf(options.format ?? 'text')
    const input = readInput(figures, given, options.growth)
    const report = reportOf(input, options.prices, options.costs)
    write(options.out, format(report))
    return Promise.resolve(0)
  },
})

function formatOf(name: string): (report: PlanReport) => string {
  const formats: Readonly<Record<string, (report: PlanReport) => string>> = FORMATS
  const format = Object.hasOwn(formats, name) ? formats[name] : undefined
  if (format === undefined) throw new CommandFailure('usage', `--format ${name}: must be ${Object.keys(FORMATS).join(', ')}`)
  return format
}

function readInput(figures: readonly Figure[], given: (name: string) => string | undefined, growth: string | undefined): CapacityInput {
  const values = Object.fromEntries(figures.map((name) => [name, numberOf(optionOf(name), given(optionOf(name).slice(2)))]))
  const multiples = growth?.split(',').map((part) => numberOf('--growth', part)!)
  const read = readCapacityInput(values, multiples)
  if ('input' in read) return read.input
  throw new CommandFailure('usage', read.problems.map(({ name, text }) => `${optionOf(name)} ${text}`).join('; '))
}

function numberOf(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text.trim() === '' ? NaN : text)
  if (Number.isNaN(value)) throw new CommandFailure('usage', `${option} must be a number, not "${text}"`)
  return value
}

function reportOf(input: CapacityInput, priceFile: string | undefined, costFile: string | undefined): PlanReport {
  const prices = readPriceFile(priceFile)
  const { costs, source } = readCosts(costFile)
  const years = planCapacity(input, costs, prices)
  const priceSource = priceFile ?? `${relative('.', EXAMPLE_PRICES)} (examples)`
  return {
    input,
    costs: { source, units: costs },
    prices: { source: priceSource, currency: 'USD a month', each: prices },
    years,
    advice: adviceOf(years, input, prices),
    request: {
      years: requestYears(),
      atThisLoad: years.map(({ load }) => requestResources(load.deliveriesPerS)),
      contradictions: contradictions(),
    },
  }
}

function write(path: string | undefined, text: string): void {
  if (path === undefined) return void process.stdout.write(text)
  try {
    writeFileSync(path, text)
  } catch (cause) {
    throw new CommandFailure('usage', `--out ${path} cannot be written (${reasonOf(cause)})`, { cause })
  }
}
