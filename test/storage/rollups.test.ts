import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, before, beforeEach, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { lowestIdAt, newId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import { floorTo, GRAIN_MS, GRAINS, settledMs } from '../../domain/rollups.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createRecorder } from '../../storage/recorder.ts'
import { markSpan, writeMarkingLate } from '../../storage/rollup-late.ts'
import { createRollupPartitions, dropRollupPartitions } from '../../storage/rollup-partitions.ts'
import { readProgress, rollUp } from '../../storage/rollups.ts'
import { countByStatus } from '../../storage/statistics.ts'
import { countedRaw, insertAttempts, randomAttempts, rolledUp } from './attempts.ts'
import { createStorage, newRecord, type Storage } from './rows.ts'

const { minute: MINUTE, hour: HOUR, day: DAY_MS } = GRAIN_MS
const DAY = Date.UTC(2026, 10, 28)
/** A while into the third day. */
const NOW = DAY + 2 * DAY_MS + 90 * MINUTE + 30_000

let storage: Storage
before(async () => {
  storage = await createStorage()
})
beforeEach(async () => {
  await storage.pool.query('TRUNCATE attempt, delivery, rollup_minute, rollup_hour, rollup_day, rollup_late')
  await startAt(DAY)
})
after(() => storage.drop())

async function startAt(ms: number, throughMs = ms): Promise<void> {
  await storage.pool.query(
    'UPDATE rollup_progress SET begins = to_timestamp($1::float8 / 1000), through = to_timestamp($2::float8 / 1000)',
    [ms, throughMs],
  )
}

async function rollUpAll(pool: Pool, nowMs: number): Promise<number> {
  let turns = 0
  while ((await rollUp(pool, nowMs)) !== undefined) turns++
  return turns
}

async function assertEqualsRaw(throughMs: number): Promise<void> {
  for (const grain of GRAINS) {
    const untilMs = settledMs(grain, throughMs)
    assert.deepEqual(await rolledUp(storage.pool, grain), await countedRaw(storage.pool, grain, untilMs), grain)
  }
}

test('rollups are what the raw attempts are, over the borders of minutes, hours and days', async () => {
  const { pool } = storage
  const borders = [DAY, DAY + MINUTE, DAY + HOUR, DAY + DAY_MS, DAY + 2 * DAY_MS].flatMap((ms) => [ms - 1, ms, ms + 3])
  const one = randomAttempts(1, DAY, NOW)[0]!
  const atBorders = borders.filter((ms) => ms >= DAY).map((atMs) => ({ ...one, atMs }))
  const atClasses = [0, 5, 6, 30_000, 30_001].map((durationMs) => ({ ...one, durationMs }))
  await insertAttempts(pool, [...randomAttempts(3000, DAY, NOW), ...atBorders, ...atClasses])
  await rollUpAll(pool, NOW)
  const { throughMs } = await readProgress(pool)
  assert.equal(throughMs, floorTo('minute', NOW))
  await assertEqualsRaw(throughMs)
  assert.equal(await rollUp(pool, NOW), undefined)
})

test('a turn that is repeated writes no row', async () => {
  const { pool } = storage
  await insertAttempts(pool, randomAttempts(500, DAY, DAY + HOUR))
  await rollUpAll(pool, DAY + 2 * HOUR)
  await startAt(DAY)
  let rows = 0
  for (let done = await rollUp(pool, DAY + 2 * HOUR); done !== undefined; done = await rollUp(pool, DAY + 2 * HOUR)) rows += done.rows
  assert.equal(rows, 0)
})

const TURNS = `
  const [url, nowMs] = process.argv.slice(1)
  const { createPool } = await import('./storage/pool.ts')
  const { rollUp } = await import('./storage/rollups.ts')
  const pool = createPool(url, 1)
  for (let done; (done = await rollUp(pool, Number(nowMs))) !== undefined; ) console.log(done.throughMs)
  await pool.end()`

test('processes that are killed in the middle of their turns lose and double nothing', async () => {
  const { pool } = storage
  await insertAttempts(pool, randomAttempts(20_000, DAY, NOW))
  let kills = 0
  for (;;) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', TURNS, storage.url, String(NOW)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    // Some turns later, at any moment of the next one.
    const turns = 2 + Math.floor(Math.random() * 4)
    let seen = 0
    child.stdout.on('data', (text: Buffer) => {
      seen += text.toString().split('\n').length - 1
      if (seen >= turns) setTimeout(() => child.kill('SIGKILL'), Math.random() * 15)
    })
    await once(child, 'close')
    if (child.signalCode === null) break
    kills++
  }
  assert.ok(kills >= 3, `${kills} kills`)
  await assertEqualsRaw((await readProgress(pool)).throughMs)
})

