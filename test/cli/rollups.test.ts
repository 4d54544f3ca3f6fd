import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { floorTo, GRAIN_MS } from '../../domain/rollups.ts'
import { rollUp } from '../../storage/rollups.ts'
import { countedRaw, insertAttempts, randomAttempts, rolledUp } from '../storage/attempts.ts'
import { createStorage, type Storage } from '../storage/rows.ts'
import { spawnScript } from '../support/processes.ts'

let storage: Storage
before(async () => {
  storage = await createStorage()
})
after(() => storage.drop())

const run = (...args: readonly string[]) => spawnScript('cli/rollups.ts', args, { env: { DATABASE_URL: storage.url } })

test('it tells how far statistics are rolled up, and counts anew what was asked for', async () => {
  const { pool } = storage
  const nowMs = Date.now()
  const beginsMs = floorTo('day', nowMs) - GRAIN_MS.day
  await pool.query('UPDATE rollup_progress SET begins = $1, through = $1', [new Date(beginsMs)])
  const before = run()
  assert.equal(await before.ended, 0, before.stderr())
  assert.match(before.stdout(), /No turn yet/)
  while ((await rollUp(pool, nowMs)) !== undefined);
  await insertAttempts(pool, randomAttempts(100, nowMs - 4 * GRAIN_MS.hour, nowMs - GRAIN_MS.hour))
  const anew = run('--since', '5h', '--json')
  assert.equal(await anew.ended, 0, anew.stderr())
  const told = JSON.parse(anew.stdout()) as { begins: string; through: string; late: number; minutes: number }
  assert.deepEqual([told.begins, told.late], [new Date(beginsMs).toISOString(), 0])
  assert.ok(told.minutes >= 300 && told.minutes <= 301, String(told.minutes))
  assert.deepEqual(await rolledUp(pool, 'minute'), await countedRaw(pool, 'minute', nowMs))
})

test('what cannot be counted anew is named in one line', async () => {
  for (const [args, expected] of [
    [['--since', '8d'], /goes back 7 days at most/],
    [['--until', '1h'], /--until needs --since/],
    [['--since', 'x'], /--since x/],
  ] as const) {
    const command = run(...args)
    assert.equal(await command.ended, 1)
    assert.match(command.stderr(), expected)
    assert.match(command.stderr(), /^[^\n]+\n$/)
  }
})
