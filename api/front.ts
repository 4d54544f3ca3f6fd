import type { RequestHandler } from 'express'
import type { Config } from '../config/index.ts'
import { LIMITS } from '../domain/limits.ts'
import { ApiError } from './errors.ts'

const METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE'
const REQUEST_HEADERS = 'authorization, content-type, idempotency-key, svix-req-id, svix-retry-count, tidings-position'
const SHOWN_HEADERS = 'ratelimit, ratelimit-policy, retry-after, tidings-position'
const PREFLIGHT_KEPT_S = 600
const HSTS_S = 31_536_000

/**
 * What comes before every route: security headers (a page of HTML replaces the content security policy by its own), CORS
 * for the origins that the operator named, and the bound of a path.
 */
export function createFront(config: Pick<Config, 'corsOrigins' | 'publicUrl'>): RequestHandler {
  const headers: readonly (readonly [string, string])[] = [
    ['x-content-type-options', 'nosniff'],
    ['cache-control', 'no-store'],
    ['referrer-policy', 'no-referrer'],
    ['content-security-policy', "default-src 'none'; frame-ancestors 'none'"],
    ...(config.publicUrl?.startsWith('https:') === true ? [['strict-transport-security', `max-age=${HSTS_S}`] as const] : []),
  ]
  const anyOrigin = config.corsOrigins.includes('*')
  const origins = new Set(config.corsOrigins)
  return (request, response, next) => {
    for (const [name, value] of headers) response.setHeader(name, value)
    if (request.url.length > LIMITS.requestTargetMaxChars) {
      throw new ApiError('uri_too_long', `A path with its query has at most ${LIMITS.requestTargetMaxChars} characters`)
    }
    const { origin } = request.headers
    if (origins.size === 0 || origin === undefined) return next()
    response.setHeader('vary', 'origin')
    if (!anyOrigin && !origins.has(origin)) return next()
    response.setHeader('access-control-allow-origin', anyOrigin ? '*' : origin)
    response.setHeader('access-control-expose-headers', SHOWN_HEADERS)
    if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) return next()
    response.setHeader('access-control-allow-methods', METHODS)
    response.setHeader('access-control-allow-headers', REQUEST_HEADERS)
    response.setHeader('access-control-max-age', PREFLIGHT_KEPT_S)
    response.writeHead(204).end()
  }
}
