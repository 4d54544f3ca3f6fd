import assert from 'node:assert/strict'
import { test } from 'node:test'
import { daysWithTables, overdueMs } from '../../domain/retention-lag.ts'
import type { DayTable } from '../../domain/retention.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const today = Date.parse('2026-11-30')
const RETENTION = { deliveredDays: 30, failedDays: 90, auditDays: 365 }

function table(parent: DayTable['parent'], daysAgo: number, part: DayTable['part'] = 'whole', attached = true): DayTable {
  return { name: `${parent}_${daysAgo}_${part}`, parent, dayMs: today - daysAgo * DAY_MS, part, attached }
}

test('a table is overdue from the end of its time on, and the oldest counts', () => {
  const now = today + 5 * HOUR_MS
  assert.equal(overdueMs([], now, RETENTION), 0)
  assert.equal(overdueMs([table('attempt', 30), table('attempt', 30, 'delivered'), table('message_payload', 0)], now, RETENTION), 0)
  assert.equal(overdueMs([table('attempt', 31, 'delivered')], now, RETENTION), 5 * HOUR_MS)
  assert.equal(overdueMs([table('message_payload', 1)], now, RETENTION), 5 * HOUR_MS)
  assert.equal(overdueMs([table('attempt', 31, 'delivered'), table('attempt', 93)], now, RETENTION), 2 * DAY_MS + 5 * HOUR_MS)
})

test('one that is taken out and not dropped counts; one of messages, which may keep some longer, does not', () => {
  assert.equal(overdueMs([table('attempt', 91, 'whole', false)], today + HOUR_MS, RETENTION), HOUR_MS)
  assert.equal(overdueMs([table('message', 120)], today, RETENTION), 0)
})

test('days count from tomorrow on as long as messages and attempts have their tables', () => {
  const ahead = (parent: DayTable['parent'], days: number) => Array.from({ length: days + 1 }, (_, n) => table(parent, -n))
  assert.equal(daysWithTables([...ahead('message', 7), ...ahead('attempt', 7)], today + HOUR_MS), 7)
  assert.equal(daysWithTables([...ahead('message', 7), ...ahead('attempt', 5), table('attempt', -7)], today), 5)
  assert.equal(daysWithTables([...ahead('message', 0), ...ahead('attempt', 0)], today), 0)
  assert.equal(daysWithTables([...ahead('message', 7), ...ahead('attempt', 7)], today + 9 * DAY_MS), 0)
})
