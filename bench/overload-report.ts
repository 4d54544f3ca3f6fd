import { rounded } from './statistics.ts'
import { drawSvg, type Lines } from '../cli/svg.ts'
import { markdown } from './table.ts'

/** What was seen at one moment. */
export interface Sample {
  /** Since the first publish. */
  readonly seconds: number
  /** Resident MB by process group, and `heap`: what V8 uses of the service's. */
  readonly mb: Readonly<Record<string, number>>
  /** Answers so far. */
  readonly accepted: number
  readonly refused: number
  /** Messages that wait in Postgres for their fan-out. */
  readonly backlog: number
  /** Deliveries so far, to endpoints that answer. */
  readonly delivered: number
}

/** How the memory of one group went while it was overloaded. In MB. */
export interface Trend {
  readonly minute1: number
  readonly middle: number
  readonly end: number
  readonly max: number
  /** A minute, of the line through the second half. */
  readonly slope: number
  /** Whether that line rises or falls by at most 5 % of the half's mean. */
  readonly flat: boolean
}

const MINUTE_S = 60
const FLAT_SHARE = 0.05

/** @param samples in the order of their time; one at least */
export function trendOf(samples: readonly Sample[], group: string): Trend {
  const endS = samples.at(-1)!.seconds
  const mb = (sample: Sample) => sample.mb[group] ?? 0
  const at = (seconds: number) => mb(samples.find((sample) => sample.seconds >= seconds) ?? samples.at(-1)!)
  const half = samples.filter(({ seconds }) => seconds >= endS / 2)
  const mean = (value: (sample: Sample) => number) => half.reduce((sum, sample) => sum + value(sample), 0) / half.length
  const [meanS, meanMb] = [mean(({ seconds }) => seconds), mean(mb)]
  const spread = half.reduce((sum, { seconds }) => sum + (seconds - meanS) ** 2, 0)
  const together = half.reduce((sum, sample) => sum + (sample.seconds - meanS) * (mb(sample) - meanMb), 0)
  const perSecond = spread === 0 ? 0 : together / spread
  const change = perSecond * (endS - half[0]!.seconds)
  return {
    ...{ minute1: at(Math.min(MINUTE_S, endS)), middle: at(endS / 2), end: at(endS), max: Math.max(...samples.map(mb)) },
    slope: rounded(perSecond * MINUTE_S, 2),
    flat: Math.abs(change) <= FLAT_SHARE * meanMb,
  }
}

export function trendTable(samples: readonly Sample[]): string {
  const rows = groupsOf(samples).map((group) => {
    const { minute1, middle, end, max, slope, flat } = trendOf(samples, group)
    return [group, ...[minute1, middle, end, max].map((mb) => mb.toFixed(0)), slope.toFixed(2), flat ? 'yes' : 'no']
  })
  return markdown([['MB', 'minute 1', 'middle', 'end', 'most', 'MB/minute, second half', 'flat within 5 %'], ...rows])
}

export function plotOverload(heading: string, samples: readonly Sample[]): string {
  const line = (name: string, value: (sample: Sample) => number) => ({
    name,
    points: samples.map((sample) => [rounded(sample.seconds / MINUTE_S, 2), value(sample)] as const),
  })
  const perS = (value: (sample: Sample) => number) => (sample: Sample) => {
    const before = samples[samples.indexOf(sample) - 1]
    return before === undefined ? 0 : rounded((value(sample) - value(before)) / (sample.seconds - before.seconds), 0)
  }
  const axis = { xLabel: 'minutes', logarithmic: false }
  const plots: Lines[] = [
    {
      ...{ title: 'resident memory and heap, MB', ...axis },
      lines: groupsOf(samples).map((group) => line(group, ({ mb }) => mb[group] ?? 0)),
    },
    {
      title: 'answers a second',
      ...axis,
      lines: [
        line(
          '202',
          perS((one) => one.accepted),
        ),
        line(
          '429',
          perS((one) => one.refused),
        ),
      ],
    },
    {
      title: 'deliveries a second',
      ...axis,
      lines: [
        line(
          'deliveries',
          perS((one) => one.delivered),
        ),
      ],
    },
    { title: 'messages that wait in Postgres', ...axis, lines: [line('outbox', ({ backlog }) => backlog)] },
  ]
  return drawSvg(heading, plots)
}

function groupsOf(samples: readonly Sample[]): string[] {
  return [...new Set(samples.flatMap(({ mb }) => Object.keys(mb)))]
}
