import type { buildConnector } from 'undici'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'

/** How much of a TLS handshake a connection took: `resumed` continued an earlier session. */
export type Handshake = 'none' | 'full' | 'resumed'

/** What connections have been used for, since the process began. */
export interface ConnectionUsage {
  readonly requests: number
  readonly opened: Readonly<Record<Handshake, number>>
  /** Open now. */
  readonly open: number
}

/** Bounds the connections that are kept open over all hosts, which undici does not. */
export interface IdleConnections {
  /** A request to the origin begins. */
  begin(origin: string): void
  /** A request to the origin has ended. */
  end(origin: string): void
  /** The same connector, its connections counted. @param prefix in front of its origins */
  counted(connect: buildConnector.connector, prefix: string): buildConnector.connector
  usage(): ConnectionUsage
}

interface OriginState {
  inFlight: number
  readonly sockets: Set<Socket>
}

/**
 * A connection that is opened beyond `max` closes those of the origins used longest ago that have no request in flight. Busy
 * ones are never closed: where more than `max` requests are in flight, so many connections are open.
 */
export function createIdleConnections(max: number): IdleConnections {
  // In the order of last use: the first is the one used longest ago.
  const origins = new Map<string, OriginState>()
  const openedBy = { none: 0, full: 0, resumed: 0 }
  let requests = 0
  let open = 0

  const closed = (origin: string, state: OriginState, socket: Socket): void => {
    if (!state.sockets.delete(socket)) return
    open--
    forgetUnused(origins, origin, state)
  }
  const opened = (origin: string, socket: Socket): void => {
    const state = stateOf(origins, origin)
    state.sockets.add(socket)
    openedBy[handshakeOf(socket)]++
    open++
    socket.once('close', () => closed(origin, state, socket))
    if (open > max) closeIdle()
  }
  const closeIdle = (): void => {
    for (const [origin, state] of origins) {
      if (state.inFlight > 0) continue
      for (const socket of [...state.sockets]) {
        closed(origin, state, socket)
        socket.destroy()
      }
      if (open <= max) return
    }
  }

  return {
    begin: (origin) => {
      const state = stateOf(origins, origin)
      state.inFlight++
      requests++
      origins.delete(origin)
      origins.set(origin, state)
    },
    end: (origin) => {
      const state = origins.get(origin)
      if (state === undefined) return
      state.inFlight--
      forgetUnused(origins, origin, state)
    },
    counted: (connect, prefix) => (target, callback) => {
      connect(target, (...result) => {
        if (result[0] === null) opened(`${prefix}${target.protocol}//${target.host}`, result[1])
        callback(...result)
      })
    },
    usage: () => ({ requests, opened: { ...openedBy }, open }),
  }
}

function handshakeOf(socket: Socket): Handshake {
  if (!(socket instanceof TLSSocket)) return 'none'
  return socket.isSessionReused() ? 'resumed' : 'full'
}

function stateOf(origins: Map<string, OriginState>, origin: string): OriginState {
  const known = origins.get(origin)
  if (known !== undefined) return known
  const state: OriginState = { inFlight: 0, sockets: new Set() }
  origins.set(origin, state)
  return state
}

function forgetUnused(origins: Map<string, OriginState>, origin: string, state: OriginState): void {
  if (state.inFlight === 0 && state.sockets.size === 0 && origins.get(origin) === state) origins.delete(origin)
}
