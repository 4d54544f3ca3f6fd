import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'

/** Names that the delivery itself sets, or that would change how the request is carried. */
const REFUSED_NAMES = new Set(
  `user-agent keep-alive proxy-authenticate proxy-authorization te trailers trailer transfer-encoding upgrade age cache-control clear-site-data
  expires pragma warning content-length content-type content-encoding content-language content-location host connection`.split(/\s+/),
)
const REFUSED_PREFIXES = ['x-amz-', 'x-amzn-', 'x-google', 'x-goog-', 'x-gfe', 'x-azure-', 'x-fd-', 'x-svix-', 'svix-', 'webhook-']
/** Their values are never shown again. */
const SENSITIVE = new Set(['authorization', 'x-api-key', 'x-auth-token', 'www-authenticate'])

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}$/
const VALUE = /^[\t\x20-\x7e]*$/

function problemOf(name: string, value: string | null): string | undefined {
  const lower = name.toLowerCase()
  if (!TOKEN.test(name)) return 'Invalid header name'
  if (REFUSED_NAMES.has(lower)) return `The header ${lower} is not allowed`
  const prefix = REFUSED_PREFIXES.find((one) => lower.startsWith(one))
  if (prefix !== undefined) return `Headers beginning with ${prefix} are not allowed`
  if (value !== null && (value.length > LIMITS.headerValueMaxChars || !VALUE.test(value))) return 'Invalid header value'
  return undefined
}

function check(headers: Readonly<Record<string, string | null>>, context: z.RefinementCtx): void {
  const entries = Object.entries(headers)
  if (entries.length > LIMITS.headersPerEndpoint) {
    context.addIssue({ code: 'custom', message: `Takes at most ${LIMITS.headersPerEndpoint} headers` })
  }
  for (const [name, value] of entries) {
    const message = problemOf(name, value)
    if (message !== undefined) context.addIssue({ code: 'custom', message, params: { whole: true } })
  }
}

const NAME_RULES = { pattern: TOKEN.source, description: 'Names that a delivery sets itself are refused' }
const VALUE_RULES = { pattern: VALUE.source, maxLength: LIMITS.headerValueMaxChars }
const COUNT_RULES = { maxProperties: LIMITS.headersPerEndpoint, example: { 'X-Example': '123' } }

export const customHeaders = z.record(z.string().meta(NAME_RULES), z.string().meta(VALUE_RULES)).superRefine(check).meta(COUNT_RULES)
export const endpointHeadersIn = z.object({ headers: customHeaders }).meta({ id: 'EndpointHeadersIn' })
/** Null removes a header. */
export const endpointHeadersPatch = z
  .object({ headers: z.record(z.string().meta(NAME_RULES), z.string().meta(VALUE_RULES).nullable()).superRefine(check).meta(COUNT_RULES) })
  .meta({ id: 'EndpointHeadersPatchIn' })
export const endpointHeadersOut = z
  .object({ headers: z.record(z.string(), z.string()), sensitive: z.array(z.string()).meta({ uniqueItems: true }) })
  .meta({ id: 'EndpointHeadersOut' })

export type Headers = Readonly<Record<string, string>>

/** Lays a patch over headers. Names differing only in case are the same header; the case sent last is kept. */
export function mergeHeaders(current: Headers, patch: Readonly<Record<string, string | null>>): Headers {
  const byName = new Map(Object.entries(current).map(([name, value]) => [name.toLowerCase(), [name, value] as const]))
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) byName.delete(name.toLowerCase())
    else byName.set(name.toLowerCase(), [name, value])
  }
  return Object.fromEntries(byName.values())
}

/** Headers as they are shown: of sensitive ones the name alone. */
export function showHeaders(headers: Headers) {
  const isSensitive = (name: string): boolean => SENSITIVE.has(name.toLowerCase())
  return {
    headers: Object.fromEntries(Object.entries(headers).filter(([name]) => !isSensitive(name))),
    sensitive: Object.keys(headers).filter(isSensitive),
  }
}
