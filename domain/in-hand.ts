/**
 * The first attempts that this process has before it: of messages that it has accepted, until each delivery was sent or handed
 * on. Tells how much more it should be given while it is busy, so that what is published waits in front of the commit, where
 * its publisher knows, and not behind it. What another process has taken over is forgotten after `FORGET_AFTER_MS`.
 */
export interface InHand {
  /** A message was accepted. @param deliveries first attempts that it leads to */
  add(messageId: string, deliveries: number, nowMs: number): void
  /** Deliveries begin to be made; each ends with `done` or `handedOn`. */
  begin(deliveries: number): void
  /** One of its deliveries was sent or handed on; of any other message it counts for the pace alone. */
  done(messageId: string, nowMs: number): void
  /** One of its deliveries waits for its endpoint, which takes its time: not for this process. */
  handedOn(messageId: string): void
  /** Messages that may be accepted now, so that all is made within `HOLD_MS` at the best pace of late; 0 where there is enough. */
  room(nowMs: number): number
  /** Whether the deliveries that were begun are nearly made, and those of so many messages that wait are worth a start. */
  isDry(messagesWaiting: number): boolean
  /** So many messages are about to be accepted. */
  expect(messages: number): void
}

const HOLD_MS = 130
/** Deliveries that are never too many, so that a process that comes out of rest soon knows its pace. */
const HELD_MIN = 500
/** Deliveries that are made while a start is under way. */
const DRY_BELOW = 50
/** Deliveries that cost as much as two starts of fan-outs. */
const WORTH_A_START = 300
const FORGET_AFTER_MS = 2000
const WINDOW_MS = 200
/** The pace of a window tells what was given, and the best of them what could be made. */
const WINDOWS = 10
const AVERAGE_WEIGHT = 0.05

interface Entry {
  left: number
  readonly addedAtMs: number
}

export function createInHand(): InHand {
  const entries = new Map<string, Entry>()
  let held = 0
  /** Moving average; 0 as long as there was none. */
  let perMessage = 0
  let windowAtMs = -Infinity
  let inWindow = 0
  let begun = 0
  let paces: number[] = []
  let expected = 0

  const turn = (nowMs: number) => {
    const sinceMs = nowMs - windowAtMs
    if (sinceMs >= 0 && sinceMs < WINDOW_MS) return
    paces = sinceMs >= 0 && sinceMs < WINDOWS * WINDOW_MS ? [...paces.slice(1 - WINDOWS), inWindow / sinceMs] : []
    windowAtMs = nowMs
    inWindow = 0
    // Of what was expected some may never come: it was refused, or goes nowhere.
    expected = 0
  }
  const forget = (nowMs: number) => {
    for (const [id, entry] of entries) {
      const sinceMs = nowMs - entry.addedAtMs
      if (sinceMs >= 0 && sinceMs < FORGET_AFTER_MS) return
      held -= entry.left
      entries.delete(id)
    }
  }
  const leave = (messageId: string) => {
    const entry = entries.get(messageId)
    if (entry === undefined) return
    held--
    if (--entry.left === 0) entries.delete(messageId)
  }
  return {
    begin(deliveries) {
      begun += deliveries
    },
    isDry: (messagesWaiting) => begun < DRY_BELOW && messagesWaiting * perMessage >= WORTH_A_START,
    add(messageId, deliveries, nowMs) {
      forget(nowMs)
      if (expected > 0) expected--
      if (deliveries === 0 || entries.has(messageId)) return
      entries.set(messageId, { left: deliveries, addedAtMs: nowMs })
      held += deliveries
      perMessage = perMessage === 0 ? deliveries : perMessage + (deliveries - perMessage) * AVERAGE_WEIGHT
    },
    done(messageId, nowMs) {
      turn(nowMs)
      inWindow++
      begun--
      leave(messageId)
    },
    handedOn(messageId) {
      begun--
      leave(messageId)
    },
    room(nowMs) {
      turn(nowMs)
      forget(nowMs)
      const most = Math.max(HELD_MIN, Math.max(0, ...paces) * HOLD_MS)
      return Math.max(0, Math.ceil((most - held) / Math.max(1, perMessage)) - expected)
    },
    expect(messages) {
      expected += messages
    },
  }
}
