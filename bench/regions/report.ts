import { drawSvg, type Lines } from '../../cli/svg.ts'
import { distributionOf, type Distribution } from '../statistics.ts'
import type { Ledger } from './load.ts'
import { missingOf } from './load.ts'
import type { Reach } from './plan.ts'
import type { ChangeSample, LagSample } from './watch.ts'

/** Something that was done, at `performance.now()`. */
export interface Act {
  readonly atMs: number
  readonly name: string
}

/** What a drill came to: its last line of output. Milliseconds. */
export interface Outcome {
  readonly regions: number
  /** Events that were answered 202. */
  readonly acknowledged: number
  /** Deliveries of them that arrived. */
  readonly delivered: number
  readonly lost: number
  /** Requests beyond the first of a delivery: those of events that were sent within seconds of the kill, and all others. */
  readonly duplicatedByKill: number
  readonly duplicated: number
  /** Events of which the lost region knew alone, as they were listed when it was back. */
  readonly unreplicated: number
  /** Acknowledged events that the new primary did not have, and the list does not name; and the reverse. */
  readonly unlisted: number
  /** From the kill to the first delivery of an event that was published there after it. */
  readonly takeoverMs: number
  /** From the kill to the first event that was accepted there. */
  readonly acceptingMs: number
  /** First arrivals at ordered endpoints out of order, events that were unreplicated apart. */
  readonly outOfOrder: number
  /** From publishing to the first arrival, while nothing was wrong. */
  readonly latency: Readonly<Partial<Record<Reach, Distribution>>>
  /** Of other regions than the one that was lost, from the kill until it was taken over. */
  readonly latencyOfOthers: Readonly<Partial<Record<Reach, Distribution>>>
  readonly replication: { readonly lagMs: Distribution; readonly lagBytesMax: number }
  readonly configuration: {
    /** From asking for a change until every region shows it, while nothing was wrong. */
    readonly everywhereMs: Distribution
    readonly refused: number
    readonly unseen: number
    /** After the end each region shows the same. */
    readonly diverged: number
  }
  /** Places outside of the zone where something of a resident application was found; null: there was no zone. */
  readonly residency: number | null
  readonly seconds: number
}

export interface Measured {
  readonly ledger: Ledger
  readonly acts: readonly Act[]
  readonly lags: readonly LagSample[]
  readonly changes: readonly ChangeSample[]
  /** Ids that were listed as unreplicated. */
  readonly listed: ReadonlySet<string>
  /** Ids that the new primary had when it was promoted. */
  readonly promoted: ReadonlySet<string>
  readonly home: string
  readonly regions: number
  readonly diverged: number
  readonly residency: number | null
}

/** Requests of what was under way when the region was killed may have been sent and not recorded, or not replicated. */
const UNDER_WAY_BEFORE_MS = 10_000

/** From an act to the next. */
function during(acts: readonly Act[], name: string): readonly [number, number] {
  const i = acts.findIndex((act) => act.name === name)
  return [acts[i]?.atMs ?? Infinity, acts[i + 1]?.atMs ?? Infinity]
}

export function countOutcome(measured: Measured): Outcome {
  const { ledger, acts, lags, changes, listed, home } = measured
  const killedAtMs = acts.find(({ name }) => name === 'kill')?.atMs ?? Infinity
  const acknowledged = ledger.events.filter(({ acknowledgedAtMs }) => acknowledgedAtMs > 0)
  const lost = missingOf(ledger).length
  const taken = takeover(measured, killedAtMs)
  const steady = during(acts, 'steady')
  return {
    regions: measured.regions,
    acknowledged: acknowledged.length,
    delivered: acknowledged.reduce((sum, { stream }) => sum + ledger.streams[stream]!.endpoints.length, 0) - lost,
    lost,
    ...countDuplicates(ledger, home, killedAtMs),
    unreplicated: listed.size,
    unlisted: countUnlisted(measured, killedAtMs),
    ...taken,
    outOfOrder: ledger.violations.filter(({ event }) => !listed.has(ledger.events[event]!.messageId)).length,
    latency: latencies(ledger, steady, () => true),
    latencyOfOthers: latencies(ledger, [killedAtMs, killedAtMs + taken.takeoverMs], (region) => region !== home),
    replication: {
      lagMs: distributionOf(lags.filter(({ atMs }) => atMs < killedAtMs).map(({ ms }) => ms)),
      lagBytesMax: Math.max(0, ...lags.map(({ bytes }) => bytes)),
    },
    configuration: {
      everywhereMs: distributionOf(
        changes.filter(({ atMs }) => atMs >= steady[0] && atMs < steady[1]).flatMap(({ everywhereMs }) => everywhereMs ?? []),
      ),
      refused: changes.filter(({ status }) => status !== 200).length,
      unseen: changes.filter(({ unseen }) => unseen.length > 0).length,
      diverged: measured.diverged,
    },
    residency: measured.residency,
    seconds: Math.round(((acts.at(-1)?.atMs ?? 0) - (acts[0]?.atMs ?? 0)) / 1000),
  }
}

/** What must not be, a line for each. */
export function problemsOf({ lost, outOfOrder, unlisted, duplicated, residency, configuration }: Outcome): string[] {
  const counted: readonly (readonly [number, string])[] = [
    [lost, 'deliveries of acknowledged events were lost'],
    [outOfOrder, 'events came out of order to ordered endpoints'],
    [unlisted, 'acknowledged events were listed as unreplicated and were not, or the reverse'],
    [duplicated, 'requests came twice that the kill does not account for'],
    [residency ?? 0, 'places outside of the zone have something of the resident application'],
    [configuration.diverged, 'applications are not the same everywhere'],
    [configuration.unseen, 'changes of configuration were not seen everywhere in ten seconds'],
  ]
  return counted.filter(([count]) => count > 0).map(([count, text]) => `${count} ${text}`)
}

