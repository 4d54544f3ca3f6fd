/** How what can be done is shared out: between priorities, and between lanes. */
import { z } from 'zod'
import { LIMITS } from '../domain/limits.ts'
import { DEFAULT_WEIGHTS } from '../domain/priority.ts'

/** Texts like `a=1,b=2`; what is not named keeps its default. */
function named<Name extends string>(defaults: Readonly<Record<Name, number>>, maximum: number) {
  const names = Object.keys(defaults)
  return z
    .string()
    .default('')
    .transform((text, context): Readonly<Record<Name, number>> => {
      const values: Record<Name, number> = { ...defaults }
      for (const part of text.split(',').filter((one) => one.trim() !== '')) {
        const [name = '', value] = part.split('=').map((one) => one.trim())
        const number = Number(value)
        if (names.includes(name) && Number.isInteger(number) && number >= 1 && number <= maximum) values[name as Name] = number
        else context.addIssue(`"${part}" is none of ${names.join(', ')} with = and a whole number from 1 to ${maximum}`)
      }
      return values
    })
}

export const shareVariables = {
  TIDINGS_PRIORITY_WEIGHTS: named(DEFAULT_WEIGHTS, 100),
  TIDINGS_LANE_SLOTS: named({ fast: 100, slow: 20, retry: 200 }, 1000),
  TIDINGS_LANE_REQUESTS: named(
    { fast: LIMITS.requestsInFlightPerLane, slow: LIMITS.requestsInFlightPerLane, retry: LIMITS.requestsInFlightPerLane },
    10_000,
  ),
} as const
