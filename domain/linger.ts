/**
 * Least time between two starts of fan-outs while events queue, unless configured. A start costs the machine some 20 ms of CPU whatever is in it,
 * so events that arrive faster than that share one; an event that comes alone is started at once.
 */
export const LINGER_MS = 30

/** Between two starts where the process is saturated: then every start less is time for deliveries. */
export const LINGER_MAX_MS = 70

/** Where a flood crowds others out: it waits longer, in favour of those who publish little and hurry (ADR 11). */
export const CROWDED_LINGER_MS = 100

const FROM_UTILISATION = 0.5
const FULL_UTILISATION = 0.8

/**
 * @param utilisation share of the time that the event loop was busy, 0 to 1
 * @param leastMs between two starts, however little there is to do
 */
export function lingerMs(utilisation: number, leastMs: number): number {
  return leastMs + Math.max(0, LINGER_MAX_MS - leastMs) * saturationOf(utilisation, FROM_UTILISATION, FULL_UTILISATION)
}

/**
 * Least time between the beginnings of two commits of what is published, where the process is saturated. A write costs the
 * machine about a millisecond of CPU whatever is in it; nothing waits where the process has time.
 */
export const COMMIT_GAP_MAX_MS = 6

/** The same of two writes of attempts, for whose commit no publisher waits. */
export const ATTEMPTS_GAP_MAX_MS = 50

const GAP_FROM_UTILISATION = 0.6
const GAP_FULL_UTILISATION = 0.9

/**
 * @param utilisation share of the time that the event loop was busy, 0 to 1
 * @param mostMs where it was busy all the time, or nearly
 */
export function writeGapMs(utilisation: number, mostMs: number): number {
  return mostMs * saturationOf(utilisation, GAP_FROM_UTILISATION, GAP_FULL_UTILISATION)
}

function saturationOf(utilisation: number, from: number, full: number): number {
  return Math.min(1, Math.max(0, (utilisation - from) / (full - from)))
}
