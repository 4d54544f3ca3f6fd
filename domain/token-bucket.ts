/** A rate that is kept with tokens: each request takes one, and they come back at the rate. */
export interface Rate {
  /** Names the bucket. */
  readonly key: string
  readonly perSecond: number
  /** Tokens that it holds at most; at least 1. */
  readonly burst: number
}

/** Tokens of a bucket `elapsedMs` after it had `tokens`. */
export function refilled(tokens: number, elapsedMs: number, rate: Rate): number {
  return Math.min(rate.burst, tokens + (Math.max(0, elapsedMs) / 1000) * rate.perSecond)
}

/**
 * Shares out what the buckets gave. Who needs tokens of several buckets gets all or none; the earlier asked come first.
 * @param asks the buckets that each needs a token of
 * @param granted tokens that each bucket gave; the function takes its own out, so that what stays can be given back
 * @returns for each whether it may go
 */
export function allot(asks: readonly (readonly Rate[])[], granted: Map<string, number>): boolean[] {
  return asks.map((rates) => {
    if (rates.some(({ key }) => (granted.get(key) ?? 0) < 1)) return false
    for (const { key } of rates) granted.set(key, granted.get(key)! - 1)
    return true
  })
}

/** Milliseconds until a bucket that has `tokens` has one for the `position`-th (from 0) that waits for it. */
export function waitMs(tokens: number, position: number, rate: Rate): number {
  return Math.max(0, Math.ceil(((position + 1 - tokens) / rate.perSecond) * 1000))
}
