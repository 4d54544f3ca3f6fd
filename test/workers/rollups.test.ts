import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pino from 'pino'
import { floorTo, GRAIN_MS } from '../../domain/rollups.ts'
import { readProgress } from '../../storage/rollups.ts'
import { startRollups } from '../../workers/rollups.ts'
import { countedRaw, insertAttempts, randomAttempts, rolledUp } from '../storage/attempts.ts'
import { createStorage, type Storage } from '../storage/rows.ts'
import { eventually } from '../support/eventually.ts'

let storage: Storage
before(async () => {
  storage = await createStorage()
})
after(() => storage.drop())

test('dispatchers make up for a pause, one at a time, and go on after a failure', async () => {
  const { pool } = storage
  const dayMs = floorTo('day', Date.now()) - GRAIN_MS.day
  await pool.query('UPDATE rollup_progress SET begins = $1, through = $1', [new Date(dayMs)])
  await insertAttempts(pool, randomAttempts(2000, dayMs, Date.now() - GRAIN_MS.minute))
  await pool.query('ALTER TABLE rollup_minute RENAME TO away')
  const failures: unknown[] = []
  const log = pino({ level: 'warn' }, { write: (line: string) => void failures.push((JSON.parse(line) as { msg: string }).msg) })
  const rollups = [startRollups({ pool, log }, 50), startRollups({ pool, log }, 50)]
  await eventually(
    () => Promise.resolve(failures[0]),
    (msg) => msg === 'rollups.failed',
  )
  await pool.query('ALTER TABLE away RENAME TO rollup_minute')
  await eventually(
    () => readProgress(pool),
    ({ throughMs }) => throughMs >= floorTo('minute', Date.now() - 10_000),
  )
  await Promise.all(rollups.map((one) => one.stop()))
  const { throughMs } = await readProgress(pool)
  assert.deepEqual(await rolledUp(pool, 'minute'), await countedRaw(pool, 'minute', throughMs))
})
