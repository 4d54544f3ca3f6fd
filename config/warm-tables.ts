/** Where tables of days go that are no longer new. */
import { z } from 'zod'
import { LIMITS } from '../domain/limits.ts'
import type { WarmRules } from '../domain/warm-tables.ts'
import { integer } from './formats.ts'

export const WARM_VARIABLES = {
  TIDINGS_WARM_TABLESPACE: z
    .string()
    .regex(/^(?!pg_global$)[A-Za-z_][\w$-]{0,62}$/, 'must be the name of a tablespace: letters, digits, _, $ and -, 63 at most')
    .optional(),
  TIDINGS_HOT_DAYS: integer(1, LIMITS.hotMaxDays, 7),
  TIDINGS_WARM_MB_PER_SECOND: integer(1, LIMITS.warmRateMaxMb, 50),
} as const

type Values = z.output<z.ZodObject<typeof WARM_VARIABLES>>

/** @returns undefined where tables stay where they were made */
export function warmRules(value: Values): WarmRules | undefined {
  const { TIDINGS_WARM_TABLESPACE: tablespace, TIDINGS_HOT_DAYS: hotDays, TIDINGS_WARM_MB_PER_SECOND: rate } = value
  return tablespace === undefined ? undefined : { tablespace, hotDays, bytesPerSecond: rate * 1_000_000 }
}
