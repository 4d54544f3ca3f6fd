import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { LIMITS } from '../../domain/limits.ts'
import { ceilTo, cut, floorTo, GRAIN_MS, GRAINS, keptFromMs, planTurn, settledMs, type Span } from '../../domain/rollups.ts'

const DAY = Date.UTC(2026, 10, 30)
const { minute: MINUTE, hour: HOUR, day: DAY_MS } = GRAIN_MS
const NOW = DAY + 10 * HOUR + 20 * MINUTE + 7000
const ROLLED_UP = { beginsMs: DAY - 6 * DAY_MS, throughMs: DAY + 10 * HOUR + 20 * MINUTE }

const told = (parts: ReturnType<typeof cut>): Span[] =>
  [...GRAINS.flatMap((grain) => parts[grain]), ...parts.raw].sort((a, b) => a.fromMs - b.fromMs)

test('a range is told once, by whole rollups that there are', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: DAY - 40 * DAY_MS, max: NOW }),
      fc.integer({ min: 0, max: 28 * DAY_MS }),
      fc.constantFrom(...GRAINS),
      fc.integer({ min: 0, max: 500 }),
      (fromMs, lengthMs, grain, behind) => {
        const rolledUp = { ...ROLLED_UP, throughMs: ROLLED_UP.throughMs - behind * MINUTE }
        const parts = cut({ fromMs, untilMs: fromMs + lengthMs }, rolledUp, grain, NOW)
        const spans = told(parts)
        let atMs = fromMs
        for (const span of spans) {
          assert.equal(span.fromMs, atMs)
          assert.ok(span.untilMs > span.fromMs)
          atMs = span.untilMs
        }
        assert.equal(atMs, fromMs + lengthMs)
        for (const one of GRAINS) {
          for (const span of parts[one]) {
            assert.equal(span.fromMs, floorTo(one, span.fromMs))
            assert.equal(span.untilMs, floorTo(one, span.untilMs))
            assert.ok(span.fromMs >= Math.max(rolledUp.beginsMs, keptFromMs(one, NOW)))
            assert.ok(span.untilMs <= settledMs(one, rolledUp.throughMs))
          }
        }
      },
    ),
  )
})

test('four weeks are days, the hours and minutes at their ends, and what is not rolled up yet', () => {
  const rolledUp = { ...ROLLED_UP, beginsMs: DAY - 100 * DAY_MS }
  const parts = cut({ fromMs: NOW - 2 * DAY_MS, untilMs: NOW }, rolledUp, 'day', NOW)
  const at = (hours: number, minutes = 0, ms = 0) => DAY + hours * HOUR + minutes * MINUTE + ms
  assert.deepEqual(parts.day, [{ fromMs: at(-24), untilMs: at(0) }])
  assert.deepEqual(parts.hour, [
    { fromMs: at(-37), untilMs: at(-24) },
    { fromMs: at(0), untilMs: at(10) },
  ])
  assert.deepEqual(parts.minute, [
    { fromMs: at(-38, 21), untilMs: at(-37) },
    { fromMs: at(10), untilMs: at(10, 20) },
  ])
  assert.deepEqual(parts.raw, [
    { fromMs: at(-38, 20, 7000), untilMs: at(-38, 21) },
    { fromMs: at(10, 20), untilMs: NOW },
  ])
})

test('no rollup is finer than what was asked for needs, and none is coarser', () => {
  const parts = cut({ fromMs: DAY - 2 * DAY_MS, untilMs: DAY }, ROLLED_UP, 'hour', NOW)
  assert.deepEqual([parts.day, parts.minute, parts.raw], [[], [], []])
  assert.deepEqual(parts.hour, [{ fromMs: DAY - 2 * DAY_MS, untilMs: DAY }])
})

test('a turn computes the minutes that are over, the last ones again, and of those that were missed so many at most', () => {
  const { throughMs } = ROLLED_UP
  const over = throughMs + MINUTE + LIMITS.rollupSettleMs
  assert.equal(planTurn(ROLLED_UP, [], over - 1), undefined)
  assert.deepEqual(planTurn(ROLLED_UP, [], over), {
    minutes: [{ fromMs: throughMs - LIMITS.rollupWindowMs, untilMs: throughMs + MINUTE }],
    hours: [],
    days: [],
    throughMs: throughMs + MINUTE,
  })
  const afterPause = planTurn(ROLLED_UP, [], over + DAY_MS)!
  assert.equal(afterPause.throughMs, throughMs + LIMITS.rollupTurnMinutes * MINUTE)
})

test('turns compute every hour and day once, after its minutes were computed for the last time', () => {
  const begins = DAY - 2 * DAY_MS
  let throughMs = begins
  const minutes = new Map<number, number>()
  const seen = { hour: [] as number[], day: [] as number[] }
  for (let nowMs = begins; nowMs < NOW; nowMs += 17_000) {
    const turn = planTurn({ beginsMs: begins, throughMs }, [], nowMs)
    if (turn === undefined) continue
    for (const { fromMs, untilMs } of turn.minutes) {
      for (let ms = fromMs; ms < untilMs; ms += MINUTE) {
        assert.ok(!seen.hour.includes(floorTo('hour', ms)), 'its hour was computed already')
        minutes.set(ms, (minutes.get(ms) ?? 0) + 1)
      }
    }
    for (const { fromMs, untilMs } of turn.hours) {
      for (let ms = fromMs; ms < untilMs; ms += HOUR) seen.hour.push(ms)
      assert.ok(untilMs <= turn.throughMs)
    }
    for (const { fromMs, untilMs } of turn.days) for (let ms = fromMs; ms < untilMs; ms += DAY_MS) seen.day.push(ms)
    throughMs = turn.throughMs
  }
  const every = (stepMs: number, untilMs: number) => Array.from({ length: (untilMs - begins) / stepMs }, (_, i) => begins + i * stepMs)
  assert.deepEqual(seen.hour, every(HOUR, floorTo('hour', NOW)))
  assert.deepEqual(seen.day, every(DAY_MS, DAY))
  assert.equal(minutes.size, (throughMs - begins) / MINUTE)
})

test('late minutes are computed again with the hour and the day that were done; those too old are left', () => {
  const { throughMs, beginsMs } = ROLLED_UP
  const late = [throughMs - 2 * HOUR, throughMs - DAY_MS, throughMs - DAY_MS + MINUTE, beginsMs - MINUTE, throughMs + HOUR]
  const turn = planTurn(ROLLED_UP, late, throughMs)!
  assert.deepEqual(turn.minutes, [
    { fromMs: throughMs - DAY_MS, untilMs: throughMs - DAY_MS + 2 * MINUTE },
    { fromMs: throughMs - 2 * HOUR, untilMs: throughMs - 2 * HOUR + MINUTE },
  ])
  const hourOf = (ms: number) => ({ fromMs: floorTo('hour', ms), untilMs: ceilTo('hour', ms + 1) })
  assert.deepEqual(turn.hours, [hourOf(throughMs - DAY_MS), hourOf(throughMs - 2 * HOUR)])
  assert.deepEqual(turn.days, [{ fromMs: DAY - DAY_MS, untilMs: DAY }])
  assert.equal(turn.throughMs, throughMs)
})
