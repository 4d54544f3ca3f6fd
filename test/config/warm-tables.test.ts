import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ConfigError, readConfig } from '../../config/index.ts'

test('nothing is moved unless it is said where to', () => {
  assert.equal(readConfig({ TIDINGS_HOT_DAYS: '3' }).warm, undefined)
  assert.equal(readConfig({ TIDINGS_WARM_TABLESPACE: '' }).warm, undefined)
})

test('a tablespace alone is enough, and the rest can be set', () => {
  const warm = { tablespace: 'slow_disk', hotDays: 7, bytesPerSecond: 50_000_000 }
  assert.deepEqual(readConfig({ TIDINGS_WARM_TABLESPACE: 'slow_disk' }).warm, warm)
  const set = { TIDINGS_WARM_TABLESPACE: 'slow_disk', TIDINGS_HOT_DAYS: '14', TIDINGS_WARM_MB_PER_SECOND: '5' }
  assert.deepEqual(readConfig(set).warm, { ...warm, hotDays: 14, bytesPerSecond: 5_000_000 })
})

for (const [variable, value] of [
  ['TIDINGS_WARM_TABLESPACE', 'pg_global'],
  ['TIDINGS_WARM_TABLESPACE', 'slow disk'],
  ['TIDINGS_WARM_TABLESPACE', "x'; DROP TABLE message; --"],
  ['TIDINGS_HOT_DAYS', '0'],
  ['TIDINGS_WARM_MB_PER_SECOND', '0'],
] as const) {
  test(`${variable} is not ${value}`, () => {
    const named = (error: unknown) => error instanceof ConfigError && error.message.startsWith(`${variable}: `)
    assert.throws(() => readConfig({ [variable]: value }), named)
  })
}
