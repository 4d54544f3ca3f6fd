/** When the autoscaler adds and removes workers. */
import { z } from 'zod'
import { LIMITS } from '../domain/limits.ts'
import { DEFAULT_RULES, withTimeScale, type ScalingRules } from '../domain/scaling-rules.ts'
import { integer } from './formats.ts'

const DAY_MS = 86_400_000
const { up, down } = DEFAULT_RULES
const depth = (fallback: number) => integer(0, LIMITS.scalingRowsCounted - 1, fallback)
const percent = (fallback: number) => integer(1, 100, fallback)
const time = (fallback: number) => integer(0, DAY_MS, fallback)
const workers = z.string().transform(Number).pipe(z.number().int().min(1).max(100_000)).optional()

export const autoscaleVariables = {
  TIDINGS_AUTOSCALE_MIN: workers,
  TIDINGS_AUTOSCALE_MAX: workers,
  TIDINGS_AUTOSCALE_INTERVAL_MS: integer(1000, 600_000, DEFAULT_RULES.intervalMs),
  TIDINGS_AUTOSCALE_MIN_REQUESTS: integer(1, 1_000_000, DEFAULT_RULES.minRequests),
  TIDINGS_AUTOSCALE_UP_DEPTH: depth(up.depth),
  TIDINGS_AUTOSCALE_UP_UTILISATION_PERCENT: percent(up.utilisation * 100),
  TIDINGS_AUTOSCALE_UP_FOR_MS: time(up.forMs),
  TIDINGS_AUTOSCALE_UP_P99_MS: integer(1, 60_000, up.firstRequestP99Ms),
  TIDINGS_AUTOSCALE_UP_FAILURE_PERCENT: percent(up.failureShare * 100),
  TIDINGS_AUTOSCALE_UP_STEP_PERCENT: integer(1, 1000, up.stepPercent),
  TIDINGS_AUTOSCALE_UP_COOLDOWN_MS: time(up.cooldownMs),
  TIDINGS_AUTOSCALE_DOWN_DEPTH: depth(down.depth),
  TIDINGS_AUTOSCALE_DOWN_UTILISATION_PERCENT: percent(down.utilisation * 100),
  TIDINGS_AUTOSCALE_DOWN_FOR_MS: time(down.forMs),
  TIDINGS_AUTOSCALE_DOWN_STEP_PERCENT: percent(down.stepPercent),
  TIDINGS_AUTOSCALE_DOWN_COOLDOWN_MS: time(down.cooldownMs),
  TIDINGS_AUTOSCALE_TIME_SCALE: z.string().default('1').transform(Number).pipe(z.number().min(0.001).max(10)),
} as const

type Values = z.output<z.ZodObject<typeof autoscaleVariables>>

export interface AutoscaleConfig {
  /** Time scale applied; without the limits, which depend on where workers run. */
  readonly rules: Omit<ScalingRules, 'min' | 'max'>
  /** Undefined: those of the target. */
  readonly min: number | undefined
  readonly max: number | undefined
}

export function autoscaleConfig(value: Values): AutoscaleConfig {
  const rules: ScalingRules = {
    ...DEFAULT_RULES,
    intervalMs: value.TIDINGS_AUTOSCALE_INTERVAL_MS,
    gapMs: 2 * value.TIDINGS_AUTOSCALE_INTERVAL_MS,
    minRequests: value.TIDINGS_AUTOSCALE_MIN_REQUESTS,
    up: {
      depth: value.TIDINGS_AUTOSCALE_UP_DEPTH,
      utilisation: value.TIDINGS_AUTOSCALE_UP_UTILISATION_PERCENT / 100,
      forMs: value.TIDINGS_AUTOSCALE_UP_FOR_MS,
      firstRequestP99Ms: value.TIDINGS_AUTOSCALE_UP_P99_MS,
      failureShare: value.TIDINGS_AUTOSCALE_UP_FAILURE_PERCENT / 100,
      stepPercent: value.TIDINGS_AUTOSCALE_UP_STEP_PERCENT,
      cooldownMs: value.TIDINGS_AUTOSCALE_UP_COOLDOWN_MS,
    },
    down: {
      depth: value.TIDINGS_AUTOSCALE_DOWN_DEPTH,
      utilisation: value.TIDINGS_AUTOSCALE_DOWN_UTILISATION_PERCENT / 100,
      forMs: value.TIDINGS_AUTOSCALE_DOWN_FOR_MS,
      stepPercent: value.TIDINGS_AUTOSCALE_DOWN_STEP_PERCENT,
      cooldownMs: value.TIDINGS_AUTOSCALE_DOWN_COOLDOWN_MS,
    },
  }
  return {
    rules: withTimeScale(rules, value.TIDINGS_AUTOSCALE_TIME_SCALE),
    min: value.TIDINGS_AUTOSCALE_MIN,
    max: value.TIDINGS_AUTOSCALE_MAX,
  }
}

/** What speaks against the settings together, a line for each problem. */
export function autoscaleProblems(value: Values): string[] {
  const problems: string[] = []
  if (value.TIDINGS_AUTOSCALE_DOWN_DEPTH > value.TIDINGS_AUTOSCALE_UP_DEPTH) {
    problems.push('TIDINGS_AUTOSCALE_DOWN_DEPTH: must not be over TIDINGS_AUTOSCALE_UP_DEPTH')
  }
  if (value.TIDINGS_AUTOSCALE_DOWN_UTILISATION_PERCENT > value.TIDINGS_AUTOSCALE_UP_UTILISATION_PERCENT) {
    problems.push('TIDINGS_AUTOSCALE_DOWN_UTILISATION_PERCENT: must not be over TIDINGS_AUTOSCALE_UP_UTILISATION_PERCENT')
  }
  const { TIDINGS_AUTOSCALE_MIN: min, TIDINGS_AUTOSCALE_MAX: max } = value
  if (min !== undefined && max !== undefined && min > max) problems.push('TIDINGS_AUTOSCALE_MIN: must not be over TIDINGS_AUTOSCALE_MAX')
  return problems
}
