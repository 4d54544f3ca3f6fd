/**
 * Tells when those who publish much have to wait so that those who publish little do not: both publish, and the process is
 * busy. It goes on for a while when it has begun: what waits leaves the process idle enough to look as if nobody had to.
 * Memory is bounded by who published in the last two windows.
 */
export interface Crowding {
  /** `who` has published. @param little whether it publishes little */
  published(who: string, little: boolean, nowMs: number): void
  /** Whether those who publish much have to wait now. */
  crowded(nowMs: number): boolean
}

const WINDOW_MS = 1000
const SAMPLE_MS = 100
const BUSY_FROM = 0.5
const CROWDED_FOR_MS = 30_000

/** @param utilisation share of the time since it was asked last that the process was busy, 0 to 1 */
export function createCrowding(utilisation: () => number): Crowding {
  let beganAtMs = -Infinity
  let modest = new Set<string>()
  let modestBefore = new Set<string>()
  let sampledAtMs = -Infinity
  let crowdedUntilMs = -Infinity

  const turn = (nowMs: number) => {
    const sinceMs = nowMs - beganAtMs
    if (sinceMs >= 0 && sinceMs < WINDOW_MS) return
    modestBefore = sinceMs >= 0 && sinceMs < 2 * WINDOW_MS ? modest : new Set()
    modest = new Set()
    beganAtMs = nowMs
  }
  return {
    published(who, little, nowMs) {
      turn(nowMs)
      if (little) {
        modest.add(who)
      } else {
        // Who begins to publish much has published little before.
        modest.delete(who)
        modestBefore.delete(who)
      }
    },
    crowded(nowMs) {
      turn(nowMs)
      if (modest.size === 0 && modestBefore.size === 0) return false
      if (nowMs < crowdedUntilMs) return true
      if (nowMs - sampledAtMs < SAMPLE_MS) return false
      sampledAtMs = nowMs
      if (utilisation() < BUSY_FROM) return false
      crowdedUntilMs = nowMs + CROWDED_FOR_MS
      return true
    },
  }
}
