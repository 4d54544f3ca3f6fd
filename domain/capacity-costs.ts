/** What a unit of work costs Tidings, from what the benchmark has measured. */
import { readFigures, type FigureProblem, type FigureRule } from './figures.ts'

/** A cost of one event: `perEvent` and `perDelivery` for each of its deliveries. */
export interface Linear {
  readonly perEvent: number
  readonly perDelivery: number
}

const COST: FigureRule = { min: 0, max: 1e9 }

/** Every unit cost is one number, so that a file of them can be written by hand. */
const RULES = {
  /** CPU of the service's own processes, in ms, where events share fan-outs. */
  serviceCpuMsPerEvent: COST,
  serviceCpuMsPerDelivery: COST,
  /** The part of the event's that accepting it is. */
  acceptCpuMsPerEvent: COST,
  /** A fan-out, whatever is in it. */
  serviceCpuMsPerFanOut: COST,
  temporalCpuMsPerEvent: COST,
  temporalCpuMsPerDelivery: COST,
  temporalCpuMsPerFanOut: COST,
  postgresCpuMsPerEvent: COST,
  postgresCpuMsPerDelivery: COST,
  /** One more attempt of a delivery that failed. */
  serviceCpuMsPerRetry: COST,
  temporalCpuMsPerRetry: COST,
  /** Bytes of Postgres's log, with payloads of 1 KiB. */
  walBytesPerEvent: COST,
  walBytesPerDelivery: COST,
  transactionsPerEvent: COST,
  transactionsPerDelivery: COST,
  /** Bytes in Postgres's tables and indexes, with payloads of 1 KiB. */
  storedBytesPerEvent: COST,
  storedBytesPerDelivery: COST,
  storedBytesPerWebhook: COST,
  /** Bytes of the Temporal server's history. */
  historyBytesPerFanOut: COST,
  historyBytesPerEvent: COST,
  /** Of a request besides its payload: its first line and headers, without what TLS and TCP add. */
  requestBytes: COST,
  /** An event to one endpoint besides accepting it: in a request of its own, and in one for a hundred. CPU of all processes, in ms. */
  singleCpuMsPerEvent: COST,
  batchedCpuMsPerEvent: COST,
} as const satisfies Readonly<Record<string, FigureRule>>

export type UnitCosts = Readonly<Record<keyof typeof RULES, number>>

/** Of the payloads that the benchmark publishes. */
export const MEASURED_PAYLOAD_BYTES = 1024

/**
 * What no benchmark writes down: docs/capacity.md says where each comes from. Where a run has the scenarios `batch-none`,
 * `batch-off` and `batch`, its own figures are taken instead.
 */
const MEASURED_APART = {
  acceptCpuMsPerEvent: 0.137,
  serviceCpuMsPerRetry: 1.2,
  temporalCpuMsPerRetry: 3.7,
  singleCpuMsPerEvent: 0.472,
  batchedCpuMsPerEvent: 0.073,
} as const

/** What `npm run bench:footprint` measures. */
const FOOTPRINT_RULES = {
  storedBytesPerEvent: COST,
  storedBytesPerDelivery: COST,
  storedBytesPerWebhook: COST,
  historyBytesPerFanOut: COST,
  historyBytesPerEvent: COST,
  requestBytes: COST,
} as const

export type Footprint = Readonly<Record<keyof typeof FOOTPRINT_RULES, number>>

/** @returns what stays behind of a unit of work, or every problem */
export function readFootprint(given: unknown): { readonly footprint: Footprint } | { readonly problems: readonly FigureProblem[] } {
  const read = readFigures(FOOTPRINT_RULES, given)
  return 'problems' in read ? read : { footprint: read.values }
}

/** As much of a benchmark's result as costs are read from. */
export interface MeasuredResult {
  readonly peer: string
  readonly scenario: string
  /** Endpoints that take an event, and events. */
  readonly f: number
  readonly m: number
  readonly delivered: number
  /** Seconds, by process group. */
  readonly cpu_s: Readonly<Record<string, number>>
  readonly cpu_s_total: number
  readonly database?:
    | {
        readonly transactions_per_delivery: number
        readonly wal_bytes_per_delivery: number
      }
    | undefined
}

/** Where events share fan-outs: one, ten and a hundred endpoints. */
const SHARED = ['S1', 'S2', 'S3']
/** One event at a time, each a fan-out of its own. */
const ALONE = 'S4'
const NEEDED = [...SHARED, ALONE]

type Measure = (result: MeasuredResult) => number

/**
 * Unit costs from the results of one run: a line through the medians of S1, S2 and S3 for what events and deliveries cost, and
 * what S4 costs beyond that for a fan-out.
 * @param footprint what stays behind, which a run does not tell
 * @returns the costs, or what the run lacks
 */
