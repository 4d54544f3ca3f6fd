import type { ErrorRequestHandler } from 'express'
import type { Logger } from 'pino'
import {
  ConfigurationUnavailableError,
  ConfigurationUnconfirmedError,
  EventIdConflictError,
  OverloadedError,
  StoppingError,
} from '../domain/errors.ts'
import { isPassingFault, isUniqueViolation } from '../storage/faults.ts'
import { ApiError, ValidationError, type ErrorCode } from './errors.ts'
import { sendJson, sendText } from './reply.ts'

const STATUS_OF = {
  generic_error: 400,
  bad_token: 400,
  missing_payload: 400,
  limit_reached: 400,
  invalid_range: 400,
  authentication_failed: 401,
  'insufficient access': 403,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  event_type_exists: 409,
  payload_too_large: 413,
  uri_too_long: 414,
  too_many_requests: 429,
  not_implemented: 501,
  unavailable: 503,
  misdirected: 421,
  region_unreachable: 502,
  region_timeout: 504,
  configuration_unavailable: 503,
  configuration_unconfirmed: 503,
  archived: 410,
} as const satisfies Record<ErrorCode, number>

const CHARACTER_REFUSED = '22021'

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

/** What the client may know of an error; undefined for a bug, of which it is told nothing. */
function toApiError(error: unknown): ApiError | undefined {
  if (error instanceof ApiError) return error
  if (error instanceof EventIdConflictError) return new ApiError('conflict', 'A message with this eventId already exists')
  if (error instanceof OverloadedError) return new ApiError('too_many_requests', 'This server has more to accept than it can hold')
  if (error instanceof StoppingError) return new ApiError('unavailable', 'This server is stopping')
  if (error instanceof ConfigurationUnavailableError || error instanceof ConfigurationUnconfirmedError) {
    return new ApiError(error.code, error.message)
  }
  if (isUniqueViolation(error)) return new ApiError('conflict', 'An object with this uid already exists')
  if (codeOf(error) === CHARACTER_REFUSED) return new ApiError('generic_error', 'Text with NUL is not allowed')
  // Express: a path that does not decode.
  if (error instanceof URIError) return new ApiError('generic_error', 'The path is not valid')
  if (isPassingFault(error)) return new ApiError('unavailable', 'The database cannot be reached')
  return undefined
}

/** The one place where an error becomes an answer. */
export function createFailures(log: Logger): ErrorRequestHandler {
  // Express takes a middleware for an error handler by its four parameters.
  return (error: unknown, request, response, _next) => {
    if (response.headersSent || response.destroyed) {
      response.destroy()
      return
    }
    if (error instanceof ValidationError) {
      sendJson(response, 422, { detail: error.items })
      return
    }
    const known = toApiError(error)
    const status = known === undefined ? 500 : STATUS_OF[known.code]
    if (status >= 500 && known?.code !== 'not_implemented') {
      const { name, message, stack } = error instanceof Error ? error : new Error(String(error))
      log.error({ method: request.method, error: { name, message, stack, code: codeOf(error) } }, 'request.failed')
    }
    if (error instanceof OverloadedError) response.setHeader('retry-after', error.retryAfterS)
    if (known === undefined) sendText(response, status, '{}')
    else sendJson(response, status, { code: known.code, detail: known.message, ...known.more })
  }
}
