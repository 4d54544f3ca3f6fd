import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Publisher } from './publisher.ts'

/** Events a second over the time of the load: low, then high, then low, with ramps between. */
export interface LoadCurve {
  readonly seconds: number
  readonly low: number
  readonly high: number
}

/** @param atS seconds since the beginning. @returns events a second: a quarter low, a ramp, a third high, a ramp, low to the end */
export function rateAt({ seconds, low, high }: LoadCurve, atS: number): number {
  const share = atS / seconds
  const rising = Math.min(1, Math.max(0, (share - 0.15) / 0.1))
  const falling = Math.min(1, Math.max(0, (share - 0.5) / 0.1))
  return low + (high - low) * (rising - falling)
}

/** @returns events that a curve has in all, a few more than less */
export function eventsOf(curve: LoadCurve): number {
  let events = 0
  for (let second = 0; second < curve.seconds; second++) events += Math.max(rateAt(curve, second), rateAt(curve, second + 1))
  return Math.ceil(events) + 100
}

/** What arrived, by event and endpoint. */
export interface Arrivals {
  readonly endpoints: number
  /** By event × endpoint. */
  readonly counts: Uint16Array
  /** When the first came, of `performance.now()`. */
  readonly firstAtMs: Float64Array
  readonly lastAtMs: Float64Array
  /** Pairs of which something came. */
  delivered: number
}

export interface Receivers {
  readonly urls: readonly string[]
  readonly arrivals: Arrivals
  close(): Promise<void>
}

/** Endpoints that take so long for each answer, whoever asks how much of them: what bounds a worker is then its requests in flight. */
export async function startReceivers(endpoints: number, events: number, answerAfterMs: number): Promise<Receivers> {
  const arrivals: Arrivals = {
    endpoints,
    counts: new Uint16Array(endpoints * events),
    firstAtMs: new Float64Array(endpoints * events),
    lastAtMs: new Float64Array(endpoints * events),
    delivered: 0,
  }
  const server = createServer((incoming, response) => {
    const chunks: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
    incoming.on('end', () => {
      const { index } = JSON.parse(Buffer.concat(chunks).toString()) as { index: number }
      const pair = index * endpoints + Number(incoming.url?.slice(1))
      if (arrivals.counts[pair]!++ === 0) {
        arrivals.firstAtMs[pair] = performance.now()
        arrivals.delivered++
      }
      arrivals.lastAtMs[pair] = performance.now()
      setTimeout(() => response.writeHead(200).end('ok'), answerAfterMs)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    urls: Array.from({ length: endpoints }, (_, i) => `http://127.0.0.1:${port}/${i}`),
    arrivals,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** What the publishers were answered. */
export interface Published {
  /** By event: 202, or 409 to a publish that was repeated because its answer was lost. */
  readonly accepted: Uint8Array
  acceptedCount: number
  /** Tries that were repeated. */
  repeated: number
}

const TURN_MS = 20
const AGAIN_AFTER_MS = 200

/** Publishes the events of a curve at their times; each is repeated under its `eventId` until it is accepted. */
export async function publishCurve(
  curve: LoadCurve,
  published: Published,
  target: { readonly publisher: Publisher; readonly appId: string },
): Promise<void> {
  const pending = new Set<Promise<void>>()
  const startedAtMs = performance.now()
  let due = 0
  let index = 0
  for (let lastMs = startedAtMs, nowMs = startedAtMs; nowMs - startedAtMs < curve.seconds * 1000; lastMs = nowMs) {
    await delay(TURN_MS)
    nowMs = performance.now()
    due += (rateAt(curve, (nowMs - startedAtMs) / 1000) * (nowMs - lastMs)) / 1000
    for (; index < Math.min(due, published.accepted.length); index++) {
      const one = publishOne(index, published, target)
      pending.add(one)
      void one.finally(() => pending.delete(one))
    }
  }
  await Promise.all(pending)
}

async function publishOne(index: number, published: Published, { publisher, appId }: Parameters<typeof publishCurve>[2]): Promise<void> {
  for (;;) {
    try {
      await publisher.publish(appId, `elastic-${index}`, `{"index":${index}}`)
      break
    } catch (error) {
      if ((error as { status?: unknown }).status === 409) break
      published.repeated++
      await delay(AGAIN_AFTER_MS)
    }
  }
  published.accepted[index] = 1
  published.acceptedCount++
}
