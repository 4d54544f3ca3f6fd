/**
 * What arrived at the sink in one run, in memory that driver and sink share: `nowMs()` of the first arrivals of each delivery
 * (endpoint × message), and how many there were.
 */
export interface Ledger {
  readonly endpoints: number
  readonly messages: number
  /** Arrivals of a delivery whose time is kept. */
  readonly kept: number
  readonly buffers: LedgerBuffers
  readonly counts: Int32Array
  readonly times: Float64Array
  readonly totals: Int32Array
}

export interface LedgerBuffers {
  readonly counts: SharedArrayBuffer
  readonly times: SharedArrayBuffer
  readonly totals: SharedArrayBuffer
}

/**
 * Places in `totals`. `complete`: deliveries that an endpoint has answered with success. `requests`: all of the run, whatever
 * the answer. `refused`: those to endpoints that had not recovered.
 */
export const TOTAL = { complete: 0, hanging: 1, hangingPeak: 2, requests: 3, refused: 4 } as const

const INT_BYTES = 4
const DOUBLE_BYTES = 8

export function createLedger(endpoints: number, messages: number, kept: number): Ledger {
  const pairs = endpoints * messages
  return openLedger(endpoints, messages, kept, {
    counts: new SharedArrayBuffer(pairs * INT_BYTES),
    times: new SharedArrayBuffer(pairs * kept * DOUBLE_BYTES),
    totals: new SharedArrayBuffer(Object.keys(TOTAL).length * INT_BYTES),
  })
}

export function openLedger(endpoints: number, messages: number, kept: number, buffers: LedgerBuffers): Ledger {
  return {
    endpoints,
    messages,
    kept,
    buffers,
    counts: new Int32Array(buffers.counts),
    times: new Float64Array(buffers.times),
    totals: new Int32Array(buffers.totals),
  }
}

/** @returns which arrival of its delivery it was, from 0 */
export function recordArrival(ledger: Ledger, endpoint: number, message: number, atMs: number): number {
  const pair = endpoint * ledger.messages + message
  const earlier = Atomics.add(ledger.counts, pair, 1)
  if (earlier < ledger.kept) ledger.times[pair * ledger.kept + earlier] = atMs
  return earlier
}

/** `nowMs()` of an arrival that has been counted. */
export function arrivalMs(ledger: Ledger, endpoint: number, message: number, arrival: number): number {
  return ledger.times[(endpoint * ledger.messages + message) * ledger.kept + arrival]!
}

export function arrivalsOf(ledger: Ledger, endpoint: number, message: number): number {
  return Atomics.load(ledger.counts, endpoint * ledger.messages + message)
}

export function total(ledger: Ledger, place: keyof typeof TOTAL): number {
  return Atomics.load(ledger.totals, TOTAL[place])
}
