import { Svix } from 'svix'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import type { Stage } from './stage.ts'

// Long enough for a kill to find requests in flight.
const ANSWER_AFTER_MS = 10

export const pairOf = (messageId: string, endpointId: string) => `${messageId} ${endpointId}`

/** An application and its endpoints, each a server of its own. The last one answers 500 to everything. */
export interface Targets {
  readonly appId: string
  readonly healthy: readonly string[]
  readonly failing: string
  /** Requests that arrived, by pair of message and endpoint. */
  readonly arrivals: ReadonlyMap<string, number>
  /** Requests that arrived at healthy endpoints. */
  healthyArrivals(): number
  close(): Promise<void>
}

export async function createTargets(stage: Stage, endpoints = 5): Promise<Targets> {
  const svix = new Svix(stage.token, { serverUrl: stage.apiUrl })
  const { id: appId } = await svix.application.create({ name: 'chaos' })
  const arrivals = new Map<string, number>()
  let healthyArrivals = 0
  const receivers: Receiver[] = []
  const ids: string[] = []
  for (let i = 0; i < endpoints; i++) {
    const fails = i === endpoints - 1
    const receiver = await startReceiver((one) => {
      const pair = pairOf(one.headers['webhook-id'] ?? '', ids[i]!)
      arrivals.set(pair, (arrivals.get(pair) ?? 0) + 1)
      if (!fails) healthyArrivals++
      return { status: fails ? 500 : 200, afterMs: ANSWER_AFTER_MS }
    })
    receivers.push(receiver)
    ids.push((await svix.endpoint.create(appId, { url: `${receiver.url}/hook` })).id)
  }
  return {
    appId,
    healthy: ids.slice(0, -1),
    failing: ids.at(-1)!,
    arrivals,
    healthyArrivals: () => healthyArrivals,
    async close() {
      await Promise.all(receivers.map((receiver) => receiver.close()))
    },
  }
}
