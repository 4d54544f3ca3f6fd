/**
 * How much a dispatcher takes of what waits for whichever is free: as much as its process sends in `AHEAD_MS` at the best pace
 * of late. One that took all it finds would make it wait behind itself, while others have nothing to do.
 */
export interface Prefetch {
  /** Messages that may be taken now; 0 where enough is in hand. */
  room(nowMs: number): number
  /** So many messages were taken. */
  taken(messages: number, nowMs: number): void
  /** Messages that were taken are in this process's hands. @param deliveries that they lead to; undefined: not known here */
  routed(messages: number, deliveries: number | undefined): void
  /** So many deliveries begin; each ends. */
  begin(deliveries: number): void
  ended(nowMs: number): void
}

const AHEAD_MS = 1000
/** Deliveries that are never too many, so that a process that comes out of rest soon knows its pace. */
const HELD_MIN = 100
/** What was taken and has not been routed by then is with another process. */
const FORGET_AFTER_MS = 2000
const WINDOW_MS = 200
const WINDOWS = 10
const AVERAGE_WEIGHT = 0.2

export function createPrefetch(): Prefetch {
  /** Messages that were taken and are not routed yet, the oldest first. */
  const unrouted: { messages: number; readonly atMs: number }[] = []
  let begun = 0
  /** Moving average; 0 as long as there was none. */
  let perMessage = 0
  let windowAtMs = -Infinity
  let inWindow = 0
  let paces: number[] = []

  const turn = (nowMs: number) => {
    const sinceMs = nowMs - windowAtMs
    if (sinceMs >= 0 && sinceMs < WINDOW_MS) return
    paces = sinceMs >= 0 && sinceMs < WINDOWS * WINDOW_MS ? [...paces.slice(1 - WINDOWS), inWindow / sinceMs] : []
    windowAtMs = nowMs
    inWindow = 0
  }
  return {
    room(nowMs) {
      turn(nowMs)
      while (unrouted[0] !== undefined && nowMs - unrouted[0].atMs > FORGET_AFTER_MS) unrouted.shift()
      const each = Math.max(1, perMessage)
      const most = Math.max(HELD_MIN, Math.max(0, ...paces) * AHEAD_MS)
      // Less than half of it is not worth a start.
      const free = most - begun - unrouted.reduce((sum, { messages }) => sum + messages, 0) * each
      return free < most / 2 ? 0 : Math.max(1, Math.floor(free / each))
    },
    taken(messages, nowMs) {
      if (messages > 0) unrouted.push({ messages, atMs: nowMs })
    },
    routed(messages, deliveries) {
      if (messages === 0) return
      let left = messages
      while (unrouted[0] !== undefined && left > 0) {
        const routed = Math.min(left, unrouted[0].messages)
        left -= routed
        unrouted[0].messages -= routed
        if (unrouted[0].messages === 0) unrouted.shift()
      }
      if (deliveries === undefined) return
      const each = deliveries / messages
      perMessage = perMessage === 0 ? each : perMessage + (each - perMessage) * AVERAGE_WEIGHT
    },
    begin(deliveries) {
      begun += deliveries
    },
    ended(nowMs) {
      turn(nowMs)
      inWindow++
      begun--
    },
  }
}