test('of several processes one has the turn, the others go on without waiting', async () => {
  await insertAttempts(storage.pool, randomAttempts(3000, DAY, NOW))
  const pools = Array.from({ length: 3 }, () => createPool(storage.url, 2))
  const turns = await Promise.all(
    pools.map(async (pool) => {
      let had = 0
      while ((await readProgress(pool)).throughMs < floorTo('minute', NOW)) if ((await rollUp(pool, NOW)) !== undefined) had++
      return had
    }),
  )
  await Promise.all(pools.map((pool) => pool.end()))
  const minutes = (floorTo('minute', NOW) - DAY) / MINUTE
  assert.equal(
    turns.reduce((sum, had) => sum + had, 0),
    Math.ceil(minutes / LIMITS.rollupTurnMinutes),
  )
  await assertEqualsRaw(floorTo('minute', NOW))
})

test('a process that stands still in its turn keeps the others from theirs, and waits for nobody', async () => {
  const { pool } = storage
  await insertAttempts(pool, randomAttempts(10, DAY, DAY + MINUTE))
  const other = await pool.connect()
  await other.query('BEGIN')
  await other.query('SELECT FROM rollup_progress FOR UPDATE')
  assert.equal(await rollUp(pool, NOW), undefined)
  await other.query('ROLLBACK')
  other.release()
  assert.notEqual(await rollUp(pool, NOW), undefined)
})

test('what is recorded late within the window is counted by the next turn', async () => {
  const { pool } = storage
  await startAt(DAY, DAY + HOUR)
  const minute = DAY + HOUR - LIMITS.rollupWindowMs
  await rollUpAll(pool, DAY + HOUR + MINUTE + LIMITS.rollupSettleMs)
  await startAt(DAY, DAY + HOUR)
  await insertAttempts(pool, randomAttempts(100, minute, minute + MINUTE))
  await rollUpAll(pool, DAY + HOUR + MINUTE + LIMITS.rollupSettleMs)
  assert.deepEqual(await rolledUp(pool, 'minute'), await countedRaw(pool, 'minute', NOW))
})

test('what is recorded long after it was made is counted in its minute, hour and day, once its record is committed', async () => {
  const { pool } = storage
  const nowMs = Date.now()
  const dayMs = floorTo('day', nowMs) - 2 * DAY_MS
  await startAt(dayMs)
  await rollUpAll(pool, nowMs)
  const recorder = createRecorder({ pool, onWake: () => undefined })
  const late = [dayMs + 1, dayMs + HOUR, dayMs + HOUR + 5, nowMs - LIMITS.rollupLateMs - 1, nowMs - LIMITS.rollupLateMs + 5000, nowMs]
  await Promise.all(
    late.map((createdAtMs) => recorder.record(newRecord({ state: 'untracked' }, { id: newId('atmpt', createdAtMs), createdAtMs }))),
  )
  const marked = await pool.query<{ ms: number }>('SELECT extract(epoch FROM minute)::float8 * 1000 AS ms FROM rollup_late ORDER BY 1')
  assert.deepEqual(
    marked.rows.map((row) => row.ms),
    [dayMs, dayMs + HOUR, floorTo('minute', late[3]!)],
  )
  // Marks are heeded when the write that they were made for is over.
  const through = (await readProgress(pool)).throughMs
  await rollUp(pool, through + LIMITS.rollupSettleMs)
  assert.equal((await readProgress(pool)).late, 3)
  await pool.query(`UPDATE rollup_late SET marked_at = now() - interval '2 minutes'`)
  await rollUp(pool, through + LIMITS.rollupSettleMs)
  assert.equal((await readProgress(pool)).late, 0)
  await rollUpAll(pool, nowMs + HOUR)
  await assertEqualsRaw((await readProgress(pool)).throughMs)
})

test('a write that was not late when it began, and is when it ends, is marked as well', async () => {
  const createdAtMs = Date.now() - LIMITS.rollupLateMs + LIMITS.rollupSettleMs
  const record = newRecord({ state: 'untracked' }, { createdAtMs })
  await writeMarkingLate(storage.pool, [record], () => pause(LIMITS.rollupSettleMs + 100))
  assert.equal((await readProgress(storage.pool)).late, 1)
  await writeMarkingLate(storage.pool, [newRecord({ state: 'untracked' }, { createdAtMs: createdAtMs + GRAIN_MS.minute })], () => pause(0))
  assert.equal((await readProgress(storage.pool)).late, 1)
})

test('an operator has minutes counted anew', async () => {
  const { pool } = storage
  await rollUpAll(pool, NOW)
  await insertAttempts(pool, randomAttempts(500, DAY + HOUR, DAY + 4 * HOUR))
  assert.equal(await markSpan(pool, { fromMs: DAY + HOUR, untilMs: DAY + 4 * HOUR }), 180)
  assert.equal((await readProgress(pool)).asked, 180)
  await rollUpAll(pool, NOW)
  assert.equal((await readProgress(pool)).late, 0)
  await assertEqualsRaw((await readProgress(pool)).throughMs)
})

