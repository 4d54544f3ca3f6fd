const NS_PER_MS = 1e6

/** Milliseconds of the machine's monotonic clock, the same in every thread. */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / NS_PER_MS
}

/** What has to be added to `nowMs()` for Unix milliseconds. */
export function wallOffsetMs(): number {
  return performance.timeOrigin + performance.now() - nowMs()
}
