import { STATUS_CODES } from 'node:http'
import { z } from 'zod'
import { LIMITS } from '../domain/limits.ts'
import type { Method, Operation, RouteTable } from './routing.ts'
import { httpErrorOut, internalErrorOut, validationErrorOut } from './schemas/errors.ts'
import { NAME_PATTERN } from './schemas/names.ts'

export type Json = Readonly<Record<string, unknown>>

export interface DescribedParameter {
  readonly name: string
  readonly in: 'path' | 'query' | 'header'
  readonly required: boolean
  readonly description?: string
  readonly schema: Json
}

interface Content {
  readonly content: { readonly 'application/json': { readonly schema: Json } }
}

export type DescribedReply = { readonly $ref: string } | ({ readonly description: string } & Partial<Content>)

export interface DescribedOperation {
  readonly operationId: string
  readonly summary: string
  readonly description?: string
  readonly tags: readonly string[]
  readonly parameters: readonly DescribedParameter[]
  readonly requestBody?: Content & { readonly required: true }
  readonly responses: Readonly<Record<string, DescribedReply>>
  readonly security?: readonly []
}

export interface ApiDocument {
  readonly openapi: '3.1.0'
  readonly info: { readonly title: string; readonly version: string; readonly description: string }
  readonly servers: readonly { readonly url: string }[]
  readonly security: readonly Readonly<Record<string, readonly string[]>>[]
  readonly tags: readonly { readonly name: string }[]
  readonly paths: Readonly<Record<string, Readonly<Partial<Record<Method, DescribedOperation>>>>>
  readonly components: {
    readonly schemas: Readonly<Record<string, Json>>
    readonly responses: Readonly<Record<string, DescribedReply>>
    readonly securitySchemes: Json
  }
}

const BASE = '/api/v1'

/** Answers of failure, the same for all operations. */
const ERRORS = {
  400: { name: 'BadRequest', schema: httpErrorOut, text: 'The query, the path or the state of things does not allow this' },
  401: { name: 'Unauthorized', schema: httpErrorOut, text: 'The token is missing, ended or not valid' },
  403: { name: 'Forbidden', schema: httpErrorOut, text: 'The token of an application does not reach this operation' },
  404: { name: 'NotFound', schema: httpErrorOut, text: 'There is no such object within reach of the token' },
  409: { name: 'Conflict', schema: httpErrorOut, text: 'Another object has this uid, eventId or name' },
  413: { name: 'PayloadTooLarge', schema: httpErrorOut, text: `The body has over ${LIMITS.requestBodyMaxBytes} bytes` },
  421: { name: 'Misdirected', schema: httpErrorOut, text: 'The application is kept in the zone of another region: `home` is its URL' },
  422: { name: 'ValidationError', schema: validationErrorOut, text: 'The body or the query is not valid' },
  429: { name: 'TooManyRequests', schema: httpErrorOut, text: 'Too many requests; `Retry-After` says when to come back' },
  500: { name: 'InternalError', schema: internalErrorOut, text: 'An error inside, of which nothing is told' },
  503: { name: 'Unavailable', schema: httpErrorOut, text: 'The server is stopping, or cannot reach its database' },
  502: { name: 'RegionUnreachable', schema: httpErrorOut, text: 'The region that keeps the application cannot be reached' },
  504: { name: 'RegionTimeout', schema: httpErrorOut, text: 'The region that keeps the application did not answer in time' },
} as const

type ErrorStatus = keyof typeof ERRORS

function errorsOf({ access, body }: Operation): readonly ErrorStatus[] {
  if (access === 'anyone') return [500]
  return body === undefined
    ? [400, 401, 403, 404, 409, 421, 422, 429, 500, 502, 503, 504]
    : [400, 401, 403, 404, 409, 413, 421, 422, 429, 500, 502, 503, 504]
}

function contentOf(schema: z.ZodType): Content {
  const id = schema.meta()?.id
  if (id === undefined) throw new Error('A body or an answer of the API has a schema without an id')
  return { content: { 'application/json': { schema: { $ref: `#/components/schemas/${id}` } } } }
}

