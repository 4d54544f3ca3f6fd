/** Which rollups tell what happened between two times, and where only raw attempts do. All times are Unix milliseconds. */
import { LIMITS } from './limits.ts'

export const GRAINS = ['minute', 'hour', 'day'] as const
export type Grain = (typeof GRAINS)[number]

export const GRAIN_MS = { minute: 60_000, hour: 3_600_000, day: 86_400_000 } as const satisfies Record<Grain, number>

/** From `fromMs` on, before `untilMs`. */
export interface Span {
  readonly fromMs: number
  readonly untilMs: number
}

/** What is rolled up, by minutes: from `beginsMs` on, before `throughMs`. */
export interface RolledUp {
  readonly beginsMs: number
  readonly throughMs: number
}

export interface Parts extends Readonly<Record<Grain, readonly Span[]>> {
  /** What only raw attempts tell: what is not rolled up yet or never was, and parts of a minute. */
  readonly raw: readonly Span[]
}

export const floorTo = (grain: Grain, ms: number): number => Math.floor(ms / GRAIN_MS[grain]) * GRAIN_MS[grain]
export const ceilTo = (grain: Grain, ms: number): number => Math.ceil(ms / GRAIN_MS[grain]) * GRAIN_MS[grain]

const KEPT_DAYS = { minute: LIMITS.rollupMinutesKeptDays, hour: LIMITS.rollupHoursKeptDays, day: LIMITS.rollupDaysKeptDays } as const

/** Before it rollups of the grain may have been dropped. */
export function keptFromMs(grain: Grain, nowMs: number): number {
  return nowMs - KEPT_DAYS[grain] * GRAIN_MS.day
}

/**
 * Until when hours and days are rolled up, where minutes are until `throughMs`: those whose minutes are computed anew no more.
 * An hour is computed once, from its minutes, and a day from its hours.
 */
export function settledMs(grain: Grain, throughMs: number): number {
  return grain === 'minute' ? throughMs : floorTo(grain, throughMs - LIMITS.rollupWindowMs)
}

/** Cuts a time into the fewest rollups of `grain` or finer. No part is told twice, and none is left out. */
export function cut(span: Span, { beginsMs, throughMs }: RolledUp, grain: Grain, nowMs: number): Parts {
  const parts = { minute: [] as Span[], hour: [] as Span[], day: [] as Span[], raw: [] as Span[] }
  const add = (to: keyof Parts, fromMs: number, untilMs: number) => {
    if (fromMs < untilMs) parts[to].push({ fromMs, untilMs })
  }
  const fill = (fromMs: number, untilMs: number, at: number) => {
    if (fromMs >= untilMs) return
    const whole = GRAINS[at]
    if (whole === undefined) return add('raw', fromMs, untilMs)
    const firstMs = ceilTo(whole, Math.max(fromMs, keptFromMs(whole, nowMs)))
    const endMs = Math.min(floorTo(whole, untilMs), settledMs(whole, throughMs))
    if (firstMs >= endMs) return fill(fromMs, untilMs, at - 1)
    fill(fromMs, firstMs, at - 1)
    add(whole, firstMs, endMs)
    fill(endMs, untilMs, at - 1)
  }
  add('raw', span.fromMs, Math.min(span.untilMs, beginsMs))
  fill(Math.max(span.fromMs, beginsMs), Math.min(span.untilMs, throughMs), GRAINS.indexOf(grain))
  add('raw', Math.max(span.fromMs, beginsMs, throughMs), span.untilMs)
  return parts
}

/** Times to be computed. */
export interface Turn {
  /** Whole minutes, in order, apart from each other. */
  readonly minutes: readonly Span[]
  readonly hours: readonly Span[]
  readonly days: readonly Span[]
  readonly throughMs: number
}

/**
 * What one turn computes: the next minutes that are over, so many at most, the last ones before them again, and those that
 * attempts were recorded of late.
 * @param late beginnings of minutes
 * @returns undefined where there is nothing to do
 */
export function planTurn({ beginsMs, throughMs }: RolledUp, late: readonly number[], nowMs: number): Turn | undefined {
  const overMs = floorTo('minute', nowMs - LIMITS.rollupSettleMs)
  const nextMs = Math.max(throughMs, Math.min(overMs, throughMs + LIMITS.rollupTurnMinutes * GRAIN_MS.minute))
  const againMs = Math.max(beginsMs, throughMs - LIMITS.rollupWindowMs)
  const usual: Span[] = nextMs === throughMs ? [] : [{ fromMs: againMs, untilMs: nextMs }]
  const isUsual = (ms: number) => ms >= (nextMs === throughMs ? throughMs : againMs)
  const oldestMs = Math.max(beginsMs, keptFromMs('minute', nowMs))
  const more = [...new Set(late)].filter((ms) => ms >= oldestMs && !isUsual(ms)).sort((a, b) => a - b)
  const minutes = [...joined(more.map((fromMs) => ({ fromMs, untilMs: fromMs + GRAIN_MS.minute }))), ...usual]
  if (minutes.length === 0) return undefined
  const above = (grain: 'hour' | 'day') => {
    const [doneMs, endMs] = [settledMs(grain, throughMs), settledMs(grain, nextMs)]
    const anew = more.map((ms) => floorTo(grain, ms)).filter((ms) => ms < doneMs)
    const settled = doneMs < endMs ? [{ fromMs: Math.max(doneMs, floorTo(grain, beginsMs)), untilMs: endMs }] : []
    return [...joined(anew.map((fromMs) => ({ fromMs, untilMs: fromMs + GRAIN_MS[grain] }))), ...settled]
  }
  return { minutes, hours: above('hour'), days: above('day'), throughMs: nextMs }
}

/** @param spans in order */
function joined(spans: readonly Span[]): Span[] {
  const result: Span[] = []
  for (const span of spans) {
    const last = result.at(-1)
    if (last !== undefined && span.fromMs <= last.untilMs)
      result[result.length - 1] = { ...last, untilMs: Math.max(last.untilMs, span.untilMs) }
    else result.push(span)
  }
  return result
}
