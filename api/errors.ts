/** Codes of the answers that are not 422; the API's clients compare them, so they are never renamed. */
export type ErrorCode =
  | 'generic_error'
  | 'bad_token'
  | 'missing_payload'
  | 'limit_reached'
  | 'invalid_range'
  | 'authentication_failed'
  | 'insufficient access'
  | 'not_found'
  | 'method_not_allowed'
  | 'conflict'
  | 'event_type_exists'
  | 'payload_too_large'
  | 'uri_too_long'
  | 'too_many_requests'
  | 'not_implemented'
  | 'unavailable'
  | 'misdirected'
  | 'region_unreachable'
  | 'region_timeout'
  | 'configuration_unavailable'
  | 'configuration_unconfirmed'
  | 'archived'

/** A request that cannot be served; the error middleware gives the code its HTTP status. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly code: ErrorCode
  /** Fields of the answer besides `code` and `detail`. */
  readonly more: Readonly<Record<string, string>>

  constructor(code: ErrorCode, detail: string, more: Readonly<Record<string, string>> = {}) {
    super(detail)
    this.code = code
    this.more = more
  }
}

/** One entry of a 422 answer. */
export interface ValidationItem {
  /** Where: `body` or `query`, then the field. */
  readonly loc: readonly string[]
  readonly msg: string
  /** `value_error.jsondecode` where the text does not have the asked-for shape, `value_error` where a rule refuses the value. */
  readonly type: 'value_error' | 'value_error.jsondecode'
}

/** A body or query that is not valid: 422 with every problem. */
export class ValidationError extends Error {
  override readonly name = 'ValidationError'
  readonly items: readonly ValidationItem[]

  constructor(items: readonly ValidationItem[]) {
    super(items.map((item) => `${item.loc.join('.')}: ${item.msg}`).join('; '))
    this.items = items
  }
}

/** A rule refuses one value. */
export function ruleError(loc: readonly string[], msg: string): ValidationError {
  return new ValidationError([{ loc, msg, type: 'value_error' }])
}

export function notFound(): ApiError {
  return new ApiError('not_found', 'Entity not found')
}
