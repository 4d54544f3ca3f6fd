/** When workers are added and removed. `docs/autoscaling.md` says where each default comes from. */
export interface ScalingRules {
  /** Between two samples. */
  readonly intervalMs: number
  /** Samples further apart do not show that anything has lasted. */
  readonly gapMs: number
  readonly up: {
    /** Deliveries that wait, above which workers are added. */
    readonly depth: number
    /** Share of their time or slots that workers use, 0 to 1, above which workers are added. */
    readonly utilisation: number
    /** How long depth or utilisation has to be above. Latency and failures count at once. */
    readonly forMs: number
    /** From a message's publish to its first request. */
    readonly firstRequestP99Ms: number
    /** Share of the requests, 0 to 1, that fail by our own fault. */
    readonly failureShare: number
    readonly stepPercent: number
    /** After workers were added nothing changes for so long. */
    readonly cooldownMs: number
  }
  readonly down: {
    /** Below both of these, and healthy, for `forMs`. */
    readonly depth: number
    readonly utilisation: number
    readonly forMs: number
    readonly stepPercent: number
    /** After workers were removed nothing changes for so long. */
    readonly cooldownMs: number
  }
  /** Requests in a sample below which its latency and its failures say nothing. */
  readonly minRequests: number
  readonly min: number
  readonly max: number
}

export const DEFAULT_RULES: ScalingRules = {
  intervalMs: 15_000,
  gapMs: 30_000,
  up: {
    depth: 10_000,
    utilisation: 0.8,
    forMs: 300_000,
    firstRequestP99Ms: 5000,
    failureShare: 0.1,
    stepPercent: 20,
    cooldownMs: 60_000,
  },
  down: { depth: 1000, utilisation: 0.3, forMs: 900_000, stepPercent: 10, cooldownMs: 300_000 },
  minRequests: 20,
  min: 10,
  max: 10_000,
}

/** A sample takes its time, however short the intervals are. */
const SAMPLE_TAKES_MS = 5000

/** The rules with all their times multiplied, for tests and drills. What they judge (latency too) stays as it is. */
export function withTimeScale({ intervalMs, gapMs, up, down, ...rest }: ScalingRules, scale: number): ScalingRules {
  const scaled = (ms: number) => Math.max(1, Math.round(ms * scale))
  return {
    ...rest,
    intervalMs: scaled(intervalMs),
    gapMs: Math.max(scaled(gapMs), scaled(intervalMs) + SAMPLE_TAKES_MS),
    up: { ...up, forMs: scaled(up.forMs), cooldownMs: scaled(up.cooldownMs) },
    down: { ...down, forMs: scaled(down.forMs), cooldownMs: scaled(down.cooldownMs) },
  }
}
