/**
 * Tells who publishes much at the moment: applications, or their lines (`lineOf` of domain/priority.ts). Memory is bounded by
 * who published in the last two windows.
 */
export interface PublishRates {
  /**
   * Counts messages.
   * @returns whether `who` publishes little: at most `MODEST_MAX` messages in this window and in the one before
   */
  count(who: string, nowMs: number, added?: number): boolean
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
    count(who, nowMs, added = 1) {
      turn(nowMs)
      const messages = (current.get(who) ?? 0) + added
      current.set(who, messages)
      return messages <= MODEST_MAX && (before.get(who) ?? 0) <= MODEST_MAX
    },
  }
}
