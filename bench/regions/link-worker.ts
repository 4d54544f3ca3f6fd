/** The network between regions of one machine: TCP proxies that deliver later what they were given. Runs in a thread of its own. */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { parentPort } from 'node:worker_threads'

export type LinkCommand =
  | { readonly kind: 'open'; readonly route: number; readonly target: Target }
  /** New connections go there from now on; those that are open are cut off. */
  | { readonly kind: 'point'; readonly route: number; readonly target: Target }
  /** What is under way and what comes waits, as on a line that loses every packet. */
  | { readonly kind: 'cut' | 'mend'; readonly routes: readonly number[] }
  | { readonly kind: 'close' }

export interface Target {
  readonly host: string
  readonly port: number
  readonly oneWayMs: number
}

/** `port` where a route was opened. */
export interface LinkAnswer {
  readonly port?: number
}

/** Bytes under way on one connection before its sender is held back: what 100 Mbit/s has in flight in 300 ms. */
const IN_FLIGHT_MAX_BYTES = 4_000_000

interface Route {
  target: Target
  isCut: boolean
  readonly server: Server
  readonly tunnels: Set<Tunnel>
}

interface Tunnel {
  /** Goes on where it was held. */
  resume(): void
  reset(): void
}

const routes = new Map<number, Route>()

/** What is given is done in its order, each after its time, and nothing while the line is cut. */
function createPipe(isCut: () => boolean) {
  const queue: { readonly dueMs: number; readonly act: () => void }[] = []
  let timer: NodeJS.Timeout | undefined
  const run = (): void => {
    timer = undefined
    while (!isCut() && queue.length > 0) {
      const waitMs = queue[0]!.dueMs - performance.now()
      if (waitMs > 0) {
        timer = setTimeout(run, waitMs)
        return
      }
      queue.shift()!.act()
    }
  }
  return {
    put(dueMs: number, act: () => void) {
      queue.push({ dueMs, act })
      if (timer === undefined) run()
    },
    run: () => {
      if (timer === undefined) run()
    },
    drop() {
      queue.length = 0
      clearTimeout(timer)
    },
  }
}

/** Of a socket that is being shut down libuv refuses a reset, and Node never closes it: the end of its thread waits for that for ever. */
function reset(socket: Socket): void {
  if (socket.writableEnded) socket.destroy()
  else socket.resetAndDestroy()
}

/** @param pipe as it may be: what the other end is told comes after what it was sent */
function carry(from: Socket, to: Socket, pipe: ReturnType<typeof createPipe>, dueMs: () => number): void {
  let inFlight = 0
  const landed = (bytes: number) => {
    inFlight -= bytes
    if (from.isPaused() && inFlight + to.writableLength < IN_FLIGHT_MAX_BYTES) from.resume()
  }
  from.on('data', (chunk: Buffer) => {
    inFlight += chunk.length
    if (inFlight + to.writableLength >= IN_FLIGHT_MAX_BYTES) from.pause()
    pipe.put(dueMs(), () => to.write(chunk, () => landed(chunk.length)))
  })
  from.on('end', () => pipe.put(dueMs(), () => to.end()))
  from.on('error', () => pipe.put(dueMs(), () => reset(to)))
  from.on('close', () => pipe.put(dueMs(), () => to.destroySoon()))
}

function openTunnel(route: Route, client: Socket): void {
  const { host, port, oneWayMs } = route.target
  const isCut = () => route.isCut
  const there = createPipe(isCut)
  const back = createPipe(isCut)
  // A connection is made before anything is sent on it: one round trip, that the loopback does not take.
  const connectedMs = performance.now() + 2 * oneWayMs
  client.setNoDelay(true)
  client.pause()
  let upstream: Socket | undefined
  const tunnel: Tunnel = {
    resume() {
      there.run()
      back.run()
    },
    reset() {
      there.drop()
      back.drop()
      reset(client)
      if (upstream !== undefined) reset(upstream)
    },
  }
  route.tunnels.add(tunnel)
  client.on('close', () => route.tunnels.delete(tunnel))
  client.on('error', () => undefined)
  there.put(performance.now() + oneWayMs, () => {
    upstream = connect({ host, port, noDelay: true, allowHalfOpen: true })
    const other = upstream
    carry(client, other, there, () => Math.max(performance.now(), connectedMs) + oneWayMs)
    carry(other, client, back, () => performance.now() + oneWayMs)
    client.resume()
  })
}

async function open(target: Target): Promise<Route> {
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true })
  const route: Route = { target, isCut: false, server, tunnels: new Set() }
  server.on('connection', (client) => openTunnel(route, client))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return route
}

async function obey(command: LinkCommand): Promise<LinkAnswer> {
  if (command.kind === 'open') {
    const route = await open(command.target)
    routes.set(command.route, route)
    return { port: (route.server.address() as AddressInfo).port }
  }
  if (command.kind === 'point') {
    const route = routes.get(command.route)!
    route.target = command.target
    for (const tunnel of [...route.tunnels]) tunnel.reset()
    return {}
  }
  if (command.kind === 'close') {
    for (const { server, tunnels } of routes.values()) {
      server.close()
      for (const tunnel of [...tunnels]) tunnel.reset()
    }
    return {}
  }
  for (const id of command.routes) {
    const route = routes.get(id)!
    route.isCut = command.kind === 'cut'
    for (const tunnel of [...route.tunnels]) tunnel.resume()
  }
  return {}
}

parentPort!.on('message', ({ id, command }: { id: number; command: LinkCommand }) => {
  void obey(command).then((answer) => parentPort!.postMessage({ id, answer }))
})
