import assert from 'node:assert/strict'
import { test } from 'node:test'
import { daysAhead, dueTables, endOf, type DayTable } from '../../domain/retention.ts'

const DAY_MS = 86_400_000
const RETENTION = { deliveredDays: 30, failedDays: 90, auditDays: 365 }
const day = (text: string) => Date.parse(`${text}T00:00:00Z`)

const table = (name: string, parent: DayTable['parent'], dayMs: number, part: DayTable['part'] = 'whole'): DayTable => ({
  ...{ name, parent, dayMs, part },
  attached: true,
})

test('a table goes when its last moment is old enough', () => {
  const dayMs = day('2026-03-01')
  const days = (parent: DayTable['parent'], part: DayTable['part'] = 'whole') =>
    (endOf({ parent, dayMs, part }, RETENTION) - dayMs) / DAY_MS
  assert.equal(days('message'), 91)
  assert.equal(days('attempt', 'delivered'), 31)
  assert.equal(days('attempt', 'failed'), 91)
  assert.equal(days('attempt'), 91)
  assert.equal(days('message_payload'), 1)
  assert.equal(days('idempotency_key'), 2)
  assert.equal(days('audit_log'), 366)
  assert.equal(endOf({ parent: 'audit_log', dayMs, part: 'whole' }, { ...RETENTION, auditDays: 0 }), Infinity)
})

test('the oldest go first, and of a day that goes as a whole nothing is named apart', () => {
  const [old, recent] = [day('2026-01-01'), day('2026-03-01')]
  const tables = [
    table('recent', 'attempt', recent),
    table('recent-delivered', 'attempt', recent, 'delivered'),
    table('recent-failed', 'attempt', recent, 'failed'),
    table('old', 'attempt', old),
    table('old-delivered', 'attempt', old, 'delivered'),
    table('messages', 'message', old),
  ]
  const names = (text: string) => dueTables(tables, day(text), RETENTION).map(({ name }) => name)
  assert.deepEqual(names('2026-01-31'), [])
  assert.deepEqual(names('2026-02-01'), ['old-delivered'])
  assert.deepEqual(names('2026-04-02'), ['messages', 'old', 'recent-delivered'])
})

test('payloads have tables for every day at which one may end, the others for a week', () => {
  const nowMs = Date.parse('2026-03-01T17:00:00Z')
  const days = (parent: DayTable['parent']) => {
    const { fromMs, toMs } = daysAhead(parent, nowMs)
    return [new Date(fromMs).toISOString().slice(0, 10), (toMs - fromMs) / DAY_MS]
  }
  assert.deepEqual(days('message'), ['2026-03-01', 7])
  assert.deepEqual(days('attempt'), ['2026-03-01', 7])
  for (const parent of ['idempotency_key', 'audit_log'] as const) assert.deepEqual(days(parent), ['2026-03-01', 7])
  assert.deepEqual(days('message_payload'), ['2026-03-01', 97])
})
