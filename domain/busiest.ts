/**
 * Keeps a value of its own for each of those of very many that do the most, and one for all others together. A value only ever
 * grows while it is kept, so that what is counted in it is a counter: who is no longer among the busiest loses it, and counts
 * with the others from then on.
 */
export interface Busiest<T> {
  /** Counts one use. @returns the id's own value, or that of all others */
  of(id: string, nowMs: number): T
  /** Of those that have one. */
  readonly named: ReadonlyMap<string, T>
  readonly others: T
}

export interface BusiestOptions<T> {
  /** How many have a value of their own. */
  readonly max: number
  /** Ids whose uses are counted at a time; those that come after so many others are not looked at until the next turn. */
  readonly countedMax: number
  /** Who has a value is chosen anew after so long, by the uses of the last two such times. */
  readonly turnMs: number
  readonly create: () => T
}

// Who has a value keeps it this much longer: a place that changes hands each time is a new series each time.
const KEPT_WITHIN = 2

export function createBusiest<T>({ max, countedMax, turnMs, create }: BusiestOptions<T>): Busiest<T> {
  const others = create()
  const named = new Map<string, T>()
  let before = new Map<string, number>()
  let uses = new Map<string, number>()
  let turnAtMs = -Infinity

  const choose = () => {
    const recent = new Map(before)
    for (const [id, count] of uses) recent.set(id, (recent.get(id) ?? 0) + count)
    const ranked = [...recent].sort(([, a], [, b]) => b - a).map(([id]) => id)
    const kept = new Set(ranked.slice(0, max * KEPT_WITHIN))
    for (const id of named.keys()) if (!kept.has(id)) named.delete(id)
    for (const id of ranked) {
      if (named.size >= max) break
      if (!named.has(id)) named.set(id, create())
    }
  }
  return {
    of(id, nowMs) {
      if (nowMs >= turnAtMs) {
        turnAtMs = nowMs + turnMs
        choose()
        before = uses
        uses = new Map()
      }
      const count = uses.get(id)
      if (count !== undefined) uses.set(id, count + 1)
      else if (uses.size < countedMax) uses.set(id, 1)
      const own = named.get(id)
      if (own !== undefined) return own
      if (named.size >= max) return others
      const created = create()
      named.set(id, created)
      return created
    },
    named,
    others,
  }
}