// zod leaves out the default of a value that it transforms, even one told by `meta`.
function keepDefault({ zodSchema, jsonSchema }: { zodSchema: z.core.$ZodType; jsonSchema: z.core.JSONSchema.BaseSchema }): void {
  const told = z.globalRegistry.get(zodSchema)?.['default']
  if (told !== undefined) jsonSchema['default'] = told
}

/** The named schemas among these and all that they refer to. As input: defaults are optional, and replies may gain fields. */
function componentsOf(schemas: Iterable<z.ZodType>): Record<string, Json> {
  const found: Record<string, Json> = {}
  for (const schema of schemas) {
    const { $defs } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any', override: keepDefault })
    Object.assign(found, JSON.parse(JSON.stringify($defs ?? {}).replaceAll('"#/$defs/', '"#/components/schemas/')))
  }
  return Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)))
}

function parametersOf(path: string, method: Method, { query = {} }: Operation): DescribedParameter[] {
  const parts = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]): DescribedParameter => {
    const schema = { type: 'string', pattern: NAME_PATTERN.source, minLength: 1, maxLength: LIMITS.nameMaxChars }
    return { name: name!, in: 'path', required: true, schema }
  })
  const asked = Object.entries(query).map(([name, { description, schema }]): DescribedParameter => {
    return { name, in: 'query', required: false, description, schema }
  })
  const key: DescribedParameter = {
    name: 'idempotency-key',
    in: 'header',
    required: false,
    description: 'A request with a key that was answered before gets the first answer again',
    schema: { type: 'string', maxLength: LIMITS.idempotencyKeyMaxChars },
  }
  return [...parts, ...asked, ...(method === 'post' ? [key] : [])]
}

function describe(path: string, method: Method, operation: Operation): DescribedOperation {
  const { operationId, summary, description, tag, body, replies, access } = operation
  const successes = Object.entries(replies).map(([status, schema]) => {
    return [status, { description: STATUS_CODES[status] ?? '', ...(schema === null ? {} : contentOf(schema)) }] as const
  })
  const failures = errorsOf(operation).map((status) => [status, { $ref: `#/components/responses/${ERRORS[status].name}` }] as const)
  return {
    operationId,
    summary,
    ...(description === undefined ? {} : { description }),
    tags: [tag],
    parameters: parametersOf(path, method, operation),
    ...(body === undefined ? {} : { requestBody: { ...contentOf(body), required: true } }),
    responses: Object.fromEntries<DescribedReply>([...successes, ...failures]),
    ...(access === 'anyone' ? { security: [] } : {}),
  }
}

/** The OpenAPI 3.1 document of these operations, its schemas made of those that validate. */
export function describeApi(table: RouteTable, version: string): ApiDocument {
  const operations = Object.values(table).flatMap((methods) => Object.values(methods))
  const schemas = operations.flatMap(({ body, replies }) => [body, ...Object.values(replies)])
  const shared = Object.values(ERRORS)
  const paths = Object.entries(table).map(([path, methods]) => {
    const described = (Object.entries(methods) as [Method, Operation][]).map(
      ([method, operation]) => [method, describe(path, method, operation)] as const,
    )
    return [`${BASE}${path}`, Object.fromEntries(described)] as const
  })
  return {
    openapi: '3.1.0',
    info: { title: 'Tidings API', version, description: 'Webhook notifications. Compatible with the API of the open-source Svix server.' },
    servers: [{ url: '/' }],
    security: [{ HTTPBearer: [] }],
    tags: [...new Set(operations.map(({ tag }) => tag))].map((name) => ({ name })),
    paths: Object.fromEntries(paths),
    components: {
      schemas: componentsOf([
        ...schemas.filter((schema) => schema !== undefined && schema !== null),
        ...shared.map(({ schema }) => schema),
      ]),
      responses: Object.fromEntries(shared.map(({ name, schema, text }) => [name, { description: text, ...contentOf(schema) }])),
      securitySchemes: {
        HTTPBearer: { type: 'http', scheme: 'bearer', description: 'An HS256 token of an organisation, or of one application' },
      },
    },
  }
}
