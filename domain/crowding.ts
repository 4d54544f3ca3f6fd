/**
 * Tells when those who publish much have to wait so that those who publish little do not: both publish, and the process is
 * busy. It goes on for a while when it has begun: what waits leaves the process idle enough to look as if nobody had to.
 */
export interface Crowding {
  /** Somebody who publishes little has published. */
  modest(nowMs: number): void
  /** Whether who publishes much has to wait now. */
  crowded(nowMs: number): boolean
}

const MODEST_FOR_MS = 2000
const SAMPLE_MS = 100
const BUSY_FROM = 0.5
const CROWDED_FOR_MS = 30_000

/** @param utilisation share of the time since it was asked last that the process was busy, 0 to 1 */
export function createCrowding(utilisation: () => number): Crowding {
  let modestAtMs = -Infinity
  let sampledAtMs = -Infinity
  let crowdedUntilMs = -Infinity
  return {
    modest(nowMs) {
      modestAtMs = nowMs
    },
    crowded(nowMs) {
      if (nowMs - modestAtMs > MODEST_FOR_MS) return false
      if (nowMs < crowdedUntilMs) return true
      if (nowMs - sampledAtMs < SAMPLE_MS) return false
      sampledAtMs = nowMs
      if (utilisation() < BUSY_FROM) return false
      crowdedUntilMs = nowMs + CROWDED_FOR_MS
      return true
    },
  }
}
