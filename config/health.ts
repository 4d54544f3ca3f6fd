/** When endpoints count as failing, and how they are sent to then. */
import type { z } from 'zod'
import type { BreakerRules } from '../domain/breaker.ts'
import type { HealthRules } from '../domain/health.ts'
import type { RampRules } from '../domain/ramp.ts'
import { integer } from './formats.ts'

export const healthVariables = {
  TIDINGS_HEALTH_MIN_ATTEMPTS: integer(1, 1_000_000, 20),
  TIDINGS_BREAKER_FAILURE_PERCENT: integer(1, 100, 50),
  TIDINGS_BREAKER_OPEN_MS: integer(100, 86_400_000, 300_000),
  TIDINGS_BREAKER_PROBE_PERCENT: integer(1, 100, 10),
  TIDINGS_BREAKER_PROBES: integer(1, 1000, 5),
  TIDINGS_RAMP_START: integer(1, 100_000, 10),
  TIDINGS_RAMP_DOUBLE_MS: integer(100, 3_600_000, 3000),
  TIDINGS_RAMP_FREE: integer(1, 1_000_000, 1000),
  TIDINGS_RETRY_RATE: integer(1, 1_000_000, 100),
  TIDINGS_RETRY_BURST: integer(1, 1_000_000, 200),
  TIDINGS_SLOW_MS: integer(100, 60_000, 5000),
  TIDINGS_DISABLE_AFTER_S: integer(60, 31_536_000, 432_000),
} as const

type Values = { readonly [Name in keyof typeof healthVariables]: z.output<(typeof healthVariables)[Name]> }

/** How the service treats endpoints that fail, are slow, or have too much to do. */
export interface HealthConfig {
  readonly health: HealthRules
  readonly breaker: BreakerRules
  readonly ramp: RampRules
  /** Retries of one endpoint, a second and at once. */
  readonly retryBudget: { readonly perSecond: number; readonly burst: number }
}

/** @param scale of retry delays, which how long a breaker stays open is one of */
export function healthConfig(value: Values, scale: number): HealthConfig {
  const failureRate = value.TIDINGS_BREAKER_FAILURE_PERCENT / 100
  return {
    health: {
      minAttempts: value.TIDINGS_HEALTH_MIN_ATTEMPTS,
      failureRate,
      slowMs: value.TIDINGS_SLOW_MS,
      disableAfterMs: value.TIDINGS_DISABLE_AFTER_S * 1000,
    },
    breaker: {
      openMs: value.TIDINGS_BREAKER_OPEN_MS * scale,
      probeShare: value.TIDINGS_BREAKER_PROBE_PERCENT / 100,
      probes: value.TIDINGS_BREAKER_PROBES,
      failureRate,
    },
    ramp: { start: value.TIDINGS_RAMP_START, doubleMs: value.TIDINGS_RAMP_DOUBLE_MS, free: value.TIDINGS_RAMP_FREE },
    retryBudget: { perSecond: value.TIDINGS_RETRY_RATE, burst: value.TIDINGS_RETRY_BURST },
  }
}
