/**
 * How much a dispatcher takes of what waits for whichever is free: as much as its process sends in `AHEAD_MS` at the best pace
 * of late. One that took all it finds would make it wait behind itself, while others have nothing to do.
 */
export interface Prefetch {
  /** Messages that may be taken now; 0 where enough is in hand. One, as long as nobody knows what a message leads to. */
  room(nowMs: number): number
  /** So many messages were taken. @param deliveries that they lead to, about */
  taken(messages: number, deliveries: number, nowMs: number): void
  /** The deliveries of so many messages that were taken begin now in this process, or turn out to be none of its own. */
  routed(messages: number): void
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
  const unrouted: { messages: number; readonly each: number; readonly atMs: number }[] = []
  let begun = 0
  /** Moving average of the deliveries that a message leads to. */
  let perMessage: number | undefined
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
      if (perMessage === undefined) return 1
      const most = Math.max(HELD_MIN, Math.max(0, ...paces) * AHEAD_MS)
      // Less than half of it is not worth a start.
      const free = most - begun - unrouted.reduce((sum, { messages, each }) => sum + messages * each, 0)
      return free < most / 2 ? 0 : Math.max(1, Math.floor(free / Math.max(1, perMessage)))
    },
    taken(messages, deliveries, nowMs) {
      if (messages === 0) return
      const each = deliveries / messages
      unrouted.push({ messages, each, atMs: nowMs })
      perMessage = perMessage === undefined ? each : perMessage + (each - perMessage) * AVERAGE_WEIGHT
    },
    routed(messages) {
      for (let left = messages; unrouted[0] !== undefined && left > 0;) {
        const routed = Math.min(left, unrouted[0].messages)
        left -= routed
        unrouted[0].messages -= routed
        if (unrouted[0].messages === 0) unrouted.shift()
      }
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
