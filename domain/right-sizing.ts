/** What recorded use says about the number of workers, and how they are paid for. Hours are of the day, in UTC; money is USD a month. */

import { TARGET_UTILISATION } from './capacity.ts'

/** Above it there is no room for an ordinary minute that is busier than the last. */
const TOO_BUSY = 0.85
/** A recommendation that saves less of the workers is noise. */
const WORTH_WORKERS = 0.05
const HOURS = 24

/** One pool in one hour of the day, over all recorded days. */
export interface HourOfUse {
  /** 0 to 23. */
  readonly hour: number
  /** Samples that said how busy the workers were. */
  readonly samples: number
  /** Workers that ran, on average. */
  readonly workers: number
  /** Workers' worth of work (workers × utilisation): on average, and at p95. */
  readonly busy: number
  readonly busyP95: number
}

export interface SizingPrices {
  /** A month of one worker, on demand. */
  readonly worker: number
  /** Shares that are saved. */
  readonly spotDiscount: number
  readonly reservedDiscount: number
}

export interface SizingRules {
  /** Fewer workers are never advised. */
  readonly minWorkers: number
  /** Fewer samples of an hour say nothing about it. */
  readonly minSamples: number
}

export const DEFAULT_SIZING_RULES: SizingRules = { minWorkers: 2, minSamples: 20 }

export type SizingKind = 'under-provisioned' | 'over-provisioned' | 'off-peak' | 'reserved' | 'spot'

export interface SizingAdvice {
  readonly kind: SizingKind
  /** Workers before and with it; of reserved and spot those that it is about. Averages are not whole. */
  readonly from: number
  readonly to: number
  /** 0 where more are needed. */
  readonly saving: number
  /** Of off-peak: workers by hour of the day. */
  readonly hours?: readonly number[]
}

export interface PoolAdvice {
  /** Workers, and their use, on average. */
  readonly workers: number
  readonly utilisation: number
  readonly costNow: number
  /** In the order in which it applies: each saves of what those before it leave, so savings can be added. */
  readonly advice: readonly SizingAdvice[]
  /** Hours of the day without enough samples: where there are some, nothing is said about off-peak, reserved and spot. */
  readonly unknownHours: readonly number[]
}

/** Workers that so much work keeps busy to the target. @param busy workers × utilisation */
export function workersFor(busy: number, { minWorkers }: Pick<SizingRules, 'minWorkers'>, target = TARGET_UTILISATION): number {
  // 7 / 0.7 is more than 10 in floating point.
  return Math.max(minWorkers, Math.ceil(Number((busy / target).toFixed(9))))
}

/** Advice for one pool. @returns undefined where no hour has enough samples */
export function adviseOnPool(
  hours: readonly HourOfUse[],
  prices: SizingPrices,
  rules: SizingRules = DEFAULT_SIZING_RULES,
): PoolAdvice | undefined {
  const known = hours.filter(({ samples }) => samples >= rules.minSamples)
  if (known.length === 0) return undefined
  const mean = (value: (hour: HourOfUse) => number) => known.reduce((sum, hour) => sum + value(hour), 0) / known.length
  const workers = mean((hour) => hour.workers)
  const busy = mean((hour) => hour.busy)
  const atPeak = workersFor(Math.max(...known.map(({ busyP95 }) => busyP95)), rules)
  const unknownHours = Array.from({ length: HOURS }, (_, hour) => hour).filter((hour) => !known.some((one) => one.hour === hour))
  const advice: SizingAdvice[] = []
  const tooBusy = known.find(({ busyP95, workers: there }) => busyP95 > there * TOO_BUSY)
  if (tooBusy !== undefined) {
    const to = workersFor(tooBusy.busyP95, rules)
    advice.push({ kind: 'under-provisioned', from: tooBusy.workers, to, saving: 0, hours: [tooBusy.hour] })
  } else if (workers - atPeak > workers * WORTH_WORKERS) {
    advice.push({ kind: 'over-provisioned', from: workers, to: atPeak, saving: (workers - atPeak) * prices.worker })
  }
  if (unknownHours.length === 0) advice.push(...adviseOnHours(known, { base: Math.min(workers, atPeak), prices, rules }))
  return { workers, utilisation: workers === 0 ? 0 : busy / workers, costNow: workers * prices.worker, advice, unknownHours }
}

/** With every hour of the day known: fewer workers where there is less to do, and cheaper ones. @param base workers before it */
function adviseOnHours(
  hours: readonly HourOfUse[],
  { base, prices, rules }: { readonly base: number; readonly prices: SizingPrices; readonly rules: SizingRules },
): SizingAdvice[] {
  const needed = [...hours].sort((a, b) => a.hour - b.hour).map(({ busyP95 }) => workersFor(busyP95, rules))
  const onAverage = needed.reduce((sum, one) => sum + one, 0) / HOURS
  const advice: SizingAdvice[] = []
  const scales = base - onAverage > base * WORTH_WORKERS
  if (scales) advice.push({ kind: 'off-peak', from: base, to: onAverage, saving: (base - onAverage) * prices.worker, hours: needed })
  const always = Math.min(Math.floor(base), Math.min(...needed))
  const rest = Math.max(0, (scales ? onAverage : base) - always)
  if (always > 0) advice.push({ kind: 'reserved', from: always, to: always, saving: always * prices.worker * prices.reservedDiscount })
  if (rest > 0) advice.push({ kind: 'spot', from: rest, to: rest, saving: rest * prices.worker * prices.spotDiscount })
  return advice
}
