/** The query parameters of lists, as the OpenAPI document shows them. `query.ts` reads them. */
import type { IdPrefix } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import { STATUS_FAIL, STATUS_PENDING, STATUS_SENDING, STATUS_SUCCESS } from '../domain/outcome.ts'
import { NAME_PATTERN } from './schemas/names.ts'

export interface QueryParameter {
  readonly description: string
  /** JSON Schema. */
  readonly schema: Readonly<Record<string, unknown>>
}

/** Parameters by name. */
export type QueryParameters = Readonly<Record<string, QueryParameter>>

export const STATUSES = [STATUS_SUCCESS, STATUS_PENDING, STATUS_FAIL, STATUS_SENDING] as const
export const STATUS_CODE_CLASSES = [0, 100, 200, 300, 400, 500] as const

const NAME = { type: 'string', pattern: NAME_PATTERN.source, minLength: 1, maxLength: LIMITS.nameMaxChars } as const

/** `true` or `false`. */
export function flag(description: string, fallback: boolean): QueryParameter {
  return { description, schema: { type: 'boolean', default: fallback } }
}

export function moment(description: string): QueryParameter {
  return { description, schema: { type: 'string', format: 'date-time' } }
}

/** An id, or a uid. */
export function idOrUid(description: string): QueryParameter {
  return { description, schema: NAME }
}

const ID_CHARACTERS = '[0-9A-Za-z]{27}'

/** What an iterator of a list by ids looks like. */
export function idsOf(prefix: IdPrefix): string {
  return `${prefix}_${ID_CHARACTERS}`
}

/** `limit` and `iterator`. @param cursor the pattern of an iterator of this list */
export function page(cursor: string) {
  return {
    limit: {
      description: 'Limit the number of returned items',
      schema: { type: 'integer', format: 'uint64', minimum: 0, maximum: LIMITS.pageMax, default: LIMITS.pageDefault },
    },
    iterator: { description: 'The iterator returned from a prior invocation', schema: { type: 'string', pattern: `^(-?${cursor})?$` } },
  } satisfies QueryParameters
}

/** A page whose order the caller may choose. */
export function orderedPage(cursor: string) {
  const order = { description: 'The sorting order of the returned items', schema: { type: 'string', enum: ['ascending', 'descending'] } }
  return { ...page(cursor), order } satisfies QueryParameters
}

/** What `readHistory` reads. */
export function history(prefix: 'msg' | 'atmpt') {
  return {
    ...page(idsOf(prefix)),
    channel: { description: 'Filter response based on the channel', schema: NAME },
    event_types: {
      description: 'Filter response based on the event type: a list with commas, or repeated',
      schema: { type: 'array', items: NAME },
    },
    before: moment('Only include items created before a certain date'),
    after: moment('Only include items created after a certain date'),
  } satisfies QueryParameters
}

export const STATUS: QueryParameter = {
  description: 'Filter response based on the delivery status: 0 success, 1 pending, 2 fail, 3 sending',
  schema: { type: 'integer', enum: STATUSES },
}

export const STATUS_CODE_CLASS: QueryParameter = {
  description: 'Filter response based on the class of the HTTP status code; 0 is no answer',
  schema: { type: 'integer', enum: STATUS_CODE_CLASSES },
}
