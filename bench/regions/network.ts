import { Worker } from 'node:worker_threads'
import type { LinkAnswer, LinkCommand, Target } from './link-worker.ts'

/** An address as one region reaches it in another. */
export interface Route {
  /** host:port, the same as long as the network is there. */
  readonly address: string
  readonly port: number
}

/**
 * The lines between regions of one machine. Whatever is asked of another region goes by a route, where each direction takes
 * half of the distance's round trip, and a new connection one round trip more. Within a region nothing is delayed.
 */
export interface Network {
  /**
   * @param from the region that asks. @param to the region that answers
   * @param address host:port where that listens
   */
  route(from: string, to: string, address: string): Promise<Route>
  /** From now on a route leads to another region and address, as after a change of DNS; its connections are reset. */
  point(route: Route, to: string, address: string): Promise<void>
  /** Loses everything between two regions until `mend`: nobody is told, as where packets are dropped. */
  cut(one: string, other: string): Promise<void>
  mend(one: string, other: string): Promise<void>
  close(): Promise<void>
}

interface Line {
  readonly id: number
  readonly from: string
  to: string
}

/** @param distanceMs round trip between two regions */
export function createNetwork(distanceMs: (from: string, to: string) => number): Network {
  const worker = new Worker(new URL('./link-worker.ts', import.meta.url))
  const waiting = new Map<number, (answer: LinkAnswer) => void>()
  const lines = new Map<Route, Line>()
  let lastId = 0
  let opened = 0
  worker.on('message', ({ id, answer }: { id: number; answer: LinkAnswer }) => {
    waiting.get(id)?.(answer)
    waiting.delete(id)
  })
  const ask = (command: LinkCommand): Promise<LinkAnswer> => {
    const id = ++lastId
    return new Promise((resolve) => {
      waiting.set(id, resolve)
      worker.postMessage({ id, command })
    })
  }
  const targetOf = (from: string, to: string, address: string): Target => {
    const { hostname, port } = new URL(`http://${address}`)
    return { host: hostname, port: Number(port), oneWayMs: distanceMs(from, to) / 2 }
  }
  const between = (one: string, other: string) =>
    [...lines.values()].filter(({ from, to }) => (from === one && to === other) || (from === other && to === one)).map(({ id }) => id)
  return {
    async route(from, to, address) {
      const id = opened++
      const { port = 0 } = await ask({ kind: 'open', route: id, target: targetOf(from, to, address) })
      const route = { address: `127.0.0.1:${port}`, port }
      lines.set(route, { id, from, to })
      return route
    },
    async point(route, to, address) {
      const line = lines.get(route)!
      line.to = to
      await ask({ kind: 'point', route: line.id, target: targetOf(line.from, to, address) })
    },
    cut: async (one, other) => void (await ask({ kind: 'cut', routes: between(one, other) })),
    mend: async (one, other) => void (await ask({ kind: 'mend', routes: between(one, other) })),
    async close() {
      await ask({ kind: 'close' })
      await worker.terminate()
    },
  }
}
