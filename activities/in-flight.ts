import type { Disposition } from './attempt.ts'

/** Requests that outlived their local activity: an activity on this process's own task queue attaches to them. */
export interface InFlight {
  /** @param pair the ids of message and endpoint, with a space between them */
  add(runId: string, pair: string, done: Promise<Disposition>): void
  /** Undefined where this process has no such request (any more). */
  find(runId: string, pair: string): Promise<Disposition> | undefined
}

// How long an answered request waits to be asked for.
const KEEP_ANSWERED_MS = 60_000

export function createInFlight(): InFlight {
  const requests = new Map<string, Promise<Disposition>>()
  return {
    add(runId, pair, done) {
      const key = `${runId} ${pair}`
      requests.set(key, done)
      const forget = () => void setTimeout(() => requests.delete(key), KEEP_ANSWERED_MS).unref()
      done.then(forget, forget)
    },
    find: (runId, pair) => requests.get(`${runId} ${pair}`),
  }
}
