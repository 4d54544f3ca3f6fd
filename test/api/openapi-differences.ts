/** Compares two OpenAPI documents in the terms that a client notices, however each writes them (3.0 or 3.1, inline or named). */

type Json = Readonly<Record<string, unknown>>

export interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, Json>>; readonly responses?: Readonly<Record<string, Json>> }
}

interface Operation {
  readonly operationId?: string
  readonly tags?: readonly string[]
  readonly parameters?: readonly Json[]
  readonly requestBody?: Json
  readonly responses: Readonly<Record<string, Json>>
}

const FACETS = [
  'format',
  'enum',
  'pattern',
  'minimum',
  'maximum',
  'minLength',
  'maxLength',
  'minItems',
  'maxItems',
  'uniqueItems',
  'default',
]

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function resolve(document: Document, value: Json): Json {
  const { $ref, ...beside } = value
  if (typeof $ref !== 'string') return value
  const [, , section, name] = $ref.split('/')
  const found = (document.components as Json)[section!] as Readonly<Record<string, Json>>
  return { ...found[name!], ...beside }
}

function nameOf(value: Json): string | undefined {
  const $ref = value['$ref']
  return typeof $ref === 'string' ? $ref.split('/').at(-1) : undefined
}

/** One form for "may be null", and for what a value is besides. */
function plain(document: Document, schema: Json): { nullable: boolean; name: string | undefined; schema: Json } {
  const { anyOf, type, nullable, ...rest } = schema
  if (Array.isArray(anyOf)) {
    const others = (anyOf as Json[]).filter((one) => one['type'] !== 'null')
    if (others.length === 1) {
      const inner = plain(document, others[0]!)
      return { ...inner, nullable: others.length < anyOf.length || inner.nullable, schema: { ...inner.schema, ...rest } }
    }
  }
  const name = nameOf(schema)
  if (name !== undefined) return { ...plain(document, resolve(document, schema)), name }
  const types = [type].flat().filter((one) => one !== 'null')
  const allowed = rest['const'] === undefined ? rest['enum'] : [rest['const']]
  const isNullable = nullable === true || types.length < [type].flat().length
  return {
    nullable: isNullable,
    name: undefined,
    schema: { ...rest, type: types.length === 1 ? types[0] : types, ...(allowed === undefined ? {} : { enum: allowed }) },
  }
}

/** A pattern that no empty text has says "one character at least" by itself. */
function impliesText(pattern: unknown): boolean {
  return typeof pattern === 'string' && !new RegExp(pattern).test('')
}

function text(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value)
}

function sorted(value: unknown): unknown {
  return Array.isArray(value) ? value.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)) : value
}

/** @returns a line for each difference: where, then what is there (in the reference) and here */
export function differences(there: Document, here: Document): string[] {
  const found: string[] = []
  const compared = new Set<string>()

  function note(where: string, a: unknown, b: unknown): void {
    if (JSON.stringify(sorted(a)) !== JSON.stringify(sorted(b))) found.push(`${where}: ${text(a)} there, ${text(b)} here`)
  }

  function compareSchemas(where: string, a: Json, b: Json, side: 'asked' | 'answered'): void {
    const theirs = plain(there, a)
    const ours = plain(here, b)
    if (theirs.name !== undefined && ours.name !== undefined) {
      note(`${where} name`, theirs.name, ours.name)
      if (theirs.name === ours.name) {
        if (theirs.nullable !== ours.nullable) note(`${where} nullable`, theirs.nullable, ours.nullable)
        if (compared.has(theirs.name)) return
        compared.add(theirs.name)
        return compareFields(theirs.name, theirs.schema, ours.schema, side)
      }
    }
    note(`${where} nullable`, theirs.nullable, ours.nullable)
    compareFields(where, theirs.schema, ours.schema, side)
  }

  function compareFields(where: string, a: Json, b: Json, side: 'asked' | 'answered'): void {
    note(`${where} type`, a['type'], b['type'])
    // A default of null says no more than that the field may be absent.
    for (const facet of FACETS) {
      if (facet === 'minLength' && impliesText(b['pattern'])) continue
      note(`${where} ${facet}`, a[facet] ?? undefined, b[facet] ?? undefined)
    }
    for (const part of ['items', 'additionalProperties']) {
      if (isObject(a[part]) && isObject(b[part])) compareSchemas(`${where} ${part}`, a[part], b[part], side)
    }
    const theirs = (a['properties'] ?? {}) as Readonly<Record<string, Json>>
    const ours = (b['properties'] ?? {}) as Readonly<Record<string, Json>>
    const required = (schema: Json) => (schema['required'] ?? []) as readonly string[]
    for (const [field, schema] of Object.entries(theirs)) {
      if (ours[field] === undefined) found.push(`${where}.${field}: missing`)
      else compareSchemas(`${where}.${field}`, schema, ours[field], side)
    }
    // An answer may always have a field that the reference leaves out at times; a body may not ask for more.
    for (const field of required(a)) if (!required(b).includes(field)) found.push(`${where}.${field}: required there`)
    if (side === 'asked') for (const field of required(b)) if (!required(a).includes(field)) found.push(`${where}.${field}: required here`)
  }

  function contentOf(document: Document, holder: Json | undefined): Json | undefined {
    const content =
      holder === undefined ? undefined : (resolve(document, holder)['content'] as Readonly<Record<string, { schema: Json }>> | undefined)
    return content?.['application/json']?.schema
  }

  function compareContent(where: string, holders: readonly [Json | undefined, Json | undefined], side: 'asked' | 'answered'): void {
    const theirs = contentOf(there, holders[0])
    const ours = contentOf(here, holders[1])
    if (theirs === undefined || ours === undefined)
      note(where, theirs === undefined ? 'empty' : 'a body', ours === undefined ? 'empty' : 'a body')
    else compareSchemas(where, theirs, ours, side)
  }

  function compareOperations(where: string, a: Operation, b: Operation): void {
    if (a.operationId !== undefined) note(`${where} operationId`, a.operationId, b.operationId)
    if (a.tags !== undefined) note(`${where} tags`, a.tags, b.tags)
    const key = (parameter: Json) => `${String(parameter['in'])} ${String(parameter['name'])}`
    for (const parameter of a.parameters ?? []) {
      const ours = b.parameters?.find((one) => key(one) === key(parameter))
      if (ours === undefined) found.push(`${where} ${key(parameter)}: missing`)
      // The reference calls a parameter that may be absent nullable.
      else
        compareSchemas(`${where} ${key(parameter)}`, { ...(parameter['schema'] as Json), nullable: false }, ours['schema'] as Json, 'asked')
    }
    note(`${where} body required`, a.requestBody?.['required'], b.requestBody?.['required'])
    compareContent(`${where} body`, [a.requestBody, b.requestBody], 'asked')
    for (const [status, reply] of Object.entries(a.responses)) {
      if (b.responses[status] === undefined) found.push(`${where} ${status}: missing`)
      else compareContent(`${where} ${status}`, [reply, b.responses[status]], 'answered')
    }
    const more = Object.keys(b.responses).filter((status) => status.startsWith('2') && a.responses[status] === undefined)
    for (const status of more) found.push(`${where} ${status}: here only`)
  }

  for (const [path, methods] of Object.entries(there.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const ours = here.paths[path]?.[method]
      if (ours === undefined) found.push(`${method} ${path}: missing`)
      else compareOperations(`${method} ${path}`, operation, ours)
    }
  }
  return found
}
