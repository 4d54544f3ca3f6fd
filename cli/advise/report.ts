import type { EndpointAdvice, EndpointAdviceKind } from '../../domain/endpoint-advice.ts'
import type { PoolAdvice, SizingAdvice, SizingKind } from '../../domain/right-sizing.ts'
import { money, whole } from '../plan/report.ts'

/** Everything that `npm run advise` tells: what `--json` writes. Money is USD a month. */
export interface AdviceReport {
  readonly since: string
  readonly until: string
  readonly prices: { readonly source: string; readonly worker: number }
  readonly pools: readonly ({ readonly pool: string; readonly samples: number } & Partial<PoolAdvice>)[]
  readonly endpoints: readonly EndpointAdvice[]
  /** Of all that saves. */
  readonly saving: number
}

const SHOWN = 20
const workers = (count: number): string => (Number.isInteger(count) ? whole(count) : count.toFixed(1))

const SIZING: Readonly<Record<SizingKind, (advice: SizingAdvice) => string>> = {
  'under-provisioned': ({ from, to, hours }) =>
    `too few: at ${hours?.[0] ?? 0}:00 UTC ${workers(from)} are busy for over 85% of the time at p95, ${workers(to)} would be for 70%`,
  'over-provisioned': ({ from, to }) => `over-provisioned: ${workers(to)} of ${workers(from)} are enough for the busiest hour at 70%`,
  'off-peak': ({ from, to, hours }) => `scale with the hours: ${workers(from)} become ${workers(to)} on average (${schedule(hours ?? [])})`,
  reserved: ({ from }) => `reserve the ${workers(from)} that always run`,
  spot: ({ from }) => `run the other ${workers(from)} on spot machines; what is in flight when one is taken away is sent again`,
}

/** `0:00 12, 7:00 40, 22:00 12` */
function schedule(hours: readonly number[]): string {
  return hours
    .map((count, hour) => ({ count, hour }))
    .filter(({ count, hour }) => hour === 0 || count !== hours[hour - 1])
    .map(({ count, hour }) => `${hour}:00 ${count}`)
    .join(', ')
}

const ENDPOINTS: Readonly<Record<EndpointAdviceKind, (advice: EndpointAdvice) => string>> = {
  'slow-lane': ({ p95Ms, places }) =>
    `answers in ${whole(p95Ms)} ms at p95 in the fast lane, and holds ${places.toFixed(1)} of its places: move it to the slow lane`,
  'fast-lane': ({ p95Ms, places }) =>
    `answers in ${whole(p95Ms)} ms at p95 in the slow lane, and holds ${places.toFixed(1)} of its places: move it to the fast lane`,
  batching: ({ perS, places }) => `gets ${perS.toFixed(1)} messages a second one by one: batched, a request has ${whole(places)}`,
}

const line = (saving: number, text: string): string => `${money(saving).padStart(9)}  ${text}`

/** The advice for a terminal, each with what it saves a month. */
export function formatAdvice({ since, until, prices, pools, endpoints, saving }: AdviceReport): string {
  const parts = [
    `From ${since} to ${until}; a worker is ${money(prices.worker)} a month (${prices.source}).`,
    ...(pools.length === 0 ? ['No sample of the autoscaler: npm run autoscale takes one every 15 s.'] : pools.map(poolText)),
    endpointText(endpoints),
    `Saves ${money(saving)} a month altogether.`,
  ]
  return `${parts.join('\n\n')}\n`
}

function poolText({ pool, samples, workers: running, utilisation, costNow, advice, unknownHours }: AdviceReport['pools'][number]): string {
  if (advice === undefined) return `Pool ${pool}: ${samples} samples that say how busy workers were, too few to say anything.`
  const head = `Pool ${pool}: ${workers(running ?? 0)} workers on average, busy for ${whole((utilisation ?? 0) * 100)}% of the time, ${money(costNow ?? 0)} a month (${samples} samples).`
  const missing = unknownHours ?? []
  return [
    head,
    ...(advice.length === 0 ? ['Nothing to change.'] : advice.map((one) => line(one.saving, SIZING[one.kind](one)))),
    ...(missing.length === 0
      ? []
      : [`Of ${missing.length} hours of the day there are too few samples: nothing is said about off-peak, reserved and spot.`]),
  ].join('\n')
}

function endpointText(endpoints: readonly EndpointAdvice[]): string {
  if (endpoints.length === 0) return 'No endpoint is in the wrong lane, and none would gain by batches.'
  const shown = endpoints.slice(0, SHOWN).map((one) => line(one.saving, `${one.endpointId} ${ENDPOINTS[one.kind](one)}`))
  const more = endpoints.length - shown.length
  return ['Endpoints:', ...shown, ...(more > 0 ? [`and ${more} more (--json has all)`] : [])].join('\n')
}
