import type { Crowding } from '../domain/crowding.ts'
import { LINGER_MAX_MS, LINGER_MS, lingerMs } from '../domain/linger.ts'

/** When the next group is started. */
export interface StartPace {
  /** A start begins. */
  started(): void
  /**
   * A message of an application that publishes little waits: the group goes now, with what others have in it, at most once in
   * `LINGER_MS`. So a flood that lingers makes nobody else wait.
   */
  hurry(): void
  /** Resolves when the next group is due. */
  due(): Promise<void>
}

export function createStartPace(crowding: Crowding): StartPace {
  let startedAtMs = 0
  let hurriedAtMs = 0
  let inHurry = false
  let loop = performance.eventLoopUtilization()
  let wake: () => void = () => undefined

  const dueAtMs = (): number => {
    if (inHurry) return hurriedAtMs + LINGER_MS
    // What those have who publish little are starts enough: what others publish goes with them.
    if (crowding.crowded(Date.now())) return startedAtMs + LINGER_MAX_MS
    const soonestAtMs = startedAtMs + LINGER_MS
    // What the loop did in the first moments after a start says little about how busy it is.
    return Date.now() < soonestAtMs ? soonestAtMs : startedAtMs + lingerMs(performance.eventLoopUtilization(loop).utilization)
  }
  return {
    started() {
      startedAtMs = Date.now()
      if (inHurry) hurriedAtMs = startedAtMs
      inHurry = false
      loop = performance.eventLoopUtilization()
    },
    hurry() {
      inHurry = true
      wake()
    },
    async due() {
      for (let leftMs = dueAtMs() - Date.now(); leftMs > 0; leftMs = dueAtMs() - Date.now()) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, leftMs)
          wake = () => {
            clearTimeout(timer)
            resolve()
          }
        })
      }
    },
  }
}
