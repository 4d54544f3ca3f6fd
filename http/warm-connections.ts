import type { Socket } from 'node:net'
import type { buildConnector } from 'undici'
import { LIMITS } from '../domain/limits.ts'

/**
 * One connection in reserve for each of the origins with the most requests: where one of theirs ends (its idle time, its
 * lifetime, its number of requests), or another is needed, the next request does not wait for connecting and TLS.
 */
export interface WarmConnections {
  /** A request to the origin begins. */
  begin(origin: string): void
  /** The same connector, that gives what is in reserve first. @param prefix in front of its origins */
  reserved(connect: buildConnector.connector, prefix: string): buildConnector.connector
  /** Closes what is in reserve. */
  stop(): void
}

/** A connection in reserve. */
interface Spare {
  take(): Socket | undefined
  close(): void
}

interface Origin {
  /** Requests of late: those of earlier looks count half, a quarter and so on. */
  requests: number
  /** Opens a connection as the last one was; undefined before the first. */
  open?: () => void
  spare?: Spare | undefined
  opening: boolean
  /** No other is opened before, unless one is needed meanwhile. */
  notBeforeMs: number
}

const LOOK_EVERY_MS = 10_000
/** About one request in two seconds. */
const BUSY_FROM = 10

/** @param lookEveryMs how often the origins with the most requests are looked for */
export function createWarmConnections(max: number, lookEveryMs = LOOK_EVERY_MS): WarmConnections {
  const origins = new Map<string, Origin>()
  let stopped = false
  const originOf = (name: string): Origin => {
    const known = origins.get(name)
    if (known !== undefined) return known
    const origin = { requests: 0, opening: false, notBeforeMs: 0 }
    origins.set(name, origin)
    return origin
  }

  const look = (): void => {
    const all = [...origins.values()]
    const busy = all.filter(({ requests }) => requests >= BUSY_FROM).sort((a, b) => b.requests - a.requests)
    const lacking = busy.slice(0, max).filter((origin) => !hasSpare(origin) && origin.notBeforeMs <= performance.now())
    const room = Math.max(0, max - all.filter(hasSpare).length)
    for (const origin of lacking.slice(0, room)) origin.open?.()
    for (const [name, origin] of origins) {
      origin.requests /= 2
      if (origin.requests < 0.5 && !hasSpare(origin)) origins.delete(name)
    }
  }
  const timer = setInterval(look, lookEveryMs).unref()

  return {
    begin: (name) => void originOf(name).requests++,
    reserved: (connect, prefix) => (target, callback) => {
      const origin = originOf(`${prefix}${target.protocol}//${target.host ?? target.hostname}`)
      origin.open = () => {
        origin.notBeforeMs = performance.now() + LIMITS.connectionIdleMs
        origin.opening = true
        connect(target, (...[error, socket]) => {
          origin.opening = false
          // Not by the socket: undici gives `undefined` with an error where its types say `null`.
          if (error !== null) return
          if (stopped) socket.destroy()
          else origin.spare = hold(socket, () => (origin.spare = undefined))
        })
      }
      const { spare } = origin
      if (spare !== undefined) origin.notBeforeMs = 0
      const socket = spare?.take()
      if (socket === undefined) connect(target, callback)
      else queueMicrotask(() => callback(null, socket))
    },
    stop: () => {
      stopped = true
      clearInterval(timer)
      for (const { spare } of origins.values()) spare?.close()
    },
  }
}

const hasSpare = ({ spare, opening }: Origin): boolean => spare !== undefined || opening

/** Holds a connection until it is taken, has waited too long, or its endpoint ends it or says something unasked. */
function hold(socket: Socket, forget: () => void): Spare {
  const end = (): void => void socket.destroy()
  const timer = setTimeout(end, LIMITS.connectionIdleMs).unref()
  const release = (): void => {
    clearTimeout(timer)
    socket.off('readable', end).off('end', end).off('close', release)
    forget()
  }
  socket.on('readable', end).on('end', end).on('close', release)
  return {
    take: () => {
      release()
      return socket.destroyed || !socket.writable ? undefined : socket
    },
    close: end,
  }
}
