import type { Crowding } from '../domain/crowding.ts'
import type { InHand } from '../domain/in-hand.ts'
import { CROWDED_LINGER_MS, lingerMs } from '../domain/linger.ts'

/** When the next group is started. */
export interface StartPace {
  /** A start begins. */
  started(): void
  /**
   * A message of an application that publishes little waits: the group goes now, with what others have in it, at most once in
   * the least linger. So a flood that lingers makes nobody else wait.
   */
  hurry(): void
  /** Resolves when the next group is due. @param waiting tells how many messages wait for it */
  due(waiting: () => number): Promise<void>
}

const LOOK_EVERY_MS = 10

/**
 * @param inHand tells whether there is nothing else to do than what waits: then nothing is won by waiting for more
 * @param leastMs between two starts (`TIDINGS_GROUP_LINGER_MS`)
 */
export function createStartPace(crowding: Crowding, inHand: Pick<InHand, 'isDry'>, leastMs: number): StartPace {
  // Of the monotonic clock: the other may be set back.
  let startedAtMs = -Infinity
  let hurriedAtMs = -Infinity
  let inHurry = false
  let loop = performance.eventLoopUtilization()
  let wake: () => void = () => undefined

  const dueAtMs = (waiting: number): number => {
    if (inHurry) return hurriedAtMs + leastMs
    // What those have who publish little are starts enough: what others publish goes with them.
    if (crowding.crowded(Date.now())) return startedAtMs + Math.max(CROWDED_LINGER_MS, leastMs)
    const soonestAtMs = startedAtMs + leastMs
    // What the loop did in the first moments after a start says little about how busy it is.
    if (performance.now() < soonestAtMs || inHand.isDry(waiting)) return soonestAtMs
    return startedAtMs + lingerMs(performance.eventLoopUtilization(loop).utilization, leastMs)
  }
  return {
    started() {
      startedAtMs = performance.now()
      if (inHurry) hurriedAtMs = startedAtMs
      inHurry = false
      loop = performance.eventLoopUtilization()
    },
    hurry() {
      inHurry = true
      wake()
    },
    async due(waiting) {
      const leftMs = () => dueAtMs(waiting()) - performance.now()
      for (let left = leftMs(); left > 0; left = leftMs()) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, Math.min(left, LOOK_EVERY_MS))
          wake = () => {
            clearTimeout(timer)
            resolve()
          }
        })
      }
    },
  }
}
