/**
 * Pages of history are mostly of the newest days. A statement considers every day's table that its bounds leave, which costs more
 * than reading a page: so a list is read from a few days first, and from more only where these do not fill the page.
 */
import { timeOfId } from '../../domain/archive.ts'
import { lowestIdAt, type IdPrefix } from '../../domain/ids.ts'
import { rises, type Page } from '../page.ts'

const DAY_MS = 86_400_000
/** Days from the page's beginning at which one statement ends and the next begins; after the last one there is no bound. */
const STEPS_DAYS = [1, 8]
/** What has a later time comes from a clock that is wrong by more than this. */
const AHEAD_MS = 2 * DAY_MS

/** What no id has, unless its clock is wrong: days to come have tables too. */
export function aheadOf(prefix: IdPrefix, nowMs: number): string {
  return lowestIdAt(prefix, nowMs + AHEAD_MS)
}

/** Ids, exclusive. */
export interface Bounds {
  readonly afterId?: string | undefined
  readonly beforeId?: string | undefined
}

/**
 * Reads the rows of a page and one more, where there are so many.
 * @param given bounds of the list; without a lower one it is read at once
 * @param select rows of a page within bounds, in the direction in which it is walked, with one more than the limit
 */
export async function readInWindows<T>(
  prefix: IdPrefix,
  page: Page,
  given: Bounds,
  nowMs: number,
  select: (bounds: Bounds, page: Page) => Promise<T[]>,
): Promise<T[]> {
  const windows = given.afterId === undefined ? [given] : windowsOf(prefix, page, { ...given, afterId: given.afterId }, nowMs)
  const rows: T[] = []
  for (const bounds of windows) {
    rows.push(...(await select(bounds, { ...page, limit: page.limit - rows.length })))
    if (rows.length > page.limit) break
  }
  return rows
}

function windowsOf(prefix: IdPrefix, page: Page, { afterId, beforeId }: Bounds & { afterId: string }, nowMs: number): Bounds[] {
  const rising = rises(page)
  const endId = beforeId ?? aheadOf(prefix, nowMs)
  const beginMs = timeOfId(page.from ?? (rising ? afterId : (beforeId ?? lowestIdAt(prefix, nowMs)))) ?? nowMs
  const cuts = STEPS_DAYS.map((days) => lowestIdAt(prefix, Math.max(0, rising ? beginMs + days * DAY_MS : beginMs - days * DAY_MS)))
  const within = cuts.filter((id) => afterId < id && id < endId)
  const edges = rising ? [afterId, ...within, endId] : [endId, ...within, afterId]
  return edges.slice(1).map((edge, i) => (rising ? { afterId: edges[i]!, beforeId: edge } : { afterId: edge, beforeId: edges[i]! }))
}