export function costsOfResults(
  results: readonly MeasuredResult[],
  footprint: Footprint,
): { readonly costs: UnitCosts } | { readonly problems: readonly FigureProblem[] } {
  const ours = results.filter(({ peer }) => peer === 'tidings')
  const lacking = NEEDED.filter((name) => !ours.some(({ scenario, database }) => scenario === name && database !== undefined))
  if (lacking.length > 0) {
    return { problems: [{ name: 'results', text: `has no ${lacking.join(', ')} of Tidings with what Postgres did; run npm run bench` }] }
  }
  const median = (scenario: string, measure: Measure) => medianOf(ours.filter((one) => one.scenario === scenario).map(measure))
  const fit = (measure: Measure) => lineThrough(SHARED.map((name) => ({ x: median(name, ({ f }) => f), y: median(name, measure) })))
  const cpu =
    (group: string): Measure =>
    ({ cpu_s: all, m }) =>
      ((all[group] ?? 0) * 1000) / m
  const database =
    (name: 'transactions' | 'wal_bytes'): Measure =>
    (result) =>
      ((result.database?.[`${name}_per_delivery`] ?? NaN) * result.delivered) / result.m
  const beyond = (group: string, line: Linear) => Math.max(0, median(ALONE, cpu(group)) - line.perEvent - line.perDelivery)
  const service = fit(cpu('node'))
  const temporal = fit(cpu('temporal'))
  const costs = {
    ...MEASURED_APART,
    ...footprint,
    ...named('serviceCpuMs', service),
    serviceCpuMsPerFanOut: beyond('node', service),
    ...named('temporalCpuMs', temporal),
    temporalCpuMsPerFanOut: beyond('temporal', temporal),
    ...named('postgresCpuMs', fit(cpu('postgres'))),
    ...named('walBytes', fit(database('wal_bytes'))),
    ...named('transactions', fit(database('transactions'))),
    ...batchCosts(median),
  }
  return { costs: { ...costs, acceptCpuMsPerEvent: Math.min(costs.acceptCpuMsPerEvent, costs.serviceCpuMsPerEvent) } }
}

/** What accepting costs, and delivering besides, where the run has it. */
function batchCosts(median: (scenario: string, measure: Measure) => number): Partial<UnitCosts> {
  const all: Measure = ({ cpu_s_total: total, m }) => (total * 1000) / m
  const [none, single, batched] = ['batch-none', 'batch-off', 'batch'].map((name) => median(name, all)) as [number, number, number]
  const accept = median('batch-none', ({ cpu_s: cpu, m }) => ((cpu['node'] ?? 0) * 1000) / m)
  return {
    ...(Number.isNaN(accept) ? {} : { acceptCpuMsPerEvent: accept }),
    ...(Number.isNaN(none + single + batched)
      ? {}
      : { singleCpuMsPerEvent: Math.max(0, single - none), batchedCpuMsPerEvent: Math.max(0, batched - none) }),
  }
}

function named<Name extends string>(name: Name, line: Linear): Record<`${Name}PerEvent` | `${Name}PerDelivery`, number> {
  return { [`${name}PerEvent`]: line.perEvent, [`${name}PerDelivery`]: line.perDelivery } as Record<
    `${Name}PerEvent` | `${Name}PerDelivery`,
    number
  >
}

/**
 * The line that misses these points least, each by its share of the point: a fan-out of one is as important as one of a hundred.
 * Neither part is below zero. NaN where a point is.
 */
export function lineThrough(points: readonly { readonly x: number; readonly y: number }[]): Linear {
  const kept = points.filter(({ y }) => y !== 0)
  const sum = (value: (x: number, weight: number) => number) => kept.reduce((all, { x, y }) => all + value(x, 1 / y), 0)
  const [one, x1, x2] = [sum((_, w) => w * w), sum((x, w) => x * w * w), sum((x, w) => x * x * w * w)]
  const [y0, y1] = [sum((_, w) => w), sum((x, w) => x * w)]
  const determinant = one * x2 - x1 * x1
  if (kept.length === 0) return { perEvent: 0, perDelivery: 0 }
  if (determinant === 0) return { perEvent: 0, perDelivery: y1 / x2 }
  const perDelivery = (one * y1 - x1 * y0) / determinant
  const perEvent = (x2 * y0 - x1 * y1) / determinant
  if (perEvent < 0) return { perEvent: 0, perDelivery: y1 / x2 }
  if (perDelivery < 0) return { perEvent: y0 / one, perDelivery: 0 }
  return { perEvent, perDelivery }
}

/** Costs that somebody wrote down, every one of them. @returns the costs, or every problem */
export function readUnitCosts(given: unknown): { readonly costs: UnitCosts } | { readonly problems: readonly FigureProblem[] } {
  const read = readFigures(RULES, given)
  return 'problems' in read ? read : { costs: read.values }
}

/** What an event costs in one request with `events`, besides accepting it: a part for each request, and one for each event. */
export function batchedCpuMs(costs: UnitCosts, events: number): number {
  const { singleCpuMsPerEvent: single, batchedCpuMsPerEvent: batched } = costs
  const perRequest = Math.max(0, (single - batched) / (1 - 1 / MEASURED_BATCH))
  return single - perRequest + perRequest / events
}

/** Events in a request of the benchmark's batches. */
const MEASURED_BATCH = 100

function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  return sorted.length % 2 === 0 ? ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2 : sorted[Math.floor(middle)]!
}
