/**
 * A queue that is emptied round-robin over its keys, so that a key with many items waits behind itself and not in front of
 * the others.
 */
export interface FairQueue<T> {
  readonly size: number
  push(key: string, item: T): void
  /** Up to `max` items: one of each key in turn, each key's own in the order they came. */
  take(max: number): T[]
}

export function createFairQueue<T>(): FairQueue<T> {
  const lines = new Map<string, T[]>()
  let size = 0
  return {
    get size() {
      return size
    },
    push(key, item) {
      size++
      const line = lines.get(key)
      if (line === undefined) lines.set(key, [item])
      else line.push(item)
    },
    take(max) {
      const taken: T[] = []
      if (lines.size === 1) {
        const [key, line] = lines.entries().next().value!
        taken.push(...line.splice(0, max))
        if (line.length === 0) lines.delete(key)
      }
      while (taken.length < max && lines.size > 0) takeRound(lines, taken, max)
      size -= taken.length
      return taken
    },
  }
}

/** One item of each key; a key that got its turn goes to the end, so that the next call begins with another. */
function takeRound<T>(lines: Map<string, T[]>, taken: T[], max: number): void {
  for (const [key, line] of [...lines]) {
    if (taken.length >= max) return
    taken.push(line.shift()!)
    lines.delete(key)
    if (line.length > 0) lines.set(key, line)
  }
}
