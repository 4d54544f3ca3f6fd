import type { Run } from './history.ts'
import type { Result } from './result.ts'
import { medianOf, spreadOf } from './statistics.ts'
import { markdown, titleOf } from './table.ts'

/** One quantity of one scenario in two runs. */
export interface Comparison {
  /** Median now divided by the median then. */
  readonly ratio: number
  /** `noise`: the ranges of the repetitions overlap, so that the difference tells nothing. */
  readonly verdict: 'noise' | 'more' | 'less'
}

/** @param now values of the repetitions; one at least, as of `then` */
export function compare(now: readonly number[], then: readonly number[]): Comparison {
  const overlap = Math.min(...now) <= Math.max(...then) && Math.min(...then) <= Math.max(...now)
  const ratio = medianOf(now) / medianOf(then)
  if (overlap) return { ratio, verdict: 'noise' }
  return { ratio, verdict: ratio > 1 ? 'more' : 'less' }
}

const QUANTITIES: readonly (readonly [heading: string, value: (result: Result) => number])[] = [
  ['deliveries/s', (result) => result.deliveries_per_s],
  ['p50 ms', (result) => result.latency.p50_ms],
  ['p99 ms', (result) => result.latency.p99_ms],
]

/** A Markdown table of the scenarios that both runs have, with the bare relay's: what changes there is the machine, not us. */
export function comparisonTable(now: Run, then: Run, thenName: string): string {
  const rows: string[][] = []
  for (const title of new Set(now.results.map(titleOf))) {
    const both = [now, then].map(({ results }) => results.filter((result) => titleOf(result) === title))
    const [ours, theirs] = both as [Result[], Result[]]
    if (title.startsWith('S0') || theirs.length === 0) continue
    for (const [heading, value] of QUANTITIES) {
      const [nowValues, thenValues] = [ours.map(value), theirs.map(value)]
      const { ratio, verdict } = compare(nowValues, thenValues)
      rows.push([title, heading, spreadOf(nowValues), spreadOf(thenValues), ratio.toFixed(2), verdict])
    }
  }
  const who = `${thenName}, ${then.commit?.slice(0, 7) ?? 'outside of git'}${then.dirty ? ' with changes' : ''}`
  if (rows.length === 0) return `no scenario in common with the last committed result (${who})`
  const machine = (run: Run) => `${run.cores} cores, ${run.cpu}, Node ${run.node}`
  const other = machine(now) === machine(then) ? '' : `\nnot the same machine: now ${machine(now)}; then ${machine(then)}`
  return `${markdown([['scenario', '', 'now', `then (${who})`, 'now / then', ''], ...rows])}\nnoise: the ranges of the repetitions overlap${other}`
}
