import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'
import { EVENT_TYPE_PATTERN, NAME_PATTERN } from './names.ts'
import { parseTime } from './time.ts'

/** Pieces of what the API answers. These schemas document and are held against answers by tests; nothing is validated with them at run time. */

export const shownName = z.string().min(1).max(LIMITS.nameMaxChars).regex(NAME_PATTERN)
export const shownNames = z.array(shownName).min(1).meta({ uniqueItems: true })
export const shownPatterns = z
  .array(z.string().min(1).max(LIMITS.nameMaxChars).regex(EVENT_TYPE_PATTERN))
  .min(1)
  .meta({ uniqueItems: true })
export const shownTime = z
  .string()
  .refine((text) => parseTime(text) !== undefined)
  .meta({ format: 'date-time' })
export const shownUrl = z.string().min(1).max(LIMITS.urlMaxChars).meta({ format: 'uri' })
export const shownRate = shownInteger('uint16')
export const shownMetadata = z.record(z.string(), z.string())

/** @param format its size, as the reference names it */
export function shownInteger(format: 'uint16' | 'int16' | 'int64') {
  return z
    .number()
    .refine(Number.isInteger)
    .meta({ type: 'integer', format, ...(format.startsWith('u') ? { minimum: 0 } : {}) })
}

export function shownId(prefix: string) {
  return z.string().meta({ example: `${prefix}_1srOrx2ZWZBpBUvZwXKQmoEYga2` })
}

/** A page of a list. @param name the component's name of one entry. @param more fields that only this list has */
export function listOf<S extends z.ZodType>(name: string, entry: S, more: z.ZodRawShape = {}) {
  return z
    .object({
      data: z.array(entry),
      iterator: z.string().nullable().meta({ description: 'Pass as `iterator` for the next page; null on an empty page' }),
      prevIterator: z.string().nullable().meta({ description: 'Pass as `iterator` for the page before; null on an empty page' }),
      done: z.boolean().meta({ description: 'Whether there is nothing more in the direction of travel' }),
      ...more,
    })
    .meta({ id: `ListResponse_${name}_` })
}

export const emptyResponse = z.object({}).meta({ id: 'EmptyResponse' })
