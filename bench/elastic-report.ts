import type { Arrivals, Published } from './elastic-load.ts'
import { drawSvg } from '../cli/svg.ts'

/** What a drill came to, as its last line of output. */
export interface Outcome {
  /** Events answered 202. */
  readonly accepted: number
  /** Pairs of an accepted event and an endpoint that got it. */
  readonly delivered: number
  readonly lost: number
  /** Requests beyond the first of a pair. */
  readonly duplicated: number
  /** Those of pairs that a killed worker may have had under way. */
  readonly duplicatedByKills: number
  readonly kills: number
  readonly scaledUp: number
  readonly scaledDown: number
}

export interface ElasticSample {
  readonly seconds: number
  readonly workers: number
  readonly accepted: number
  readonly delivered: number
}

interface Counted {
  readonly published: Published
  readonly arrivals: Arrivals
  readonly killedAtMs: readonly number[]
  readonly scaled: { readonly up: number; readonly down: number }
}

/**
 * What a worker had under way when it was killed: its request arrived in these milliseconds before, and is answered or not
 * yet recorded. Those of its records wait for the next group, and for a busy Postgres.
 */
const UNRECORDED_MS = 3000
/** A request that was sent may arrive after its sender's death. */
const UNDER_WAY_MS = 500

/** @returns the outcome, and a line for each delivery that came twice without a kill */
export function countOutcome({ published, arrivals, killedAtMs, scaled }: Counted): { outcome: Outcome; unexplained: string[] } {
  const { endpoints, counts, firstAtMs, lastAtMs } = arrivals
  const unexplained: string[] = []
  const outcome = { delivered: 0, lost: 0, duplicated: 0, duplicatedByKills: 0 }
  for (const [index, accepted] of published.accepted.entries()) {
    if (accepted === 0) continue
    for (let pair = index * endpoints; pair < (index + 1) * endpoints; pair++) {
      const count = counts[pair]!
      if (count === 0) outcome.lost++
      else outcome.delivered++
      if (count < 2) continue
      const atMs = firstAtMs[pair]!
      outcome.duplicated += count - 1
      const byKill = killedAtMs.some((killMs) => killMs > atMs - UNDER_WAY_MS && killMs < atMs + UNRECORDED_MS)
      if (byKill) outcome.duplicatedByKills += count - 1
      else {
        const kills = killedAtMs.map((killMs) => `${((killMs - atMs) / 1000).toFixed(1)} s`).join(', ')
        const lastS = ((lastAtMs[pair]! - atMs) / 1000).toFixed(1)
        unexplained.push(
          `event ${index} came ${count} times to endpoint ${pair % endpoints}: again ${lastS} s later; kills after the first: ${kills}`,
        )
      }
    }
  }
  const all = { accepted: published.acceptedCount, ...outcome, kills: killedAtMs.length, scaledUp: scaled.up, scaledDown: scaled.down }
  return { outcome: all, unexplained }
}

export function plotElastic(heading: string, samples: readonly ElasticSample[]): string {
  const rates = (value: (sample: ElasticSample) => number) =>
    samples.slice(1).map((sample, i) => {
      const before = samples[i]!
      return [sample.seconds, Math.max(0, (value(sample) - value(before)) / (sample.seconds - before.seconds))] as const
    })
  const common = { xLabel: 'seconds', logarithmic: false }
  return drawSvg(heading, [
    {
      ...common,
      title: 'workers',
      lines: [{ name: 'workers', points: samples.map(({ seconds, workers }) => [seconds, workers] as const) }],
    },
    { ...common, title: 'deliveries a second', lines: [{ name: 'delivered', points: rates(({ delivered }) => delivered) }] },
    { ...common, title: 'events a second', lines: [{ name: 'accepted', points: rates(({ accepted }) => accepted) }] },
  ])
}
