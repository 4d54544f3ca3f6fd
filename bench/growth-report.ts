import type { Dimension } from './growth-points.ts'
import { UNITS } from './growth-points.ts'
import type { Result } from './result.ts'
import { medianOf, spreadOf } from './statistics.ts'
import { drawSvg, type Lines } from '../cli/svg.ts'
import { markdown } from './table.ts'

/** The repetitions of one point. */
export interface Measured {
  readonly dimension: Dimension
  /** As it was: of stored messages perhaps fewer than were meant. */
  readonly size: number
  readonly results: readonly Result[]
}

/** Where a cost leaves the flat part of its curve. */
export interface Departure {
  readonly size: number
  /** Where it was least. */
  readonly leastAt: number
  readonly times: number
}

const FACTOR = 2
export const GROUPS = ['node', 'temporal', 'postgres'] as const

/** CPU milliseconds of a group, or of all, for one delivery. */
function cpuMs(result: Result, group?: string): number {
  const seconds = group === undefined ? result.cpu_s_total : (result.cpu_s[group] ?? 0)
  return (seconds * 1000) / Math.max(1, result.delivered)
}

/**
 * The first size beyond that of the least cost at which the cost is over twice the least.
 * @param costs by size, rising sizes
 */
export function departureOf(costs: readonly (readonly [size: number, cost: number])[]): Departure | undefined {
  const least = costs.reduce((best, one) => (one[1] < best[1] ? one : best), costs[0] ?? [0, Infinity])
  const first = costs.find(([size, cost]) => size > least[0] && cost > FACTOR * least[1])
  return first && { size: first[0], leastAt: least[0], times: first[1] / least[1] }
}

/**
 * The first size to which the cost rises by a greater factor than the size does: a cliff, where what merely grows with the bytes
 * of a payload is none.
 * @param costs by size, rising sizes
 */
export function cliffOf(costs: readonly (readonly [size: number, cost: number])[]): number | undefined {
  return costs.find(([size, cost], i) => i > 0 && cost / costs[i - 1]![1] > size / costs[i - 1]![0])?.[0]
}

/** Cells are min/median/max of the repetitions. */
export function growthTable(points: readonly Measured[]): string {
  const columns: readonly (readonly [string, (result: Result) => number])[] = [
    ['deliveries/s', (result) => result.deliveries_per_s],
    ['p50 ms', (result) => result.latency.p50_ms],
    ['p99 ms', (result) => result.latency.p99_ms],
    ['CPU ms a delivery', (result) => cpuMs(result)],
    ...GROUPS.map((group) => [group, (result: Result) => cpuMs(result, group)] as const),
    ...GROUPS.map((group) => [`MB ${group}`, (result: Result) => result.rss_mb[group] ?? 0] as const),
    ['statements', (result) => result.database?.statements_per_delivery ?? 0],
    ['WAL bytes', (result) => result.database?.wal_bytes_per_delivery ?? 0],
    ['lost', (result) => result.lost],
  ]
  const rows = points.map(({ size, results }) => [number(size), ...columns.map(([, value]) => spreadOf(results.map(value)))])
  return markdown([[points[0] === undefined ? '' : UNITS[points[0].dimension], ...columns.map(([heading]) => heading)], ...rows])
}

/** One line that tells where the cost of a delivery leaves the flat part, and whose it is. */
export function verdictOf(points: readonly Measured[]): string {
  const dimension = points[0]?.dimension
  if (dimension === undefined) return 'nothing measured'
  const costs = (value: (result: Result) => number) => points.map(({ size, results }) => [size, medianOf(results.map(value))] as const)
  const total = costs((result) => cpuMs(result))
  const failed = points.find(({ results }) => results.some((result) => result.lost > 0 || result.publish_errors > 0))
  const broken = failed === undefined ? '' : `; at ${number(failed.size)} deliveries were lost or publishes refused`
  const departure = departureOf(total)
  const latency = departureOf(costs((result) => result.latency.p99_ms))
  const late = latency === undefined ? '' : `; p99 is ${latency.times.toFixed(1)} times its least from ${number(latency.size)} on`
  if (departure === undefined) {
    return `${dimension}: a delivery costs nowhere twice its least up to ${number(points.at(-1)!.size)}${late}${broken}`
  }
  const at = (size: number) => points.find((point) => point.size === size)!
  const rise = (group: string) => {
    const cost = (size: number) => medianOf(at(size).results.map((result) => cpuMs(result, group)))
    return cost(departure.size) - cost(departure.leastAt)
  }
  const first = GROUPS.toSorted((a, b) => rise(b) - rise(a))[0]!
  const times = `${departure.times.toFixed(1)} times what it does at ${number(departure.leastAt)}`
  const cliff = cliffOf(total)
  const how = cliff === undefined ? 'never by more than the size rises' : `a cliff at ${number(cliff)}`
  return `${dimension}: at ${number(departure.size)} a delivery costs ${times}, most of the rise in ${first}, ${how}${late}${broken}`
}

/** For each dimension the rate, the latency and the cost of a delivery. */
export function plotGrowth(heading: string, measured: readonly Measured[]): string {
  const plots: Lines[] = [...new Set(measured.map(({ dimension }) => dimension))].flatMap((dimension) => {
    const points = measured.filter((point) => point.dimension === dimension)
    const line = (name: string, value: (result: Result) => number) => ({
      name,
      points: points.map(({ size, results }) => [size, medianOf(results.map(value))] as const),
    })
    const axis = { xLabel: UNITS[dimension], logarithmic: true }
    return [
      { title: `${dimension}: deliveries a second`, ...axis, lines: [line('deliveries/s', (result) => result.deliveries_per_s)] },
      {
        ...{ title: `${dimension}: latency, ms`, ...axis },
        lines: [line('p50', (result) => result.latency.p50_ms), line('p99', (result) => result.latency.p99_ms)],
      },
      {
        ...{ title: `${dimension}: CPU of a delivery, ms`, ...axis },
        lines: [line('all', (result) => cpuMs(result)), ...GROUPS.map((group) => line(group, (result) => cpuMs(result, group)))],
      },
    ]
  })
  return drawSvg(heading, plots)
}

function number(size: number): string {
  return size.toLocaleString('en-US')
}
