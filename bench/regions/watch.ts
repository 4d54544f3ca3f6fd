/** What is measured all the time while a drill runs: how far behind copies are, and how soon a change is seen everywhere. */
import { setTimeout as delay } from 'node:timers/promises'
import { lagOf } from '../../cli/regions/standby.ts'
import type { Publisher } from '../publisher.ts'
import type { World } from './world.ts'

const LAG_EVERY_MS = 1000
const CHANGE_EVERY_MS = 4000
const LOOK_EVERY_MS = 50
/** A change that is not seen by then is counted as not seen. */
const SEEN_WITHIN_MS = 10_000

export interface LagSample {
  readonly atMs: number
  /** `us-east>us-west`: whose messages, and where they are copied to. */
  readonly copy: string
  readonly bytes: number
  readonly ms: number
}

/** One change of configuration. Milliseconds from when it was asked for. */
export interface ChangeSample {
  readonly atMs: number
  /** Where it was asked for. */
  readonly region: string
  readonly answeredMs: number
  /** Until the last region showed it. Undefined: one did not within ten seconds. */
  readonly everywhereMs: number | undefined
  /** The status that it was answered with; 0: there was no answer. */
  readonly status: number
  /** Regions that answer, and had not shown it after ten seconds. */
  readonly unseen: readonly string[]
}

export interface Watch {
  readonly lags: readonly LagSample[]
  readonly changes: readonly ChangeSample[]
  stop(): Promise<void>
}

/**
 * @param publisherOf reaches the API of a region
 * @param probes an application without a zone that is changed, and the regions that change it in turn
 */
export function startWatch(
  world: World,
  publisherOf: (region: string) => Publisher,
  { appId, regions }: { readonly appId: string; readonly regions: readonly string[] },
): Watch {
  const lags: LagSample[] = []
  const changes: ChangeSample[] = []
  const stopping = new AbortController()
  const repeat = async (everyMs: number, turn: (i: number) => Promise<void>): Promise<void> => {
    for (let i = 0; !stopping.signal.aborted; i++) {
      await Promise.all([turn(i).catch(() => undefined), delay(everyMs, undefined, { signal: stopping.signal }).catch(() => undefined)])
    }
  }
  const running = [
    repeat(LAG_EVERY_MS, async () => {
      const samples = [...world.places.values()].filter(({ standby }) => standby !== undefined)
      await Promise.all(
        samples.map(async ({ region, messages }) => {
          const { standbys } = await lagOf(messages.url)
          for (const { name, bytes, ms } of standbys) lags.push({ atMs: performance.now(), copy: `${region.name}>${name}`, bytes, ms })
        }),
      )
    }),
    repeat(CHANGE_EVERY_MS, async (i) => {
      const region = regions[i % regions.length]!
      changes.push(await change(publisherOf, { appId, region, others: regions.filter((one) => one !== region), value: `probe ${i}` }))
    }),
  ]
  return {
    lags,
    changes,
    async stop() {
      stopping.abort()
      await Promise.all(running)
    },
  }
}

interface Change {
  readonly appId: string
  readonly region: string
  readonly others: readonly string[]
  readonly value: string
}

async function change(publisherOf: (region: string) => Publisher, { appId, region, others, value }: Change): Promise<ChangeSample> {
  const atMs = performance.now()
  let status = 200
  try {
    await publisherOf(region).send('PATCH', `/app/${appId}`, JSON.stringify({ name: value }))
  } catch (error) {
    status = Number((error as { status?: unknown }).status ?? 0)
  }
  const answeredMs = performance.now() - atMs
  if (status !== 200) return { atMs, region, answeredMs, everywhereMs: undefined, status, unseen: [] }
  const unseen: string[] = []
  await Promise.all(
    others.map(async (other) => {
      let answers = false
      while (performance.now() - atMs < SEEN_WITHIN_MS) {
        const shown = await publisherOf(other)
          .send('GET', `/app/${appId}`, null)
          .catch(() => undefined)
        answers = shown !== undefined
        if (shown?.includes(`"${value}"`)) return
        await delay(LOOK_EVERY_MS)
      }
      // A region that was lost meanwhile shows nothing.
      if (answers) unseen.push(other)
    }),
  )
  const everywhereMs = performance.now() - atMs
  return { atMs, region, answeredMs, everywhereMs: everywhereMs < SEEN_WITHIN_MS ? everywhereMs : undefined, status, unseen }
}
