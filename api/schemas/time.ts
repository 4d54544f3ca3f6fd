import { z } from 'zod'
import { SHAPE } from './names.ts'

const RFC_3339 = /^(\d{4}-\d\d-\d\d)[Tt ]([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$/

/** @returns Unix milliseconds, or undefined where the text is not a date and time of RFC 3339 */
export function parseTime(text: string): number | undefined {
  const date = RFC_3339.exec(text)?.[1]
  const atMs = date === undefined ? Number.NaN : Date.parse(text.replace(' ', 'T').toUpperCase())
  if (date === undefined || Number.isNaN(atMs)) return undefined
  // Date.parse takes the 30th of February for the 2nd of March.
  return new Date(`${date}T00:00:00Z`).toISOString().startsWith(date) ? atMs : undefined
}

/** A date and time, read as Unix milliseconds. */
export const time = z
  .string()
  .meta({ format: 'date-time' })
  .refine((text) => parseTime(text) !== undefined, { params: SHAPE, error: 'Not a date and time of RFC 3339', abort: true })
  .transform((text) => parseTime(text)!)
