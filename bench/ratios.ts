import type { Result } from './result.ts'

/** Of one scenario: the service's figures divided by the bare relay's, one for each repetition that both have. */
export interface Ratio {
  readonly scenario: string
  readonly events: readonly number[]
  readonly deliveries: readonly number[]
  readonly p50: readonly number[]
}

/** A repetition is compared with the relay's of the same number, which ran right after it: what the machine does else is alike. */
export function ratiosToRelay(results: readonly Result[]): Ratio[] {
  const pairs = results.flatMap((ours) => {
    if (ours.peer !== 'tidings') return []
    const relay = results.find(({ peer, scenario, rep }) => peer === 'relay' && scenario === ours.scenario && rep === ours.rep)
    return relay === undefined ? [] : [{ ours, relay }]
  })
  return [...new Set(pairs.map(({ ours }) => ours.scenario))].map((scenario) => {
    const some = pairs.filter(({ ours }) => ours.scenario === scenario)
    const ratio = (value: (result: Result) => number) => some.map(({ ours, relay }) => value(ours) / value(relay))
    return {
      scenario,
      events: ratio((result) => result.accepted_per_s),
      deliveries: ratio((result) => result.deliveries_per_s),
      p50: ratio((result) => result.latency.p50_ms),
    }
  })
}
