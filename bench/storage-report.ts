import { drawSvg } from '../cli/svg.ts'
import { medianOf, spreadOf } from './statistics.ts'
import type { Read } from './storage-reads.ts'

/** One step of the filling. */
export interface Filled {
  /** That are there after it. */
  readonly attempts: number
  readonly perS: number
  /** Of the same into an empty database, before and after it. */
  readonly besidePerS: number | undefined
}

/** Of one day's tables, in bytes. */
export interface Weight {
  readonly name: string
  readonly rows: number
  readonly table: number
  readonly indexes: number
  readonly archived: number
}

export interface Drop {
  readonly name: string
  readonly bytes: number
  readonly ms: number
}

export interface StorageRun {
  readonly attempts: number
  readonly days: number
  readonly filled: readonly Filled[]
  readonly weights: readonly Weight[]
  /** Seconds in which all of it was rolled up. */
  readonly rollupsS: number
  readonly reads: readonly Read[]
  readonly drops: readonly Drop[]
}

export function storageReport({ attempts, days, filled, weights, rollupsS, reads, drops }: StorageRun): string {
  const [first, last] = [filled[0]!, filled.at(-1)!]
  const ratio = (one: Filled) => (one.besidePerS === undefined ? NaN : one.perS / one.besidePerS)
  const rates = filled.map(({ perS }) => perS)
  const lines = [
    `${attempts} attempts of ${days} days`,
    `attempts a second: first step ${first.perS.toFixed(0)}, last ${last.perS.toFixed(0)} (${share(last.perS / first.perS)}), all ${spreadOf(rates)}`,
    `of what an empty database takes: first ${share(ratio(first))}, last ${share(ratio(last))}, all ${spreadOf(filled.map(ratio).filter((one) => !Number.isNaN(one)))}`,
    `rolled up in ${rollupsS.toFixed(0)} s`,
    '',
    'bytes of a row: table, indexes, archived; ratio',
    ...weights.map(weightLine),
    '',
    'ms: p50, p99, most',
    ...reads.map(
      ({ name, ms }) => `${name.padEnd(50)}${[ms.p50_ms, ms.p99_ms, ms.max_ms].map((one) => one.toFixed(1).padStart(8)).join('')}`,
    ),
    '',
    `a table dropped: ${spreadOf(drops.map(({ ms }) => ms))} ms, of ${(medianOf(drops.map(({ bytes }) => bytes)) / 1e6).toFixed(0)} MB in the median`,
  ]
  return `${lines.join('\n')}\n`
}

const share = (ratio: number) => `${(ratio * 100).toFixed(0)} %`

function weightLine({ name, rows, table, indexes, archived }: Weight): string {
  const each = [table, indexes, archived].map((bytes) => (bytes / rows).toFixed(0).padStart(7)).join('')
  return `${name.padEnd(16)}${String(rows).padStart(9)}${each}${((table + indexes) / archived).toFixed(1).padStart(7)}`
}

export function plotStorage(start: string, { filled, reads }: StorageRun): string {
  const millions = (one: Filled) => one.attempts / 1e6
  const beside = filled.flatMap((one) => (one.besidePerS === undefined ? [] : [[millions(one), one.besidePerS] as const]))
  return drawSvg(`stored history, ${start.slice(0, 10)}`, [
    {
      title: 'attempts recorded a second',
      xLabel: 'million attempts that are there',
      logarithmic: false,
      lines: [
        { name: 'by those that are there', points: filled.map((one) => [millions(one), one.perS] as const) },
        { name: 'into an empty database, beside', points: beside },
      ],
    },
    {
      title: 'reads with all of them, ms',
      series: ['p50 to p99'],
      groups: reads.map(({ name, ms }) => ({
        label: name.split(/[ ,]/).slice(0, 4).join(' '),
        values: [{ low: ms.p50_ms, median: ms.p50_ms, high: ms.p99_ms }],
      })),
    },
  ])
}