function countDuplicates({ streams, events }: Ledger, home: string, killedAtMs: number) {
  const counted = { duplicatedByKill: 0, duplicated: 0 }
  for (const { stream, sentAtMs, firstAtMs, arrivals } of events) {
    const touched = streams[stream]!.region === home || streams[stream]!.endpoints.some(({ region }) => region === home)
    for (const [endpoint, count] of arrivals.entries()) {
      if (!(count > 1)) continue
      // What waits for a retry or in a queue when its region is lost is older than what is under way.
      const atMs = Math.max(sentAtMs, firstAtMs[endpoint] ?? 0)
      const byKill = touched && sentAtMs < killedAtMs && atMs > killedAtMs - UNDER_WAY_BEFORE_MS
      counted[byKill ? 'duplicatedByKill' : 'duplicated'] += count - 1
    }
  }
  return counted
}

/** Both sets are of acknowledged events: what nobody was told of may be listed as well. */
function countUnlisted({ ledger, listed, promoted, home }: Measured, killedAtMs: number): number {
  return ledger.events.filter(
    ({ stream, messageId, acknowledgedAtMs }) =>
      ledger.streams[stream]!.region === home &&
      !ledger.streams[stream]!.isResident &&
      messageId !== '' &&
      acknowledgedAtMs < killedAtMs &&
      !promoted.has(messageId) !== listed.has(messageId),
  ).length
}

function takeover({ ledger, home }: Measured, killedAtMs: number) {
  const after = ledger.events.filter(({ stream, sentAtMs }) => ledger.streams[stream]!.region === home && sentAtMs > killedAtMs)
  const first = (times: readonly number[]) => Math.round(Math.min(...times.filter((time) => time > 0)) - killedAtMs)
  return {
    takeoverMs: first(after.flatMap(({ firstAtMs }) => firstAtMs.filter((time) => time !== undefined))),
    acceptingMs: first(after.map(({ acknowledgedAtMs }) => acknowledgedAtMs)),
  }
}

function latencies({ streams, events }: Ledger, [fromMs, toMs]: readonly [number, number], isOf: (region: string) => boolean) {
  const byReach = new Map<Reach, number[]>()
  for (const { stream, sentAtMs, firstAtMs } of events) {
    const { region, endpoints } = streams[stream]!
    if (sentAtMs < fromMs || sentAtMs >= toMs || !isOf(region)) continue
    for (const [i, { reach, region: to }] of endpoints.entries()) {
      if (firstAtMs[i] === undefined || !isOf(to)) continue
      const values = byReach.get(reach) ?? []
      values.push(firstAtMs[i] - sentAtMs)
      byReach.set(reach, values)
    }
  }
  return Object.fromEntries([...byReach].map(([reach, values]) => [reach, distributionOf(values)])) as Partial<Record<Reach, Distribution>>
}

const SECOND_MS = 1000

/** Over the time of the drill, with the acts as its axis says. */
export function plotDrill({ ledger, acts, lags, changes }: Measured): string {
  const [start] = acts
  const fromMs = start?.atMs ?? 0
  const seconds = (atMs: number) => (atMs - fromMs) / SECOND_MS
  const bySecond = (points: readonly (readonly [number, number])[], merge: (values: number[]) => number) =>
    [...Map.groupBy(points, ([atMs]) => Math.floor(seconds(atMs)))]
      .map(([second, some]) => [second, merge(some.map(([, value]) => value))] as const)
      .filter(([second]) => second >= 0)
      .sort(([a], [b]) => a - b)
  const longest = (values: number[]) => Math.max(...values)
  const regions = [...new Set(ledger.streams.map(({ region }) => region))]
  const latencyOf = (region: string) =>
    ledger.events
      .filter(({ stream }) => ledger.streams[stream]!.region === region)
      .flatMap(({ sentAtMs, firstAtMs }) => (firstAtMs[0] === undefined ? [] : [[sentAtMs, firstAtMs[0] - sentAtMs] as const]))
  const common = { xLabel: 'seconds', logarithmic: false } as const
  const plots: Lines[] = [
    {
      ...common,
      title: 'longest ms from publishing to the endpoint in the same region, by the second of publishing',
      lines: regions.map((region) => ({ name: region, points: bySecond(latencyOf(region), longest) })),
    },
    {
      ...common,
      title: 'events accepted a second',
      lines: regions.map((region) => ({
        name: region,
        points: bySecond(
          ledger.events
            .filter(({ stream, acknowledgedAtMs }) => acknowledgedAtMs > 0 && ledger.streams[stream]!.region === region)
            .map(({ acknowledgedAtMs }) => [acknowledgedAtMs, 1] as const),
          (values) => values.length,
        ),
      })),
    },
    {
      ...common,
      title: 'ms that copies of messages are behind',
      lines: [...new Set(lags.map(({ copy }) => copy))].map((copy) => ({
        name: copy,
        points: bySecond(
          lags.filter((lag) => lag.copy === copy).map(({ atMs, ms }) => [atMs, ms] as const),
          longest,
        ),
      })),
    },
    {
      ...common,
      title: 'ms until a change of configuration is seen everywhere',
      lines: [
        {
          name: 'changes',
          points: changes.flatMap(({ atMs, everywhereMs }) => (everywhereMs === undefined ? [] : [[seconds(atMs), everywhereMs] as const])),
        },
      ],
    },
  ]
  const when = acts.map(({ name, atMs }) => `${name} ${Math.round(seconds(atMs))} s`).join(', ')
  return drawSvg(when, plots)
}
