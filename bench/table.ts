import type { Result } from './result.ts'
import { ratiosToRelay, type Ratio } from './ratios.ts'
import { medianOf, spreadOf } from './statistics.ts'

const BAR_WIDTH = 60

type Column = readonly [heading: string, value: (result: Result) => number]

const RATES: readonly Column[] = [
  ['events/s', (result) => result.accepted_per_s],
  ['deliveries/s', (result) => result.deliveries_per_s],
  ['p50 ms', (result) => result.latency.p50_ms],
  ['p99 ms', (result) => result.latency.p99_ms],
  ['lost', (result) => result.lost],
  ['dup', (result) => result.duplicated],
  ['errors', (result) => result.publish_errors],
]

const MACHINE: readonly Column[] = [
  ['CPU ms a delivery', (result) => (result.cpu_s_total * 1000) / Math.max(1, result.delivered)],
  ['CPU s others', (result) => result.other_cpu_s],
  ['load', (result) => result.load1_max],
]

const LATENESS: readonly Column[] = [
  ['retries', ({ retry }) => retry?.retries ?? 0],
  ['waiting at once', ({ retry }) => retry?.waiting_max ?? 0],
  ['due in one s', ({ retry }) => retry?.due_per_s_max ?? 0],
  ['p50 ms late', ({ retry }) => retry?.left.p50_ms ?? 0],
  ['p99 ms late', ({ retry }) => retry?.left.p99_ms ?? 0],
  ['max ms late', ({ retry }) => retry?.left.max_ms ?? 0],
  ['p99 ms to the sink', ({ retry }) => retry?.arrived.p99_ms ?? 0],
  ['load', (result) => result.load1_max],
]

const REQUESTS: readonly Column[] = [
  ['requests', (result) => result.requests],
  ['to those down', (result) => result.unhealthy_hits],
  ['seconds to the last', (result) => result.total_seconds],
  ['service CPU ms per event', (result) => (result.cpu_s_total * 1000) / result.m],
]

/** Events that are accepted and go nowhere, and events that are sent singly: what others are compared with. */
const ACCEPTED_ONLY = 'batch-none'
const SINGLE = 'batch-off'

/** What delivering an event costs the service's processes besides accepting it, which is the median of its repetitions. */
function deliveryCosts(results: readonly Result[]): string | undefined {
  const cpuUs = (result: Result) => (result.cpu_s_total * 1_000_000) / result.m
  const median = (scenario: string) => medianOf(results.filter((one) => one.scenario === scenario).map(cpuUs))
  const acceptingUs = median(ACCEPTED_ONLY)
  const singlyUs = median(SINGLE) - acceptingUs
  if (Number.isNaN(singlyUs)) return undefined
  return table(
    results.filter(({ scenario }) => scenario.startsWith('batch')),
    [
      ['CPU µs an event', cpuUs],
      ['besides accepting it', (result) => cpuUs(result) - acceptingUs],
      ['of that of one sent singly', (result) => (cpuUs(result) - acceptingUs) / singlyUs],
    ],
  )
}

const QUIET_GROUPS = ['node', 'temporal', 'postgres'] as const
const QUIET: readonly Column[] = [
  ['seconds', ({ quiet }) => quiet?.seconds ?? 0],
  ...QUIET_GROUPS.map((name): Column => [`CPU s ${name} before`, ({ quiet }) => quiet?.before[name] ?? 0]),
  ...QUIET_GROUPS.map((name): Column => [`CPU s ${name} after`, ({ quiet }) => quiet?.after[name] ?? 0]),
  ['requests after', ({ quiet }) => quiet?.requests ?? 0],
]

const RECOVERY: readonly Column[] = [
  ['refused before', ({ recovery }) => recovery?.refused ?? 0],
  ['s to the first', ({ recovery }) => recovery?.first_s ?? 0],
  ['s to the last', ({ recovery }) => recovery?.last_s ?? 0],
  ['most in one s', ({ recovery }) => Math.max(...(recovery?.per_s ?? [0]))],
  ['most of one endpoint in one s', ({ recovery }) => recovery?.endpoint_per_s_max ?? 0],
  ...QUIET_GROUPS.map((name): Column => [`most CPU ${name}`, ({ recovery }) => recovery?.cpu_max[name] ?? 0]),
]

