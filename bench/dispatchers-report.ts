import { medianOf, spreadOf } from './statistics.ts'
import { drawSvg } from '../cli/svg.ts'
import { markdown } from './table.ts'

/** One number of dispatchers, once. */
export interface Drain {
  readonly dispatchers: number
  readonly rep: number
  /** That waited when the dispatchers had started. */
  readonly events: number
  readonly drained_s: number
  readonly events_per_s: number
  readonly lost: number
  readonly duplicated: number
  /** Seconds of CPU by process group, and of everything else on the machine. */
  readonly cpu_s: Readonly<Record<string, number>>
  readonly cpu_s_total: number
  readonly other_cpu_s: number
  /** All of the machine's, on average. */
  readonly cores_busy: number
}

const GROUPS = ['workers', 'temporal', 'postgres'] as const

export function dispatchersTable(drains: readonly Drain[]): string {
  const heading = ['dispatchers', 'events/s', 'seconds', 'times the fewest', ...GROUPS.map((name) => `CPU s ${name}`)]
  const rows = counts(drains).map((count) => {
    const some = drains.filter(({ dispatchers }) => dispatchers === count)
    const column = (value: (drain: Drain) => number) => spreadOf(some.map(value))
    return [
      ...[String(count), column((drain) => drain.events_per_s), column((drain) => drain.drained_s)],
      (median(drains, count) / median(drains, counts(drains)[0]!)).toFixed(2),
      ...GROUPS.map((name) => column((drain) => drain.cpu_s[name] ?? 0)),
      ...[column((drain) => drain.cores_busy), column((drain) => drain.lost), column((drain) => drain.duplicated)],
    ]
  })
  return markdown([[...heading, 'cores busy', 'lost', 'twice'], ...rows])
}

export function plotDispatchers(heading: string, drains: readonly Drain[]): string {
  const bars = (title: string, value: (drain: Drain) => number) => ({
    title,
    series: ['measured'],
    groups: counts(drains).map((count) => {
      const values = drains.filter(({ dispatchers }) => dispatchers === count).map(value)
      return {
        label: String(count),
        values: [{ low: Math.min(...values), median: medianOf(values), high: Math.max(...values) }],
      }
    }),
  })
  return drawSvg(heading, [
    bars('events a second, by dispatchers', (drain) => drain.events_per_s),
    bars('cores busy, of the whole machine', (drain) => drain.cores_busy),
  ])
}

function counts(drains: readonly Drain[]): number[] {
  return [...new Set(drains.map(({ dispatchers }) => dispatchers))].sort((a, b) => a - b)
}

function median(drains: readonly Drain[], count: number): number {
  return medianOf(drains.filter(({ dispatchers }) => dispatchers === count).map((drain) => drain.events_per_s))
}