test('dead letters are counted when they die, whatever becomes of them', async () => {
  const { pool } = storage
  const die = (endpointId: string, atMs: number) =>
    pool.query(
      `INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, group_id, updated_at)
       VALUES ($1, $2, 'app_1', 'dead', 3, 'g', to_timestamp($3::float8 / 1000))`,
      [newId('msg'), endpointId, atMs],
    )
  await die('ep_1', DAY)
  await die('ep_1', DAY + MINUTE - 1)
  await die('ep_2', DAY + HOUR)
  await rollUpAll(pool, DAY + 5 * HOUR)
  await pool.query('DELETE FROM delivery')
  await markSpan(pool, { fromMs: DAY, untilMs: DAY + 2 * HOUR })
  await rollUpAll(pool, NOW)
  const { rows } = await pool.query<{ of_id: string; dead_letters: number }>('SELECT of_id, dead_letters FROM rollup_day ORDER BY of_id')
  assert.deepEqual(rows, [
    { of_id: 'app_1', dead_letters: 3 },
    { of_id: 'ep_1', dead_letters: 2 },
    { of_id: 'ep_2', dead_letters: 1 },
  ])
})

test('attempts of any range are counted as raw ones are, however far they are rolled up', async () => {
  const { pool } = storage
  await startAt(DAY + HOUR)
  await insertAttempts(pool, randomAttempts(5000, DAY, NOW))
  let rolled = false
  for (let i = 0; i < 200; i++) {
    if (i % 4 === 0) rolled = (await rollUp(pool, NOW)) === undefined
    const [fromMs = 0, untilMs = 0] = [Math.random(), Math.random()]
      .map((x) => DAY - HOUR + Math.floor(x * (NOW - DAY + 2 * HOUR)))
      .sort((a, b) => a - b)
    const counts = await countByStatus(pool, 'ep_1', { fromMs, untilMs }, NOW)
    const { rows } = await pool.query(
      `SELECT count(*) FILTER (WHERE status = 0) AS success, count(*) FILTER (WHERE status = 2) AS fail
       FROM attempt WHERE endpoint_id = 'ep_1' AND id >= $1 AND id < $2`,
      [lowestIdAt('atmpt', fromMs), lowestIdAt('atmpt', untilMs)],
    )
    assert.deepEqual(counts, rows[0], `${new Date(fromMs).toISOString()} to ${new Date(untilMs).toISOString()}`)
  }
  assert.ok(rolled)
})

test('partitions are made ahead, and dropped when all in them is too old: 120 days', async () => {
  const { pool } = storage
  const names = async () =>
    (
      await pool.query<{
        name: string
      }>(`SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent::regclass::text LIKE 'rollup_%'
      AND inhrelid::regclass::text NOT LIKE '%_idx' AND inhrelid::regclass::text NOT LIKE '%_pkey' AND inhrelid::regclass::text NOT LIKE '%_at' ORDER BY 1`)
    ).rows.map((row) => row.name)
  const start = Date.UTC(2027, 0, 1)
  for (let day = 0; day <= 120; day++) {
    const nowMs = start + day * DAY_MS
    await createRollupPartitions(pool, { fromMs: nowMs, untilMs: nowMs })
    await dropRollupPartitions(pool, nowMs)
    assert.deepEqual(await createRollupPartitions(pool, { fromMs: nowMs, untilMs: nowMs }), [])
  }
  // 120 days after 1 January is 1 May, and 90 before it 31 January.
  const kept = (await names()).filter((name) => /_2027/.test(name))
  assert.deepEqual(
    kept.filter((name) => name.startsWith('rollup_minute')),
    ['20270424', '20270425', '20270426', '20270427', '20270428', '20270429', '20270430', '20270501', '20270502'].map(
      (day) => `rollup_minute_${day}`,
    ),
  )
  assert.deepEqual(
    kept.filter((name) => !name.startsWith('rollup_minute')),
    [
      ...['01', '02', '03', '04', '05'].map((month) => `rollup_day_2027${month}`),
      ...['01', '02', '03', '04', '05'].map((month) => `rollup_hour_2027${month}`),
    ].sort(),
  )
  assert.deepEqual(
    (await names()).filter((name) => /^rollup_(minute|hour)_2026/.test(name)),
    [],
  )
})

test('a partition that somebody reads is dropped the next time, and nobody waits for it', async () => {
  const { pool } = storage
  await createRollupPartitions(pool, { fromMs: DAY, untilMs: DAY + 1 })
  const reader = await pool.connect()
  await reader.query('BEGIN')
  await reader.query('SELECT FROM rollup_minute')
  const later = DAY + 8 * DAY_MS
  assert.deepEqual(await dropRollupPartitions(pool, later), [])
  await reader.query('COMMIT')
  reader.release()
  assert.deepEqual(await dropRollupPartitions(pool, later), ['rollup_minute_20261128'])
})
