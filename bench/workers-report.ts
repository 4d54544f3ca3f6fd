import { medianOf, rounded, spreadOf } from './statistics.ts'
import { drawSvg } from '../cli/svg.ts'
import { markdown } from './table.ts'

/** One number of workers, once. */
export interface Step {
  readonly workers: number
  readonly rep: number
  /** What they could do if nothing but waiting took time. */
  readonly perfect_per_s: number
  /** Between the 10th and the 90th percent of the arrivals. */
  readonly deliveries_per_s: number
  readonly delivered: number
  readonly lost: number
  readonly duplicated: number
  readonly publish_s: number
  /** From the first publish to the last arrival. */
  readonly total_s: number
  /** Seconds of CPU by process group, and of everything else on the machine. */
  readonly cpu_s: Readonly<Record<string, number>>
  readonly cpu_s_total: number
  readonly other_cpu_s: number
  /** All of the machine's, on average. */
  readonly cores_busy: number
  readonly load1: number
}

const GROUPS = ['workers', 'api', 'temporal', 'postgres'] as const

/** Markdown; `of linear` is the median against as many times that of the fewest workers. */
export function workersTable(steps: readonly Step[]): string {
  const heading = ['workers', 'deliveries/s', 'of linear', 'of perfect', ...GROUPS.map((name) => `CPU s ${name}`)]
  const rows = counts(steps).map((count) => {
    const some = steps.filter(({ workers }) => workers === count)
    const column = (value: (step: Step) => number) => spreadOf(some.map(value))
    return [
      ...[String(count), column(({ deliveries_per_s: perS }) => perS), `${rounded(linearity(steps, count) * 100, 0)} %`],
      `${rounded((median(steps, count) / some[0]!.perfect_per_s) * 100, 0)} %`,
      ...GROUPS.map((name) => column((step) => step.cpu_s[name] ?? 0)),
      ...[column((step) => step.cores_busy), column((step) => step.lost), column((step) => step.duplicated)],
    ]
  })
  return markdown([[...heading, 'cores busy', 'lost', 'twice'], ...rows])
}

export function plotWorkers(heading: string, steps: readonly Step[]): string {
  const line = (name: string, value: (count: number) => number) => ({
    name,
    points: counts(steps).map((count) => [count, value(count)] as const),
  })
  const least = counts(steps)[0] ?? 1
  const axis = { xLabel: 'worker processes', logarithmic: false }
  const busy = (count: number) => medianOf(steps.filter(({ workers }) => workers === count).map((step) => step.cores_busy))
  return drawSvg(heading, [
    {
      ...{ title: 'deliveries a second', ...axis },
      lines: [line('measured', (count) => median(steps, count)), line('linear', (count) => (median(steps, least) / least) * count)],
    },
    { title: 'cores busy, of the whole machine', ...axis, lines: [line('cores', busy)] },
  ])
}

function counts(steps: readonly Step[]): number[] {
  return [...new Set(steps.map(({ workers }) => workers))].sort((a, b) => a - b)
}

function median(steps: readonly Step[], count: number): number {
  return medianOf(steps.filter(({ workers }) => workers === count).map((step) => step.deliveries_per_s))
}

function linearity(steps: readonly Step[], count: number): number {
  const least = counts(steps)[0]!
  return median(steps, count) / ((median(steps, least) / least) * count)
}
