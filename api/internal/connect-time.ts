import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'
import { mayHold, nearestMeasured, type Region } from '../../domain/regions.ts'
import type { Regional } from '../dependencies.ts'
import { internalOperation } from './router.ts'

const connectTimeIn = z.object({ host: z.string().min(1).max(LIMITS.urlMaxChars), port: z.int().min(1).max(65_535) })
const connectTimeOut = z.object({ ms: z.number().min(0) })

const PATH = '/connect-time'

/** How long connecting to a host takes from this region; under the address guard of deliveries. */
export const connectTime = internalOperation(connectTimeIn, ({ regional, body: { host, port } }) => regional.measure(host, port))

/**
 * The active region that connects to an endpoint's host fastest: all that may have what belongs to the endpoint's application are
 * asked at the same time. This region where none gets a connection, or answers in time.
 * @param residency of the application
 */
export async function nearestRegion({ regions, client, measure }: Regional, url: string, residency: string | null): Promise<string> {
  const { hostname: host, port: given, protocol } = new URL(url)
  const port = given === '' ? (protocol === 'https:' ? 443 : 80) : Number(given)
  const asked = regions.all.filter((region) => region.role === 'active' && mayHold(region, residency))
  const ask = async (region: Region): Promise<number | undefined> => {
    if (region.name === regions.own.name) return msOf(await measure(host, port))
    return msOf(await client.call(region, { path: PATH, body: { host, port }, timeoutMs: LIMITS.regionMeasureTimeoutMs }))
  }
  const answers = await Promise.allSettled(asked.map(ask))
  const measured = new Map<string, number>()
  for (const [i, answer] of answers.entries()) {
    if (answer.status === 'fulfilled' && answer.value !== undefined) measured.set(asked[i]!.name, answer.value)
  }
  return nearestMeasured(regions, measured).name
}

function msOf(answer: unknown): number | undefined {
  const parsed = connectTimeOut.safeParse(answer)
  return parsed.success ? parsed.data.ms : undefined
}
