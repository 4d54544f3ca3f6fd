import type { Disposition } from './attempt.ts'

/**
 * What this process has sent for each run of a fan-out. A workflow task that is executed again in the same process (its
 * result was lost, or it took too long) looks here, so that nothing answered or in flight is sent twice.
 */
export interface RunMemory {
  /** The pairs of this run; undefined where the run is not remembered, and Postgres has to be asked. */
  get(runId: string): SentPairs | undefined
  /** Begins to remember a run. */
  begin(runId: string): SentPairs
  /** The first task of this group has been handed to this process: its first execution needs no look back. */
  expectGroup(groupId: string): void
  /** Whether this execution can only be the group's first; true once. */
  takeExpected(groupId: string): boolean
}

/** What became of deliveries, by message and endpoint. */
export interface SentPairs {
  readonly size: number
  get(messageId: string, endpointId: string): Promise<Disposition> | undefined
  set(messageId: string, endpointId: string, done: Promise<Disposition>): void
  /** What was set has ended as most do. */
  delivered(messageId: string, endpointId: string): void
}

const DELIVERED: Promise<Disposition> = Promise.resolve({ kind: 'delivered' })

/** Many are kept for a while: by the strings that are there anyway, and all that are delivered as one promise. */
function createSentPairs(): SentPairs {
  const endpoints = new Map<string, Map<string, Promise<Disposition>>>()
  let size = 0
  return {
    get size() {
      return size
    },
    get: (messageId, endpointId) => endpoints.get(endpointId)?.get(messageId),
    set(messageId, endpointId, done) {
      let messages = endpoints.get(endpointId)
      if (messages === undefined) {
        messages = new Map()
        endpoints.set(endpointId, messages)
      }
      const before = messages.size
      messages.set(messageId, done)
      size += messages.size - before
    },
    delivered: (messageId, endpointId) => void endpoints.get(endpointId)?.set(messageId, DELIVERED),
  }
}

// A lost workflow task comes back after its timeout of 10 s.
const REMEMBER_MS = 60_000
const PAIRS_MAX = 300_000
const EXPECTED_MAX = 10_000
// A task that was handed to this process and lost is executed again after its timeout of 10 s, perhaps elsewhere first.
const EXPECTED_FOR_MS = 5000

export function createRunMemory(now: () => number = Date.now): RunMemory {
  const runs = new Map<string, { readonly atMs: number; readonly pairs: SentPairs }>()
  const expected = new Map<string, number>()

  const forgetOld = () => {
    let pairs = 0
    for (const run of runs.values()) pairs += run.pairs.size
    for (const [runId, run] of runs) {
      if (run.atMs > now() - REMEMBER_MS && pairs <= PAIRS_MAX) return
      pairs -= run.pairs.size
      runs.delete(runId)
    }
  }
  let begun = 0
  return {
    get: (runId) => runs.get(runId)?.pairs,
    begin(runId) {
      if (++begun % 64 === 0) forgetOld()
      const pairs = createSentPairs()
      runs.set(runId, { atMs: now(), pairs })
      return pairs
    },
    expectGroup(groupId) {
      if (expected.size >= EXPECTED_MAX) expected.clear()
      expected.set(groupId, now())
    },
    takeExpected(groupId) {
      const sinceMs = expected.get(groupId)
      expected.delete(groupId)
      return sinceMs !== undefined && sinceMs > now() - EXPECTED_FOR_MS
    },
  }
}
