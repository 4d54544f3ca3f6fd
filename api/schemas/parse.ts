import { z } from 'zod'
import { ValidationError, type ValidationItem } from '../errors.ts'

const SHAPE_CODES = new Set(['invalid_type', 'invalid_union', 'invalid_value', 'invalid_key', 'invalid_element', 'unrecognized_keys'])

function snakeCase(field: string): string {
  return field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

function isShape(issue: z.core.$ZodIssue): boolean {
  return SHAPE_CODES.has(issue.code) || (issue.code === 'custom' && issue.params?.['shape'] === true)
}

function toItem(issue: z.core.$ZodIssue): ValidationItem {
  if (isShape(issue)) return { loc: ['body', ...issue.path.map(String)], msg: issue.message, type: 'value_error.jsondecode' }
  const fields = issue.path.map((part) => (typeof part === 'number' ? `[${part}]` : snakeCase(String(part))))
  const whole = issue.code === 'custom' && issue.params?.['whole'] === true
  return { loc: ['body', ...fields, ...(whole ? ['__all__'] : [])], msg: issue.message, type: 'value_error' }
}

/**
 * Validates a body. Problems of shape are told first and alone, as a decoder would.
 * @throws {ValidationError}
 */
export function parseBody<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  const shape = parsed.error.issues.filter(isShape)
  throw new ValidationError((shape.length > 0 ? shape : parsed.error.issues).map(toItem))
}

/** Reads older names of fields: what the alias has counts where the field itself is absent. */
function withAliases(body: unknown, aliases: Readonly<Record<string, string>>): unknown {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return body
  const copy: Record<string, unknown> = { ...body }
  for (const [alias, field] of Object.entries(aliases)) {
    if (copy[field] === undefined && copy[alias] !== undefined) copy[field] = copy[alias]
  }
  return copy
}

/** A schema that also takes older names of its fields. @param aliases the field's name by the older one */
export function aliased<S extends z.ZodType>(aliases: Readonly<Record<string, string>>, schema: S) {
  return z.preprocess((body) => withAliases(body, aliases), schema)
}
