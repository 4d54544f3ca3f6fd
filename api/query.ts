import { lowestIdAt, isId, type IdPrefix } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { HistoryFilter } from '../storage/history/messages.ts'
import type { Page, PageOf } from '../storage/page.ts'
import { ApiError, ruleError } from './errors.ts'
import { NAME_PATTERN } from './schemas/names.ts'
import { parseTime } from './schemas/time.ts'

const DAY_MS = 86_400_000

function unreadable(name: string): ApiError {
  return new ApiError('generic_error', `Failed to deserialize query string: ${name}`)
}

/** @throws {ApiError} 400 where the text is neither `true` nor `false` */
export function readFlag(query: URLSearchParams, name: string, fallback: boolean): boolean {
  const text = query.get(name)
  if (text === null) return fallback
  if (text !== 'true' && text !== 'false') throw unreadable(name)
  return text === 'true'
}

/** @throws {ApiError} 400 where the text is not one of `values` */
export function readChoice<T extends string | number>(query: URLSearchParams, name: string, values: readonly T[]): T | undefined {
  const text = query.get(name)
  if (text === null) return undefined
  const value = values.find((one) => String(one) === text)
  if (value === undefined) throw unreadable(name)
  return value
}

/** RFC 3339, as clients write it. @throws {ApiError} 400 */
export function readTime(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name)
  if (text === null) return undefined
  // An unescaped "+" of a zone arrives as a space.
  const atMs = parseTime(text.replace(/ (\d\d:\d\d)$/, '+$1'))
  if (atMs === undefined) throw unreadable(name)
  return atMs
}

/** A name in a query. @throws {ValidationError} */
function readName(query: URLSearchParams, name: string): string | undefined {
  const text = query.get(name)
  if (text === null) return undefined
  if (!isName(text)) throw ruleError(['query', name, '__all__'], 'Invalid characters or length')
  return text
}

function isName(text: string): boolean {
  return NAME_PATTERN.test(text) && text.length <= LIMITS.nameMaxChars
}

/** Event types as a comma list, repeated, or with `[]` or `[1]` behind the name. @throws {ValidationError} */
function readEventTypes(query: URLSearchParams): string[] | undefined {
  const names = new Set<string>()
  for (const [key, value] of query) {
    if (!/^event_types(\[\d*\])?$/.test(key)) continue
    for (const name of value.split(',')) if (name !== '') names.add(name)
  }
  if (names.size === 0) return undefined
  for (const name of names) if (!isName(name)) throw ruleError(['query', 'event_types', '__all__'], 'Invalid characters or length')
  return [...names]
}

export interface PageRules {
  /** Default order of the list. */
  readonly order: Page['order']
  /** Whether callers may choose another with `order`. */
  readonly orderable?: boolean
  /** Whether a text may be an iterator of this list. */
  readonly isCursor: (text: string) => boolean
}

export const cursorOf =
  (prefix: IdPrefix) =>
  (text: string): boolean =>
    isId(prefix, text)

/**
 * `limit`, `iterator` (an id, or `-` and an id for the page before it) and `order`.
 * @throws {ValidationError} for a limit above 250 or an iterator of another list
 * @throws {ApiError} 400 for a limit that is no number
 */
export function readPage(query: URLSearchParams, rules: PageRules): Page {
  const limitText = query.get('limit') ?? String(LIMITS.pageDefault)
  if (!/^\d{1,15}$/.test(limitText)) throw unreadable('limit')
  const limit = Number(limitText)
  if (limit > LIMITS.pageMax) throw ruleError(['query', 'limit', 'limit'], `Given limit must not exceed ${LIMITS.pageMax}`)
  const order = (rules.orderable && readChoice(query, 'order', ['ascending', 'descending'] as const)) || rules.order
  const iterator = query.get('iterator')
  if (iterator === null || iterator === '') return { limit, order }
  const backwards = iterator.startsWith('-')
  const from = backwards ? iterator.slice(1) : iterator
  if (!rules.isCursor(from)) throw ruleError(['query', 'iterator', '__all__'], 'Invalid iterator')
  return { limit, order, from, backwards }
}

/** The list answer of the Svix API; the iterators are absent on an empty page. */
export function pageReply<T, Out>(page: PageOf<T>, idOf: (row: T) => string, show: (row: T) => Out) {
  const first = page.rows[0]
  const last = page.rows.at(-1)
  return {
    data: page.rows.map(show),
    iterator: last === undefined ? null : idOf(last),
    prevIterator: first === undefined ? null : `-${idOf(first)}`,
    done: page.done,
  }
}

/** What a list's answer is made of. */
export interface Listed {
  readonly page: Page
  /** The iterator of each item. */
  readonly cursors: readonly string[]
}

/** A list that may be in several databases. */
export function listReply<T, Out>(page: Page, rows: PageOf<T>, idOf: (row: T) => string, show: (row: T) => Out) {
  const parts: Listed = { page, cursors: rows.rows.map(idOf) }
  return { status: 200, json: pageReply(rows, idOf, show), parts }
}

/**
 * What the lists of messages and attempts share: newest first, 90 days back unless bounded, `before` and `after` together
 * with an iterator, and `after` alone paging from the oldest.
 */
export function readHistory(query: URLSearchParams, prefix: 'msg' | 'atmpt', nowMs: number): { page: Page; filter: HistoryFilter } {
  const page = readPage(query, { order: 'descending', isCursor: cursorOf(prefix) })
  const beforeMs = readTime(query, 'before')
  const afterMs = readTime(query, 'after')
  const horizonMs = nowMs - LIMITS.historyMaxDays * DAY_MS
  const filter: HistoryFilter = {
    beforeId: beforeMs === undefined ? undefined : lowestIdAt(prefix, beforeMs),
    afterId: lowestIdAt(prefix, afterMs ?? horizonMs),
    channel: readName(query, 'channel'),
    eventTypes: readEventTypes(query),
  }
  const fromOldest = page.from === undefined && afterMs !== undefined && beforeMs === undefined
  return { page: fromOldest ? { ...page, backwards: true } : page, filter }
}
