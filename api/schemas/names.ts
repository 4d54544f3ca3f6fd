import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'

export const NAME_PATTERN = /^[a-zA-Z0-9\-_.]+$/

// The Svix API reports a rule on a whole value (a uid, a list of channels) with `__all__` behind the field.
const WHOLE = { whole: true } as const
/** The value has not the asked-for type, although zod finds out by a rule. */
export const SHAPE = { shape: true } as const

const isName = (text: string): boolean => NAME_PATTERN.test(text) && text.length <= LIMITS.nameMaxChars

/** An event type, a channel, a feature flag: letters, digits, `-`, `_`, `.`, 1 to 256. */
export const name = z.string().refine(isName, { params: WHOLE, error: 'Invalid characters or length' })

/** A uid may not look like an id of its kind. */
export function uid(prefix: 'app' | 'ep' | 'msg') {
  return z
    .string()
    .refine(isName, { params: WHOLE, error: 'Invalid characters or length', abort: true })
    .refine((text) => !text.startsWith(`${prefix}_`), { params: WHOLE, error: `A uid must not begin with ${prefix}_` })
}

/** A set of names: duplicates fall together. */
export function names(minimum: number, maximum: number) {
  return z
    .array(z.string())
    .refine((list) => list.every(isName), { params: WHOLE, error: 'Invalid characters or length', abort: true })
    .transform((list) => [...new Set(list)])
    .refine((list) => list.length >= minimum && list.length <= maximum, { error: `Takes ${minimum} to ${maximum} items, or null` })
}

const LAST_REFUSED_CONTROL = '\b'

function isClean(text: string): boolean {
  for (const character of text) if (character <= LAST_REFUSED_CONTROL) return false
  return true
}

const CONTROL = 'Control characters 0x00-0x08 not allowed.'

/** Free text. */
export const text = z
  .string()
  .refine((value) => value.length <= LIMITS.textMaxChars, `Takes at most ${LIMITS.textMaxChars} characters`)
  .refine(isClean, CONTROL)

const pairs = z
  .record(z.string(), z.string())
  .refine((value) => Object.entries(value).every(([key, item]) => isClean(key) && isClean(item)), CONTROL)
  .refine((value) => Buffer.byteLength(JSON.stringify(value)) <= LIMITS.metadataMaxBytes, `Takes at most ${LIMITS.metadataMaxBytes} bytes`)

/** Pairs of texts; null is an empty one. */
export const metadata = pairs.nullable().transform((value) => value ?? {})

/** Messages a second. */
export const throttleRate = z
  .number()
  .refine((value) => Number.isInteger(value) && value >= 0 && value <= 65_535, { params: SHAPE, error: 'expected u16', abort: true })
  .refine((value) => value >= 1, 'Rate limits must be at least one if set')
