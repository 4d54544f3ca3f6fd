import { z } from 'zod'
import { SHAPE } from './names.ts'

/** @returns Unix milliseconds, or undefined where the text is not a date and time of RFC 3339 */
export function parseTime(text: string): number | undefined {
  if (!/^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$/.test(text)) return undefined
  const atMs = Date.parse(text.replace(' ', 'T').toUpperCase())
  return Number.isNaN(atMs) ? undefined : atMs
}

/** A date and time, read as Unix milliseconds. */
export const time = z
  .string()
  .meta({ format: 'date-time' })
  .refine((text) => parseTime(text) !== undefined, { params: SHAPE, error: 'Not a date and time of RFC 3339', abort: true })
  .transform((text) => parseTime(text)!)
