/**
 * Which replica of Postgres a read may go to. All times are milliseconds of one clock of one process that never goes back;
 * positions are bytes of Postgres' write-ahead log. Design: docs/adr/0031.
 */

/** What the primary had written when it was asked. */
export interface PrimarySample {
  /** Before it was asked: what was committed by then lies below the position. */
  readonly atMs: number
  readonly position: number
}

/** What is known of how far the primary was at which time. */
export interface PrimaryPositions {
  /** Samples come in the order of their times. A position that falls (another primary) makes the others void. */
  add(sample: PrimarySample): void
  clear(): void
  readonly latest: PrimarySample | undefined
  /** @returns a time such that a replica that has applied so much has all that was committed by then; -Infinity: not known */
  completeUntil(position: number): number
}

const SAMPLES_MAX = 1000
/** Samples that are closer together tell nothing more of a replica that is seconds behind. */
const APART_MS = 500

export function createPrimaryPositions(): PrimaryPositions {
  let samples: PrimarySample[] = []
  return {
    add(sample) {
      const last = samples.at(-1)
      if (last !== undefined && sample.position < last.position) samples = []
      const before = samples.at(-2)
      const crowded = before !== undefined && sample.atMs - before.atMs < APART_MS
      // While nothing is written the position stands still, and who has it is complete until now.
      if (last?.position === sample.position || crowded) samples.pop()
      samples.push(sample)
      if (samples.length > SAMPLES_MAX) samples.shift()
    },
    clear() {
      samples = []
    },
    get latest() {
      return samples.at(-1)
    },
    completeUntil: (position) => samples.findLast((one) => one.position <= position)?.atMs ?? -Infinity,
  }
}

/** What was last seen of a replica. */
export interface ReplicaSight {
  readonly name: string
  /** It has all that was committed by then; -Infinity: not known, or it does not answer. */
  readonly completeUntilMs: number
  /** How far it has applied the log. */
  readonly position: number
}

/** What a read asks of a replica. */
export interface ReadNeeds {
  /** It has all that was committed by then: the lag that is borne, or the last change that the reader must see. */
  readonly completeUntilMs: number
  /** It has applied the log so far. */
  readonly position: number
}

export function fulfils(sight: ReplicaSight, needs: ReadNeeds): boolean {
  return sight.completeUntilMs >= needs.completeUntilMs && sight.position >= needs.position
}

/**
 * Of the replicas that fulfil a read's needs the one that all processes prefer for the key, so that one reader's pages come
 * from one replica, and each replica has its share of the keys in memory. Where it is away, its keys spread over the others.
 */
export function chooseReplica<T extends ReplicaSight>(replicas: readonly T[], key: string, needs: ReadNeeds): T | undefined {
  let chosen: T | undefined
  let best = -1
  for (const replica of replicas) {
    if (!fulfils(replica, needs)) continue
    const weight = hash(`${replica.name} ${key}`)
    if (weight <= best) continue
    chosen = replica
    best = weight
  }
  return chosen
}

/** FNV-1a, its bits mixed: keys differ in few characters. @returns an integer below 2^32 */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193)
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35)
  return (value ^ (value >>> 16)) >>> 0
}

/**
 * How long a replica that did not answer is left alone.
 * @param failures in a row, from 1
 */
export function lookAgainAfterMs(failures: number, everyMs: number, maxMs: number): number {
  return Math.min(everyMs * 2 ** (failures - 1), maxMs)
}

/** When this process last changed something of which application. */
export interface RecentWrites {
  wrote(appId: string, atMs: number): void
  /** @returns when, or a later time; -Infinity: not since what was forgotten */
  lastWrite(appId: string): number
  /** What was before is borne by any read. */
  forgetBefore(atMs: number): void
  readonly size: number
}

/** @param max applications that are told apart; what is dropped beyond counts as a write of every application */
export function createRecentWrites(max: number): RecentWrites {
  const writes = new Map<string, number>()
  let dropped = -Infinity
  return {
    wrote(appId, atMs) {
      // Last in the order of the map, which is that of the times.
      writes.delete(appId)
      writes.set(appId, atMs)
      if (writes.size <= max) return
      const [oldest] = writes
      dropped = oldest![1]
      writes.delete(oldest![0])
    },
    lastWrite: (appId) => writes.get(appId) ?? dropped,
    forgetBefore(atMs) {
      if (dropped < atMs) dropped = -Infinity
      for (const [appId, writtenAtMs] of writes) {
        if (writtenAtMs >= atMs) return
        writes.delete(appId)
      }
    },
    get size() {
      return writes.size
    },
  }
}
