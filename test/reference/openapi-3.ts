/** The part of an OpenAPI 3 document that a message is held against. */
export interface OpenApi {
  readonly paths: Readonly<Record<string, PathItem>>
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
}

interface Parameter {
  readonly name: string
  readonly in: string
}

type Contents = Readonly<Record<string, { readonly schema: Schema }>>

export interface Operation {
  readonly parameters?: readonly Parameter[]
  readonly requestBody?: { readonly content: Contents }
  readonly responses: Readonly<Record<string, { readonly content?: Contents }>>
}

interface PathItem {
  readonly parameters?: readonly Parameter[]
  readonly get?: Operation
  readonly patch?: Operation
}

export interface Schema {
  readonly $ref?: string
  readonly allOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly type?: string
  readonly format?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly additionalProperties?: Schema
}

/** What is wrong with a value, each with its place; fields that the schema does not have are wrong too. */
export function problemsOf(document: OpenApi, schema: Schema, value: unknown, place = '$'): readonly string[] {
  const under = (one: Schema, part: unknown, at = place) => problemsOf(document, one, part, at)
  if (schema.$ref !== undefined) {
    const name = schema.$ref.replace('#/components/schemas/', '')
    const found = document.components.schemas[name]
    return found === undefined ? [`${place}: no schema ${name}`] : under(found, value)
  }
  if (schema.allOf !== undefined) return schema.allOf.flatMap((one) => under(one, value))
  if (schema.oneOf !== undefined) {
    return schema.oneOf.some((one) => under(one, value).length === 0) ? [] : [`${place}: none of those that it may be`]
  }
  if (schema.type === 'array') {
    if (!Array.isArray(value)) return [`${place}: no array`]
    return value.flatMap((item, index) => (schema.items === undefined ? [] : under(schema.items, item, `${place}[${index}]`)))
  }
  if (schema.type === 'object' || schema.properties !== undefined) return problemsOfObject(document, schema, value, place)
  return isScalar(schema, value) ? [] : [`${place}: ${JSON.stringify(value)} is no ${schema.type} ${schema.format ?? ''}`.trim()]
}

function problemsOfObject(document: OpenApi, schema: Schema, value: unknown, place: string): readonly string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [`${place}: no object`]
  const missing = (schema.required ?? []).filter((name) => !(name in value)).map((name) => `${place}.${name}: missing`)
  const isOpen = schema.properties === undefined && schema.additionalProperties === undefined
  const wrong = Object.entries(value).flatMap(([name, part]) => {
    const one = schema.properties?.[name] ?? schema.additionalProperties
    if (one !== undefined) return problemsOf(document, one, part, `${place}.${name}`)
    return isOpen ? [] : [`${place}.${name}: not known`]
  })
  return [...missing, ...wrong]
}

function isScalar({ type, format }: Schema, value: unknown): boolean {
  if (format === 'date-time') return typeof value === 'string' && !Number.isNaN(Date.parse(value))
  if (type === 'integer') return Number.isSafeInteger(value) && (format !== 'int32' || Math.abs(value as number) < 2 ** 31)
  return type === undefined || typeof value === type
}

/** The operation of a request, its path parameters by name. @returns undefined where the document has none */
export function findOperation(document: OpenApi, method: string, path: string) {
  for (const [template, item] of Object.entries(document.paths)) {
    const pattern = new RegExp(`^${template.replaceAll(/\{(\w+)\}/g, '(?<$1>[^/]+)')}$`)
    const names = pattern.exec(path)?.groups
    const operation = item[method.toLowerCase() as 'get' | 'patch']
    if (names === undefined || operation === undefined) continue
    const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])]
    return { template, operation, names, query: parameters.filter((one) => one.in === 'query').map(({ name }) => name) }
  }
  return undefined
}