/** What the service used, by process group, and its Postgres where it is known. */
function costs(results: readonly Result[]): Column[] {
  const groups = [...new Set(results.flatMap(({ cpu_s: cpu }) => Object.keys(cpu)))]
  const cpu = groups.map((name): Column => [`CPU s ${name}`, (result) => result.cpu_s[name] ?? 0])
  const memory = [...new Set(results.flatMap(({ rss_mb: rss }) => Object.keys(rss)))]
  const rss = memory.map((name): Column => [`MB ${name}`, (result) => result.rss_mb[name] ?? 0])
  const counted = results.some(({ database }) => database?.statements_per_delivery !== undefined)
  const per = counted
    ? (['statements', ({ database }: Result) => database?.statements_per_delivery ?? 0] as const)
    : (['transactions', ({ database }: Result) => database?.transactions_per_delivery ?? 0] as const)
  const written: Column = ['WAL bytes a delivery', ({ database }) => database?.wal_bytes_per_delivery ?? 0]
  const database: Column[] = results.some((result) => result.database !== undefined) ? [[`${per[0]} a delivery`, per[1]], written] : []
  return [...cpu, ...rss, ...database]
}

/** Arrivals of each second as a bar. */
function plot({ scenario, rep, recovery }: Result): string {
  const perS = recovery?.per_s ?? []
  const most = Math.max(1, ...perS)
  const bars = perS.map((n, s) => `${String(s).padStart(4)} s ${String(n).padStart(6)} ${'#'.repeat(Math.ceil((n / most) * BAR_WIDTH))}`)
  return [`${scenario}, repetition ${rep}: arrivals in each second from the first on`, ...bars].join('\n')
}

/** Markdown tables: what was measured, and how late retries were. Cells are min/median/max of the repetitions. */
export function tables(results: readonly Result[]): string {
  const all = results.filter(({ scenario }) => scenario !== 'S0')
  const shown = all.filter(({ peer }) => peer === 'tidings')
  const parts = [table(all, [...RATES, ...MACHINE]), table(shown, costs(shown))]
  const ratios = ratiosToRelay(all)
  if (ratios.length > 0) parts.push(ratioTable(ratios))
  if (shown.some(({ requests, delivered, unhealthy_hits: hits }) => requests < delivered || hits > 0)) parts.push(table(shown, REQUESTS))
  const batches = deliveryCosts(shown)
  if (batches !== undefined) parts.push(batches)
  const quiet = shown.filter((result) => result.quiet !== undefined)
  if (quiet.length > 0) parts.push(table(quiet, QUIET))
  const recovered = shown.filter(({ recovery }) => recovery !== undefined)
  if (recovered.length > 0) parts.push(table(recovered, RECOVERY), ...recovered.map(plot))
  const retries = shown.filter(({ retry }) => retry !== undefined)
  if (retries.length > 0) parts.push(table(retries, LATENESS))
  const givenUp = shown.filter((result) => result.timed_out !== undefined)
  parts.push(...givenUp.map((result) => `${result.scenario}, repetition ${result.rep}: given up, ${result.timed_out}`))
  const refused = shown.filter((result) => result.first_error !== undefined)
  parts.push(...refused.map((result) => `${result.scenario}, repetition ${result.rep}: ${result.first_error}`))
  return `${parts.join('\n\n')}\n`
}

function table(results: readonly Result[], columns: readonly Column[]): string {
  const rows = [['scenario', ...columns.map(([heading]) => heading)]]
  for (const title of new Set(results.map(titleOf))) {
    const some = results.filter((result) => titleOf(result) === title)
    rows.push([title, ...columns.map(([, value]) => spreadOf(some.map(value)))])
  }
  return markdown(rows)
}

/** Of the row of a result. */
export function titleOf({ scenario, peer }: Result): string {
  return peer === 'relay' ? `${scenario}, bare relay` : scenario
}

/** The ratios of the repetitions to those of the bare relay. */
function ratioTable(ratios: readonly Ratio[]): string {
  const rows = ratios.map(({ scenario, events, deliveries, p50 }) => [scenario, ...[events, deliveries, p50].map(spreadOf)])
  return markdown([['of the bare relay', 'events/s', 'deliveries/s', 'p50'], ...rows])
}

/** @param rows the heading first */
export function markdown(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)))
  const line = (cells: readonly string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`
  const [head, ...body] = rows.map(line)
  return [head, line(widths.map((width) => '-'.repeat(width))), ...body].join('\n')
}
