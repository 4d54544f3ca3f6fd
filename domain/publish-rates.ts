/**
 * Tells who publishes much at the moment: applications, or their lines (`lineOf` of domain/priority.ts). Memory is bounded by
 * who published in the last two windows.
 */
export interface PublishRates {
  /**
   * Counts a message.
   * @returns whether `who` publishes little: at most `MODEST_MAX` messages in this window and in the one before
   */
  count(who: string, nowMs: number): boolean
  /** Whether more than one has published in this window or the one before. */
  several(nowMs: number): boolean
}

const WINDOW_MS = 200
/** 40 messages a second. */
const MODEST_MAX = 8

export function createPublishRates(): PublishRates {
  let beganAtMs = 0
  let current = new Map<string, number>()
  let before = new Map<string, number>()

  const turn = (nowMs: number) => {
    const sinceMs = nowMs - beganAtMs
    if (sinceMs >= 0 && sinceMs < WINDOW_MS) return
    before = sinceMs >= 0 && sinceMs < 2 * WINDOW_MS ? current : new Map<string, number>()
    current = new Map()
    beganAtMs = nowMs
  }
  return {
    count(who, nowMs) {
      turn(nowMs)
      const messages = (current.get(who) ?? 0) + 1
      current.set(who, messages)
      return messages <= MODEST_MAX && (before.get(who) ?? 0) <= MODEST_MAX
    },
    several(nowMs) {
      turn(nowMs)
      if (current.size > 1 || before.size > 1) return true
      const [one] = current.keys()
      const [other] = before.keys()
      return one !== undefined && other !== undefined && one !== other
    },
  }
}
