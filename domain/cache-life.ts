/** How much of what is expected of an entry comes from its last life; the rest is what was expected of it before. */
const LAST_LIFE_SHARE = 0.5
/** With half a use expected, an entry is asked for with a probability of 40 %, if uses come independently of each other. */
const WORTH_A_REFRESH = 0.5

/**
 * How often a cache's entry will be asked for in its next life, by the uses that were counted in this one and in those before.
 * @param before what was expected of this life; undefined for the first one
 * @param uses of this life so far, without the one that loaded it
 * @param livedShare how much of its life is over, above 0 and up to 1
 */
export function expectedUses(before: number | undefined, uses: number, livedShare: number): number {
  const now = uses / livedShare
  return before === undefined ? now : LAST_LIFE_SHARE * now + (1 - LAST_LIFE_SHARE) * before
}

/** Whether an entry of which so many uses are expected is loaded again before its life ends, rather than left to expire. */
export function isWorthRefreshing(expected: number): boolean {
  return expected >= WORTH_A_REFRESH
}
