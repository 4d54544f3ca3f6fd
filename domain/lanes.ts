/**
 * Which lane an endpoint's first attempts take: the fast one while it answers within a second, the slow one from an answer
 * over 5 s, or none, on. In between it stays where it is, so that no endpoint goes to and fro. Two things say so: the shared
 * window (`slow` and `fast` of domain/health.ts), and, before that has heard, what this process has seen itself.
 */

export const QUICK_MS = 1000
export const SLOW_ABOVE_MS = 5000

/** Quick answers in a row after which an endpoint is fast again. */
export const QUICK_ANSWERS = 20
/** After so long without a request that was not quick it is tried in the fast lane. */
export const SLOW_FOR_MS = 60_000

/** What a process remembers of an endpoint that it has seen to be slow. Times are Unix milliseconds. */
export interface Slowness {
  /** The last request that was not answered quickly. */
  readonly lastMs: number
  /** Answers since then. */
  readonly quick: number
}

/**
 * @param slowness before; undefined: the endpoint is fast
 * @param durationMs how long the request took; Infinity: it was not answered, or has not been for 5 s
 */
export function afterRequest(slowness: Slowness | undefined, durationMs: number, nowMs: number): Slowness | undefined {
  const known = slowness !== undefined && isSlow(slowness, nowMs) ? slowness : undefined
  if (durationMs > SLOW_ABOVE_MS || (known !== undefined && durationMs >= QUICK_MS)) return { lastMs: nowMs, quick: 0 }
  if (known === undefined || known.quick + 1 >= QUICK_ANSWERS) return undefined
  return { ...known, quick: known.quick + 1 }
}

export function isSlow(slowness: Slowness, nowMs: number): boolean {
  return nowMs - slowness.lastMs < SLOW_FOR_MS
}
