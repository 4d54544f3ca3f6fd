const SAMPLE_MS = 100

/** @returns what tells the share of the last tenth of a second or so that the event loop was busy, 0 to 1 */
export function createUtilisation(): () => number {
  let last = performance.eventLoopUtilization()
  let sampledAtMs = performance.now()
  let share = 0
  return () => {
    const nowMs = performance.now()
    if (nowMs - sampledAtMs < SAMPLE_MS) return share
    sampledAtMs = nowMs
    const before = last
    last = performance.eventLoopUtilization()
    share = performance.eventLoopUtilization(last, before).utilization
    return share
  }
}
