import { readFileSync } from 'node:fs'

/** The subset of JSON Schema that the reference is written in. */
export interface Schema {
  readonly $ref?: string
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'boolean'
  readonly format?: string
  readonly nullable?: boolean
  readonly default?: unknown
  readonly enum?: readonly unknown[]
  readonly pattern?: string
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly items?: Schema
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: Schema
}

interface Content {
  readonly content?: { readonly 'application/json'?: { readonly schema: Schema } }
}

export interface Parameter {
  readonly in: 'path' | 'query' | 'header'
  readonly name: string
  readonly required?: boolean
  readonly schema: Schema
}

interface RawOperation {
  readonly operationId?: string
  readonly parameters?: readonly Parameter[]
  readonly requestBody?: Content
  readonly responses: Readonly<Record<string, Content>>
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, RawOperation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
}

export interface Operation {
  /** E.g. `POST /app/{app_id}/endpoint`: the method and the path below `/api/v1`. */
  readonly name: string
  readonly method: string
  readonly path: string
  readonly parameters: readonly Parameter[]
  readonly body: Schema | undefined
  /** Schemas of the answers by status, undefined for an empty one. */
  readonly answers: ReadonlyMap<number, Schema | undefined>
}

const document = JSON.parse(readFileSync(new URL('svix-openapi.json', import.meta.url), 'utf8')) as Document

const schemaOf = (content: Content | undefined): Schema | undefined => content?.content?.['application/json']?.schema

/** Every operation of the reference. */
export const OPERATIONS: readonly Operation[] = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, raw]) => {
    const below = path.replace('/api/v1', '')
    const answers = new Map(Object.entries(raw.responses).map(([status, content]) => [Number(status), schemaOf(content)] as const))
    return {
      name: `${method.toUpperCase()} ${below}`,
      method: method.toUpperCase(),
      path: below,
      parameters: raw.parameters ?? [],
      body: schemaOf(raw.requestBody),
      answers,
    }
  }),
)

/** The operation of this name. */
export function operation(name: string): Operation {
  const found = OPERATIONS.find((one) => one.name === name)
  if (found === undefined) throw new Error(`the reference has no ${name}`)
  return found
}

/** Follows a reference, keeping what stands beside it. */
export function resolved(schema: Schema): Schema {
  if (schema.$ref === undefined) return schema
  const { $ref, ...beside } = schema
  const target = document.components.schemas[$ref.split('/').at(-1) ?? '']
  if (target === undefined) throw new Error(`the reference has no ${$ref}`)
  return { ...target, ...beside }
}

function scalarProblem(schema: Schema, value: unknown): string | undefined {
  if (schema.enum !== undefined && !schema.enum.includes(value)) return `is none of ${schema.enum.join(', ')}`
  if (schema.type === 'boolean') return typeof value === 'boolean' ? undefined : 'is no boolean'
  if (schema.type === 'integer') {
    if (!Number.isInteger(value)) return 'is no integer'
    return Number(value) < (schema.minimum ?? -Infinity) || Number(value) > (schema.maximum ?? Infinity) ? 'is out of range' : undefined
  }
  if (schema.type !== 'string') return undefined
  if (typeof value !== 'string') return 'is no string'
  if (value.length < (schema.minLength ?? 0) || value.length > (schema.maxLength ?? Infinity)) return 'is too short or too long'
  if (schema.pattern !== undefined && !new RegExp(schema.pattern).test(value)) return `does not match ${schema.pattern}`
  if (schema.format === 'date-time' && !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(value)) return 'is no time'
  if (schema.format === 'uri' && !URL.canParse(value)) return 'is no URI'
  return undefined
}

/** @returns what of `value` the reference does not allow, one text each; nothing where it is as described */
export function problemsOf(given: Schema, value: unknown, at = '$'): string[] {
  const schema = resolved(given)
  if (value === null) return schema.nullable === true ? [] : [`${at} is null`]
  if (schema.type === 'array') {
    if (!Array.isArray(value)) return [`${at} is no array`]
    const short = value.length < (schema.minItems ?? 0) || value.length > (schema.maxItems ?? Infinity)
    return [
      ...(short ? [`${at} has too few or too many items`] : []),
      ...value.flatMap((item, i) => problemsOf(schema.items ?? {}, item, `${at}[${i}]`)),
    ]
  }
  if (schema.type === 'object') {
    if (typeof value !== 'object' || Array.isArray(value)) return [`${at} is no object`]
    const missing = (schema.required ?? []).filter((name) => !(name in value)).map((name) => `${at}.${name} is missing`)
    const parts = Object.entries(value).flatMap(([name, part]) => {
      const rule = schema.properties?.[name] ?? schema.additionalProperties
      return rule === undefined ? [] : problemsOf(rule, part, `${at}.${name}`)
    })
    return [...missing, ...parts]
  }
  const problem = scalarProblem(schema, value)
  return problem === undefined ? [] : [`${at} ${problem}: ${JSON.stringify(value)}`]
}
