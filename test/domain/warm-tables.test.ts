import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pagesPerStep, tablesToMove, type PlacedTable } from '../../domain/warm-tables.ts'

const DAY_MS = 86_400_000
const RETENTION = { deliveredDays: 30, failedDays: 90, auditDays: 365 }
const RULES = { tablespace: 'warm', hotDays: 7, bytesPerSecond: 1_000_000 }
const todayMs = Date.UTC(2026, 5, 1)

const table = (name: string, parent: PlacedTable['parent'], daysAgo: number, more: Partial<PlacedTable> = {}): PlacedTable => ({
  ...{ name, parent, dayMs: todayMs - daysAgo * DAY_MS, part: 'whole', attached: true, tablespace: 'pg_default', begun: false },
  ...more,
})
const names = (tables: readonly PlacedTable[], nowMs = todayMs + 1000) =>
  tablesToMove(tables, nowMs, RULES, RETENTION).map(({ name }) => name)

test('a table is moved when its day has been over for as many days as it is hot', () => {
  const tables = [table('seven', 'message', 7), table('eight', 'message', 8)]
  assert.deepEqual(names(tables), ['eight'])
  assert.deepEqual(names(tables, todayMs - 1), [])
  assert.deepEqual(names(tables, todayMs + DAY_MS), ['seven', 'eight'])
})

test('what is begun comes first, then the newest', () => {
  const parts = (['delivered', 'failed'] as const).map((part) => table(`attempts-${part}`, 'attempt', 20, { part }))
  assert.deepEqual(names([table('old', 'message', 40, { begun: true }), ...parts, table('new', 'message', 9)]), [
    'old',
    'new',
    'attempts-delivered',
    'attempts-failed',
  ])
})

test('what is moved already, has no rows of its own, or goes within a day stays where it is', () => {
  const there = table('there', 'message', 20, { tablespace: 'warm' })
  const parts = table('parts', 'attempt', 20, { tablespace: undefined })
  const out = table('taken-out', 'message', 20, { attached: false })
  const payloads = table('payloads', 'message_payload', 20)
  const going = [table('delivered', 'attempt', 30, { part: 'delivered' }), table('kept', 'attempt', 29, { part: 'delivered' })]
  assert.deepEqual(names([there, parts, out, payloads, ...going]), ['kept'])
})

test('a step has fewer pages where much is stored apart from them, and one at least', () => {
  assert.equal(pagesPerStep({ pages: 1000, bytes: 8_192_000 }, 8_192_000), 1000)
  assert.equal(pagesPerStep({ pages: 1000, bytes: 81_920_000 }, 8_192_000), 100)
  assert.equal(pagesPerStep({ pages: 1, bytes: 100_000_000 }, 8_192_000), 1)
  assert.ok(pagesPerStep({ pages: 0, bytes: 0 }, 8_192_000) >= 1)
})
