import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Publisher } from '../publisher.ts'
import type { Reach } from './plan.ts'

/** Text of every payload of the resident application, that is looked for outside of its zone. */
export const CANARY = 'canary-of-the-drill'
/** About the size of the webhooks that people send. */
const PADDING = 'x'.repeat(600)
const TURN_MS = 20
const AGAIN_AFTER_MS = 250

/** One endpoint of a stream. */
export interface StreamEndpoint {
  readonly reach: Reach
  readonly region: string
}

/** What is published in one region to one application. */
export interface Stream {
  readonly region: string
  readonly appId: string
  readonly endpoints: readonly StreamEndpoint[]
  /** Events a second; of an ordered stream, one at a time, at most so many. */
  readonly ratePerS: number
  readonly isOrdered: boolean
  readonly isResident: boolean
}

/** One event, and what became of it. Times are of `performance.now()`; 0: not yet. */
export interface SentEvent {
  readonly stream: number
  /** When it was asked for first. */
  readonly sentAtMs: number
  /** When it was answered 202, or 409 after an answer that was lost. */
  acknowledgedAtMs: number
  /** Of the answer 202. */
  messageId: string
  /** By endpoint of the stream. */
  readonly arrivals: number[]
  readonly firstAtMs: number[]
}

/** A first arrival at an ordered endpoint that is before one that came already. */
export interface OrderViolation {
  readonly event: number
  readonly after: number
}

export interface Ledger {
  readonly streams: Stream[]
  readonly events: SentEvent[]
  /** Of ordered streams. */
  readonly violations: OrderViolation[]
  /** Requests that were repeated because they failed. */
  repeated: number
}

/** All endpoints of the drill: one server, which answers at once. */
export interface Receivers {
  urlOf(stream: number, endpoint: number): string
  close(): Promise<void>
}

export async function startReceivers(ledger: Ledger): Promise<Receivers> {
  const newest = new Map<number, number>()
  const arrived = (stream: number, endpoint: number, event: number) => {
    const sent = ledger.events[event]
    if (sent === undefined || sent.stream !== stream) return
    sent.arrivals[endpoint] = (sent.arrivals[endpoint] ?? 0) + 1
    if (sent.arrivals[endpoint] > 1) return
    sent.firstAtMs[endpoint] = performance.now()
    if (ledger.streams[stream]?.isOrdered !== true) return
    const last = newest.get(stream) ?? -1
    if (event < last) ledger.violations.push({ event, after: last })
    newest.set(stream, Math.max(last, event))
  }
  const server = createServer((incoming, response) => {
    const chunks: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
    incoming.on('end', () => {
      const [, stream, endpoint] = (incoming.url ?? '').split('/').map(Number)
      const event = Number(/"n":(\d+)/.exec(Buffer.concat(chunks).toString('latin1'))?.[1] ?? -1)
      if (stream !== undefined && endpoint !== undefined) arrived(stream, endpoint, event)
      response.writeHead(200).end('ok')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    urlOf: (stream, endpoint) => `http://127.0.0.1:${port}/${stream}/${endpoint}`,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** Publishes all streams until it is stopped; what was begun is repeated until it is accepted. */
export interface Load {
  /** No event begins after it; resolves when every one is accepted, or `withinMs` is over. @returns events that were not */
  stop(withinMs: number): Promise<number>
}

/** @param publisherOf reaches the API of a region, wherever that is */
export function startLoad(ledger: Ledger, publisherOf: (region: string) => Publisher): Load {
  const pending = new Set<Promise<void>>()
  const stopping = new AbortController()
  const givenUp = new AbortController()
  const publish = (stream: number): Promise<void> => {
    const one = publishOne(ledger, stream, publisherOf, givenUp.signal)
    pending.add(one)
    return one.finally(() => pending.delete(one))
  }
  const running = ledger.streams.map((stream, index) =>
    stream.isOrdered ? oneByOne(stream, () => publish(index), stopping.signal) : paced(stream, () => void publish(index), stopping.signal),
  )
  return {
    async stop(withinMs) {
      stopping.abort()
      const over = Promise.all(running).then(() => Promise.all(pending))
      await Promise.race([over, delay(withinMs, undefined, { ref: false })])
      givenUp.abort()
      await over
      return ledger.events.filter(({ acknowledgedAtMs }) => acknowledgedAtMs === 0).length
    },
  }
}

async function paced({ ratePerS }: Stream, publish: () => void, signal: AbortSignal): Promise<void> {
  const startedAtMs = performance.now()
  let done = 0
  while (!signal.aborted) {
    await delay(TURN_MS)
    const due = ((performance.now() - startedAtMs) / 1000) * ratePerS
    for (; done < due; done++) publish()
  }
}

async function oneByOne({ ratePerS }: Stream, publish: () => Promise<void>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) await Promise.all([publish(), delay(1000 / ratePerS)])
}

async function publishOne(ledger: Ledger, index: number, publisherOf: (region: string) => Publisher, givenUp: AbortSignal): Promise<void> {
  const stream = ledger.streams[index]!
  const n = ledger.events.length
  const sent: SentEvent = { stream: index, sentAtMs: performance.now(), acknowledgedAtMs: 0, messageId: '', arrivals: [], firstAtMs: [] }
  ledger.events.push(sent)
  const pad = stream.isResident ? CANARY : ''
  const body = `{"eventType":"drill.event","eventId":"drill-${n}","payload":{"n":${n},"pad":"${pad}${PADDING}"}}`
  for (;;) {
    try {
      const answer = await publisherOf(stream.region).send('POST', `/app/${stream.appId}/msg`, body)
      sent.messageId = (JSON.parse(answer) as { id: string }).id
      break
    } catch (error) {
      if ((error as { status?: unknown }).status === 409) break
      if (givenUp.aborted) return
      ledger.repeated++
      await delay(AGAIN_AFTER_MS)
    }
  }
  sent.acknowledgedAtMs = performance.now()
}

/** Deliveries of acknowledged events that have not arrived. */
export function missingOf({ streams, events }: Ledger): { readonly event: number; readonly endpoint: number }[] {
  return events.flatMap(({ stream, acknowledgedAtMs, arrivals }, event) =>
    acknowledgedAtMs === 0
      ? []
      : streams[stream]!.endpoints.flatMap((_, endpoint) => ((arrivals[endpoint] ?? 0) > 0 ? [] : [{ event, endpoint }])),
  )
}
