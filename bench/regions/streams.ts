import type { Publisher } from '../publisher.ts'
import type { Receivers, Stream, StreamEndpoint } from './load.ts'
import { activeRegions, reachesFrom, type DrillPlan } from './plan.ts'

/** Of the application that must not leave its zone. */
export const RESIDENT_NAME = 'resident-of-the-drill'

/** One at a time to each ordered endpoint, at most. */
const ORDERED_PER_S = 2
const RESIDENT_PER_S = 5
/** Of a low rate what is ordered and what is resident are small parts too. */
const ordered = (rate: number) => Math.min(ORDERED_PER_S, rate / 6)
const resident = (rate: number) => Math.min(RESIDENT_PER_S, rate / 6)

export interface StreamsInput {
  readonly plan: DrillPlan
  readonly receivers: Receivers
  publisherOf(region: string): Publisher
  /** Events a second of all streams that are neither ordered nor resident. */
  readonly rate: number
}

/**
 * Creates what is published to: in each active region an application with an endpoint there and in other regions, and one
 * with an ordered endpoint; where there is a zone, one that must not leave it, published to from outside.
 */
export async function createStreams(input: StreamsInput): Promise<Stream[]> {
  const { plan, rate } = input
  const regions = activeRegions(plan).map(({ name }) => name)
  const wanted: Omit<Stream, 'appId'>[] = regions.flatMap((region) => [
    { region, endpoints: reachesFrom(plan, region), ratePerS: rate / regions.length, isOrdered: false, isResident: false },
    { region, endpoints: [{ reach: 'same', region }], ratePerS: ordered(rate), isOrdered: true, isResident: false },
  ])
  if (plan.resident !== undefined) {
    const endpoints = [{ reach: 'cross', region: plan.resident }] as const
    wanted.push({ region: plan.home, endpoints, ratePerS: resident(rate), isOrdered: false, isResident: true })
  }
  const streams: Stream[] = []
  for (const [i, stream] of wanted.entries()) streams.push({ ...stream, appId: await createStream(input, stream, i) })
  return streams
}

async function createStream({ plan, receivers, publisherOf }: StreamsInput, stream: Omit<Stream, 'appId'>, index: number): Promise<string> {
  const publisher = publisherOf(stream.region)
  const zone = plan.regions.find(({ name }) => name === plan.resident)?.zone
  const application = stream.isResident ? { name: RESIDENT_NAME, uid: RESIDENT_NAME, residency: zone } : { name: `drill-${index}` }
  const { id } = JSON.parse(await publisher.send('POST', '/app', JSON.stringify(application))) as { id: string }
  for (const [i, endpoint] of stream.endpoints.entries()) {
    const fields = { url: receivers.urlOf(index, i), ...settingsOf(stream, endpoint) }
    await publisher.send('POST', `/app/${id}/endpoint`, JSON.stringify(fields))
  }
  return id
}

function settingsOf({ region, isOrdered, isResident }: Omit<Stream, 'appId'>, endpoint: StreamEndpoint): object {
  if (isOrdered) return { ordering: 'fifo' }
  return endpoint.region === region || isResident ? {} : { region: endpoint.region }
}

/** An application that is changed to see how soon the change is everywhere. */
export async function createProbe(publisher: Publisher): Promise<string> {
  return (JSON.parse(await publisher.send('POST', '/app', JSON.stringify({ name: 'probe' }))) as { id: string }).id
}
