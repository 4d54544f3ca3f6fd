import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'
import { REGION_NAME } from '../../domain/regions.ts'

export const NAME_PATTERN = /^[a-zA-Z0-9\-_.]+$/

// The Svix API reports a rule on a whole value (a uid, a list of channels) with `__all__` behind the field.
const WHOLE = { whole: true } as const
/** The value has not the asked-for type, although zod finds out by a rule. */
export const SHAPE = { shape: true } as const

const isName = (text: string): boolean => NAME_PATTERN.test(text) && text.length <= LIMITS.nameMaxChars

/** What refinements check, told to the OpenAPI document. */
const NAME_RULES = { pattern: NAME_PATTERN.source, minLength: 1, maxLength: LIMITS.nameMaxChars }

/** An event type, a channel, a feature flag: letters, digits, `-`, `_`, `.`, 1 to 256. */
export const name = z.string().refine(isName, { params: WHOLE, error: 'Invalid characters or length' }).meta(NAME_RULES)

/** A uid may not look like an id of its kind. */
export function uid(prefix: 'app' | 'ep' | 'msg') {
  return z
    .string()
    .refine(isName, { params: WHOLE, error: 'Invalid characters or length', abort: true })
    .refine((text) => !text.startsWith(`${prefix}_`), { params: WHOLE, error: `A uid must not begin with ${prefix}_` })
    .meta({ ...NAME_RULES, description: `The owner's own name for it. Must not begin with \`${prefix}_\`` })
}

/** A set of names: duplicates fall together. */
export function names(minimum: number, maximum: number) {
  return setOf(isName, NAME_RULES, minimum, maximum)
}

function setOf(isItem: (text: string) => boolean, rules: typeof NAME_RULES, minimum: number, maximum: number) {
  return z
    .array(z.string().meta(rules))
    .refine((list) => list.every(isItem), { params: WHOLE, error: 'Invalid characters or length', abort: true })
    .refine((list) => list.length >= minimum && list.length <= maximum, { error: `Takes ${minimum} to ${maximum} items, or null` })
    .meta({ ...(minimum === 0 ? {} : { minItems: minimum }), maxItems: maximum })
    .transform((list) => [...new Set(list)])
}

/** Event types that an endpoint subscribes to: names, `prefix.*`, or `*`. */
export function eventTypePatterns(minimum: number, maximum: number) {
  return setOf(isPattern, { ...NAME_RULES, pattern: EVENT_TYPE_PATTERN.source }, minimum, maximum)
}

export const EVENT_TYPE_PATTERN = /^(\*|[a-zA-Z0-9\-_.]*\.\*|[a-zA-Z0-9\-_.]+)$/

const isPattern = (text: string): boolean => EVENT_TYPE_PATTERN.test(text) && text.length <= LIMITS.nameMaxChars

/** A zone or a region, as the regions file names it. */
export const regionName = z.string().regex(REGION_NAME, 'Takes lower-case letters, digits and hyphens, 32 at most')

const LAST_REFUSED_CONTROL = '\b'

/** Whether Postgres can keep a text: it refuses NUL, and halves of surrogate pairs in JSON. */
export function isClean(text: string): boolean {
  if (!text.isWellFormed()) return false
  for (const character of text) if (character <= LAST_REFUSED_CONTROL) return false
  return true
}

export const CONTROL = 'Control characters 0x00-0x08 not allowed.'
const CLEAN_RULES = { pattern: '^[^\\u0000-\\u0008]*$' }

// JSON Schema counts code points, of which one takes up to two places in a string.
function isWithin(text: string, maxChars: number): boolean {
  return text.length <= maxChars || (text.length <= 2 * maxChars && [...text].length <= maxChars)
}

/** Free text. @param minChars 1 where it may not be empty */
export function freeText(minChars: 0 | 1) {
  return z
    .string()
    .refine((value) => value.length >= minChars, 'Takes at least one character')
    .refine((value) => isWithin(value, LIMITS.textMaxChars), `Takes at most ${LIMITS.textMaxChars} characters`)
    .refine(isClean, CONTROL)
    .meta({ ...CLEAN_RULES, ...(minChars === 0 ? {} : { minLength: minChars }), maxLength: LIMITS.textMaxChars })
}

export const text = freeText(0)

const pairs = z
  .record(z.string().meta(CLEAN_RULES), z.string().meta(CLEAN_RULES))
  .refine((value) => Object.entries(value).every(([key, item]) => isClean(key) && isClean(item)), CONTROL)
  .refine((value) => Buffer.byteLength(JSON.stringify(value)) <= LIMITS.metadataMaxBytes, `Takes at most ${LIMITS.metadataMaxBytes} bytes`)
  .meta({ description: `Pairs of texts; ${LIMITS.metadataMaxBytes} bytes of JSON at most` })

/** Pairs of texts; null is an empty one. */
export const metadata = pairs.nullable().transform((value) => value ?? {})

/** An unsigned integer of 16 bits, 1 at least. @param tooSmall what 0 is told */
export function positiveU16(tooSmall: string) {
  return z
    .number()
    .refine((value) => Number.isInteger(value) && value >= 0 && value <= 65_535, { params: SHAPE, error: 'expected u16', abort: true })
    .refine((value) => value >= 1, tooSmall)
    .meta({ type: 'integer', format: 'uint16', minimum: 1, maximum: 65_535 })
}

/** Messages a second. */
export const throttleRate = positiveU16('Rate limits must be at least one if set')

const MEDIA_TYPE = /^[\w!#$&^.+-]{1,127}\/[\w!#$&^.+-]{1,127}( ?; ?[\w-]{1,63}=([\w.+:/-]{1,127}|"[ !#-[\]-~]{0,127}")){0,4}$/

/** A content type with its parameters. */
export const mediaType = z.string().regex(MEDIA_TYPE, 'Not a content type')
