import { REQUEST, type Contradiction, type RequestResources, type RequestYear } from '../../domain/capacity-request.ts'
import type { UnitCosts } from '../../domain/capacity-costs.ts'
import type { CapacityInput } from '../../domain/capacity-input.ts'
import type { Prices } from '../../domain/capacity-prices.ts'
import type { YearPlan } from '../../domain/capacity.ts'
import { tiersOf, type StorageTiers, type Tier } from '../../domain/storage-tiers.ts'

/** Everything that a plan tells: what `--format json` writes, and what the other formats are made of. */
export interface PlanReport {
  readonly input: CapacityInput
  readonly costs: { readonly source: string; readonly units: UnitCosts }
  readonly prices: { readonly source: string; readonly currency: 'USD a month'; readonly each: Prices }
  readonly years: readonly YearPlan[]
  readonly advice: readonly string[]
  readonly request: {
    readonly years: readonly RequestYear[]
    /** Its unit costs applied to the load of this plan, for each year. */
    readonly atThisLoad: readonly RequestResources[]
    readonly contradictions: readonly Contradiction[]
  }
}

/** A table: a heading for each column, and rows of as many cells. */
export interface Table {
  readonly title: string
  readonly columns: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** The tables of a plan, in the order in which they are shown. */
export function tablesOf(report: PlanReport): Table[] {
  return [loadTable(report), needTable(report), costTable(report), tierTable(report), requestTable(report), unitTable(report)]
}

type Row = readonly [label: string, cell: (year: YearPlan, i: number) => string]

const rowsOf = (years: readonly YearPlan[], rows: readonly Row[]) =>
  rows.map(([label, cell]) => [label, ...years.map((year, i) => cell(year, i))])

const yearColumns = (years: readonly YearPlan[]) => years.map(({ year }) => `year ${year}`)

function loadTable({ years }: PlanReport): Table {
  const rows: readonly Row[] = [
    ['webhooks', ({ load }) => short(load.webhooks)],
    ['events a day', ({ load }) => short(load.eventsPerDay)],
    ['deliveries a day', ({ load }) => short(load.deliveriesPerDay)],
    ['deliveries a second, of the day', ({ load }) => whole(load.deliveriesPerS)],
    ['deliveries a second, at the peak', ({ peak }) => whole(peak.deliveriesPerS)],
  ]
  return { title: 'Load', columns: ['', ...yearColumns(years)], rows: rowsOf(years, rows) }
}

function needTable({ years }: PlanReport): Table {
  const both = (of: (fleet: YearPlan['peak']) => number) => (year: YearPlan) => `${whole(of(year.average))} to ${whole(of(year.peak))}`
  const rows: readonly Row[] = [
    ['workers (--role all), day to peak', both(({ workers }) => workers)],
    ['  bound at the peak by', ({ peak }) => peak.boundBy],
    ['  kept busy by dispatching', both(({ dispatchers }) => dispatchers)],
    ['API processes', both(({ apis }) => apis)],
    ['fan-outs a second', both(({ fanOutsPerS }) => fanOutsPerS)],
    ['events in a fan-out, at the peak', ({ peak }) => decimal(peak.eventsPerFanOut)],
    ['Temporal: state transitions a second', ({ temporal }) => whole(temporal.transitionsPerS)],
    ['  history shards (fixed at the start)', ({ temporal }) => whole(temporal.historyShards)],
    ['  partitions of fan-out, of deliver-retry-*', ({ temporal }) => `${temporal.fanOutPartitions}, ${temporal.retryPartitions}`],
    ['  cores, machines', ({ temporal }) => `${decimal(temporal.cores)}, ${temporal.machines}`],
    ['  history', ({ temporal }) => bytes(temporal.historyGb * 1e9)],
    ['Postgres: primaries', ({ database }) => whole(database.primaries)],
    ['  cores', ({ database }) => decimal(database.cores)],
    ['  log a second', ({ database }) => bytes(database.walBytesPerS)],
    ['  transactions, I/O a second', ({ database }) => `${whole(database.transactionsPerS)}, ${whole(database.iops)}`],
    ['  size', ({ database }) => bytes(database.gb * 1e9)],
    ['egress at the peak', ({ network }) => `${bytes(network.peakBytesPerS)}/s`],
    ['egress a month', ({ network }) => bytes(network.gbPerMonth * 1e9)],
  ]
  return { title: 'What it needs', columns: ['', ...yearColumns(years)], rows: rowsOf(years, rows) }
}

function costTable({ years }: PlanReport): Table {
  const rows: readonly Row[] = [
    ['workers', ({ cost }) => money(cost.workers)],
    ['API', ({ cost }) => money(cost.apis)],
    ['Temporal', ({ cost }) => money(cost.temporal)],
    ['Postgres', ({ cost }) => money(cost.database)],
    ['storage', ({ cost }) => money(cost.storage)],
    ['egress', ({ cost }) => money(cost.network)],
    ['together', ({ cost }) => money(cost.total)],
    ['without autoscaling', ({ cost }) => money(cost.withoutScaling)],
    ['for 1M deliveries', ({ cost, load }) => `$${(cost.total / ((load.deliveriesPerDay * 30) / 1e6)).toFixed(3)}`],
  ]
  return { title: 'USD a month', columns: ['', ...yearColumns(years)], rows: rowsOf(years, rows) }
}

/** What the request has for its three tiers, and says that they save. */
const REQUESTED_TIERS = ['$1,000', '$2,000', '$500', '$3,500', '', '80%']

function tierTable({ years, input, costs, prices }: PlanReport): Table {
  const tiers = years.map(({ load }) => tiersOf(load, input, costs.units, prices.each))
  const tier = ({ gb, monthly }: Tier) => `${bytes(gb * 1e9)}, ${money(monthly)}`
  const rows: readonly (readonly [string, (one: StorageTiers) => string])[] = [
    ['hot: 7 days', ({ hot }) => tier(hot)],
    ['warm: to 30 days, failures and messages to 90', ({ warm }) => tier(warm)],
    ['archive: a year', ({ archive }) => tier(archive)],
    ['together', ({ monthly }) => money(monthly)],
    ['a year in the database', ({ withoutTiers }) => tier(withoutTiers)],
    ['saved', ({ monthly, withoutTiers }) => `${whole((1 - monthly / withoutTiers.monthly) * 100)}%`],
  ]
  return {
    title: 'History by tiers, USD a month',
    columns: ['', ...yearColumns(years), 'request'],
    rows: rows.map(([label, cell], i) => [label, ...tiers.map(cell), REQUESTED_TIERS[i]!]),
  }
}

function requestTable({ years, request }: PlanReport): Table {
  const rows = request.years.map((asked) => {
    const ours = years.find(({ load }) => load.deliveriesPerDay === asked.deliveriesPerDay)
    return [
      String(asked.year),
      short(asked.webhooks),
      short(asked.eventsPerDay),
      short(asked.deliveriesPerDay),
      whole(asked.deliveriesPerS),
      money(asked.stated),
      money(asked.resources.monthly),
      ours === undefined ? '' : money(ours.cost.total),
    ]
  })
  const columns = ['year', 'webhooks', 'events a day', 'deliveries a day', 'a second', 'as stated', 'by its unit costs', 'Tidings']
  return { title: 'Growth projections of the request', columns, rows }
}

function unitTable({ years, request }: PlanReport): Table {
  const { per1000 } = REQUEST
  const first = years[0]!
  const thousands = first.load.deliveriesPerS / 1000
  const each = (value: number) => decimal(value / thousands)
  const atRate = request.atThisLoad[0]!
  const rate = `at ${whole(first.load.deliveriesPerS)}/s`
  return {
    title: 'Resource allocation for 1,000 deliveries a second',
    columns: ['', 'request', 'Tidings, year 1', `request ${rate}`, `Tidings ${rate}`],
    rows: [
      ['workers', String(per1000.workers), each(first.average.workers), whole(Math.ceil(atRate.workers)), whole(first.average.workers)],
      [
        'dispatchers',
        String(per1000.dispatchers),
        each(first.average.dispatchers),
        whole(Math.ceil(atRate.dispatchers)),
        whole(first.average.dispatchers),
      ],
      [
        'brokers; Temporal',
        String(per1000.brokers),
        each(first.temporal.machines),
        whole(Math.ceil(atRate.brokers)),
        whole(first.temporal.machines),
      ],
      [
        'database',
        `${per1000.databaseGb} GB`,
        bytes((first.database.gb * 1e9) / thousands),
        bytes(atRate.databaseGb * 1e9),
        bytes(first.database.gb * 1e9),
      ],
      ['USD a month', money(per1000.monthly), money(first.cost.total / thousands), money(atRate.monthly), money(first.cost.total)],
    ],
  }
}

/** What the plan says in words. */
export function adviceOf(years: readonly YearPlan[], input: CapacityInput, prices: Prices): string[] {
  const last = years.at(-1)!
  const advice: string[] = []
  if (last.peak.boundBy === 'requests in flight') {
    advice.push(
      `Requests in flight decide on the number of workers (${input.inFlight} each, of ${input.latencyMs} ms), not CPU: raise TIDINGS_LANE_REQUESTS, and plan again with --in-flight.`,
    )
  }
  if (last.peak.eventsPerFanOut < 1.5 && last.peak.eventsPerS > 100) {
    advice.push(
      'Each event is a fan-out of its own, because so many workers dispatch: fewer, busier workers make fan-outs larger and cheaper.',
    )
  }
  const split = years.find(({ database }) => database.primaries > 1)
  if (split !== undefined) {
    advice.push(
      `From year ${split.year} on one Postgres is not enough (${bytes(split.database.gb * 1e9)}, ${bytes(split.database.walBytesPerS)} of log a second; one has ${bytes(prices.databaseGbMax * 1e9)} and ${bytes(prices.databaseWalBytesPerS)}): keep less (--retention-days), or spread it over shards (docs/sharding.md).`,
    )
  }
  advice.push(
    `Set numHistoryShards to ${last.temporal.historyShards} before the first start: it cannot be changed. The Temporal server's own database is counted as one machine; what it needs was not measured.`,
  )
  return advice
}

export const whole = (value: number): string => Math.round(value).toLocaleString('en-US')
export const money = (usd: number): string => `$${whole(usd)}`
const decimal = (value: number): string => (value >= 100 ? whole(value) : String(Number(value.toPrecision(3))))

function short(value: number): string {
  for (const [size, unit] of [
    [1e12, 'T'],
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'K'],
  ] as const) {
    if (value >= size) return `${Number((value / size).toPrecision(3))}${unit}`
  }
  return decimal(value)
}

function bytes(value: number): string {
  for (const [size, unit] of [
    [1e15, 'PB'],
    [1e12, 'TB'],
    [1e9, 'GB'],
    [1e6, 'MB'],
    [1e3, 'kB'],
  ] as const) {
    if (value >= size) return `${Number((value / size).toPrecision(3))} ${unit}`
  }
  return `${whole(value)} B`
}
