/** A rate that rises from some point of time on: after recovery, or after an endpoint has said that it has too much to do. */
export interface Ramp {
  /** Requests a second at `fromMs`. */
  readonly rate: number
  /** Unix milliseconds; before it the rate is the same. */
  readonly fromMs: number
}

export interface RampRules {
  /** Requests a second that a recovering endpoint begins with. */
  readonly start: number
  /** The rate doubles every so many milliseconds. */
  readonly doubleMs: number
  /** From this rate on nothing is held back any more. */
  readonly free: number
}

/** Requests a second at `nowMs`: it doubles every `doubleMs` and in between rises evenly; never more than `free`. */
export function rampRate(ramp: Ramp, nowMs: number, rules: RampRules): number {
  const doublings = Math.max(0, nowMs - ramp.fromMs) / rules.doubleMs
  return Math.min(rules.free, ramp.rate * 2 ** doublings)
}

/** Unix milliseconds from which on the ramp holds nothing back. */
export function rampEndsMs(ramp: Ramp, rules: RampRules): number {
  return ramp.fromMs + Math.max(0, Math.log2(rules.free / ramp.rate)) * rules.doubleMs
}
