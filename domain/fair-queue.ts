/**
 * A queue that is emptied in turns over its keys, so that a key with many items waits behind itself and not in front of the
 * others. A turn of a key is as many items as its weight.
 */
export interface FairQueue<T> {
  readonly size: number
  /** @param weight whole number from 1; the last one given for a key counts from its next turn on */
  push(key: string, item: T, weight?: number): void
  /** Up to `max` items: a turn of each key, then the next; each key's own in the order they came. */
  take(max: number): T[]
}

interface Line<T> {
  items: T[]
  /** The first item that waits: taking from the front of a long array would move the whole of it each time. */
  head: number
  weight: number
  /** Items left of the turn that a take has cut off; 0 where its turn has not begun. */
  left: number
}

export function createFairQueue<T>(): FairQueue<T> {
  const lines = new Map<string, Line<T>>()
  let size = 0
  return {
    get size() {
      return size
    },
    push(key, item, weight = 1) {
      size++
      const line = lines.get(key)
      if (line === undefined) {
        lines.set(key, { items: [item], head: 0, weight, left: 0 })
      } else {
        line.items.push(item)
        line.weight = weight
      }
    },
    take(max) {
      const taken: T[] = []
      while (taken.length < max && lines.size > 0) takeRound(lines, taken, max)
      size -= taken.length
      return taken
    },
  }
}

/** One turn of each key. A key that had its turn goes to the end; one whose turn the end of the take cuts off goes on first. */
function takeRound<T>(lines: Map<string, Line<T>>, taken: T[], max: number): void {
  // A key that goes to the end is not met again in this round.
  let unmet = lines.size
  for (const [key, line] of lines) {
    const room = max - taken.length
    if (unmet-- === 0 || room <= 0) return
    const turn = lines.size === 1 ? room : line.left > 0 ? line.left : line.weight
    const count = Math.min(turn, room, line.items.length - line.head)
    for (let i = 0; i < count; i++) taken.push(line.items[line.head + i]!)
    drop(line, count)
    line.left = turn - count
    if (line.head === line.items.length) {
      lines.delete(key)
    } else if (line.left === 0) {
      lines.delete(key)
      lines.set(key, line)
    }
  }
}

const COMPACT_FROM = 1024

function drop<T>(line: Line<T>, count: number): void {
  line.head += count
  if (line.head < COMPACT_FROM || line.head * 2 < line.items.length) return
  line.items = line.items.slice(line.head)
  line.head = 0
}
