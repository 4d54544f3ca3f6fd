import { setTimeout as pause } from 'node:timers/promises'
import { isPassingFault } from './faults.ts'

/** Groups calls into one write: at once when idle, else when the write before returns, and the gap between two is over. */
export interface GroupCommit<T, R> {
  /** Resolves after the write that has it is committed. */
  add(item: T): Promise<R>
  /** Resolves when nothing is waiting or being written. */
  drained(): Promise<void>
}

export interface GroupCommitOptions<T, R> {
  /** Items of one write. */
  readonly max: number
  /** Takes the next group out of what waits. */
  readonly queue: { readonly size: number; push(item: T): void; take(max: number): T[] }
  /** Writes one group; the results are in the order of the items. */
  readonly write: (items: T[]) => Promise<R[]>
  /** Least time between the beginnings of two writes, in milliseconds, as of now. Absent: none. */
  readonly gapMs?: (() => number) | undefined
  /** So many items are written without waiting for the end of the gap. Absent: `max`. */
  readonly enough?: number | undefined
  /** When Postgres is away for now: `retry` until it is back, or `reject` the items at once. */
  readonly onPassingFault: 'retry' | 'reject'
}

interface Waiting<R> {
  resolve(result: R): void
  reject(error: unknown): void
}

const RETRY_MIN_MS = 50
const RETRY_MAX_MS = 1000

/**
 * A write that fails for a reason of its content is repeated item by item, so that one bad item fails alone.
 */
export function createGroupCommit<T extends object, R>(options: GroupCommitOptions<T, R>): GroupCommit<T, R> {
  const { queue, max, write, onPassingFault, gapMs, enough = max } = options
  const waiting = new Map<T, Waiting<R>>()
  let running = false
  let beganAtMs = -Infinity
  let endGap: () => void = () => undefined
  let idle: (() => void)[] = []

  const settle = async (items: T[]): Promise<void> => {
    let delayMs = RETRY_MIN_MS
    for (;;) {
      try {
        const results = await write(items)
        items.forEach((item, i) => finish(item, (one) => one.resolve(results[i]!)))
        return
      } catch (error) {
        const passing = isPassingFault(error)
        if (passing && onPassingFault === 'retry') {
          await pause(delayMs)
          delayMs = Math.min(delayMs * 2, RETRY_MAX_MS)
          continue
        }
        if (passing || items.length === 1) for (const item of items) finish(item, (one) => one.reject(error))
        else for (const item of items) await settle([item])
        return
      }
    }
  }
  const finish = (item: T, how: (one: Waiting<R>) => void) => {
    const one = waiting.get(item)
    waiting.delete(item)
    if (one !== undefined) how(one)
  }
  const gap = async () => {
    const leftMs = gapMs === undefined || queue.size >= enough ? 0 : beganAtMs + gapMs() - performance.now()
    if (leftMs <= 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, leftMs)
      endGap = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
  const run = async () => {
    while (queue.size > 0) {
      await gap()
      beganAtMs = performance.now()
      await settle(queue.take(max))
    }
    running = false
    for (const done of idle.splice(0)) done()
    idle = []
  }
  return {
    add(item) {
      return new Promise((resolve, reject) => {
        waiting.set(item, { resolve, reject })
        queue.push(item)
        if (queue.size >= enough) endGap()
        if (running) return
        running = true
        // What arrives in the same turn of the event loop goes into the same write.
        setImmediate(() => void run())
      })
    },
    drained: () => (running ? new Promise((resolve) => idle.push(resolve)) : Promise.resolve()),
  }
}

/** Plain first-in, first-out. */
export function createLine<T>(): { readonly size: number; push(item: T): void; take(max: number): T[] } {
  let items: T[] = []
  return {
    get size() {
      return items.length
    },
    push: (item) => void items.push(item),
    take(max) {
      const taken = items.slice(0, max)
      items = items.length > max ? items.slice(max) : []
      return taken
    },
  }
}
