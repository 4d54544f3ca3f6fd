import type { Run } from './history.ts'
import type { Result } from './result.ts'
import { medianOf } from './statistics.ts'
import { drawSvg, type Bars, type Spread } from '../cli/svg.ts'

const RATED = ['S1', 'S2', 'S3', 'S5', 'S6']
const IDLE = 'S4'

/** Deliveries a second, and the latency of S4: of the service, the bare relay, and the service in the run that it is compared with. */
export function plotRun(run: Run, then: { readonly name: string; readonly run: Run } | undefined): string {
  const sources = [
    { name: 'Tidings', results: run.results.filter(({ peer }) => peer === 'tidings') },
    { name: 'bare relay', results: run.results.filter(({ peer }) => peer === 'relay') },
    ...(then === undefined ? [] : [{ name: then.name, results: then.run.results.filter(({ peer }) => peer === 'tidings') }]),
  ]
  const values = (scenario: string, value: (result: Result) => number) =>
    sources.map(({ results }) => spread(results.filter((result) => result.scenario === scenario).map(value)))
  const series = sources.map(({ name }) => name.replace('.json', ''))
  const rates: Bars = {
    title: 'deliveries a second',
    series,
    groups: RATED.map((scenario) => ({ label: scenario, values: values(scenario, (result) => result.deliveries_per_s) })),
  }
  const latency: Bars = {
    title: `latency of ${IDLE}, ms`,
    series,
    groups: [
      { label: 'p50', values: values(IDLE, (result) => result.latency.p50_ms) },
      { label: 'p99', values: values(IDLE, (result) => result.latency.p99_ms) },
    ],
  }
  return drawSvg(`${run.start.slice(0, 16).replace('T', ' ')} UTC, ${run.commit?.slice(0, 7) ?? ''}, ${run.cores} cores`, [rates, latency])
}

function spread(values: readonly number[]): Spread | undefined {
  return values.length === 0 ? undefined : { low: Math.min(...values), median: medianOf(values), high: Math.max(...values) }
}
