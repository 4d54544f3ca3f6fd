import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { newId } from '../../domain/ids.ts'
import type { NewMessage } from '../../domain/message.ts'
import { DEFAULT_WEIGHTS } from '../../domain/priority.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { claimExpiredGroup, claimRows, claimWaiting, deleteGroup } from '../../storage/outbox.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createRecorder } from '../../storage/recorder.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

const LEASE_MS = 10_000

let database: TestDatabase
let pool: Pool

before(async () => {
  database = await createTestDatabase()
  pool = createPool(database.url, 10)
})

after(async () => {
  await pool.end()
  await database.drop()
})

function newMessages(count: number): NewMessage[] {
  const nowMs = Date.now()
  const common = {
    appId: 'app_1',
    eventType: 'a.b',
    eventId: null,
    channels: null,
    payload: '{}',
    createdAtMs: nowMs,
    expiresAtMs: nowMs + 1e6,
  }
  return Array.from({ length: count }, () => ({ ...common, id: newId('msg', nowMs) })).sort((a, b) => (a.id < b.id ? -1 : 1))
}

test('two dispatchers that claim the same waiting rows never make two groups of one id', async () => {
  const messages = newMessages(3)
  await acceptMessages(pool, messages, false, 0)
  const swept = await claimWaiting(pool, { max: 1, minAgeMs: 0, leaseMs: LEASE_MS, weights: DEFAULT_WEIGHTS })
  assert.deepEqual(
    swept.map((row) => row.id),
    [messages[0]!.id],
  )
  // The process that accepted them has all three in its queue still.
  const local = await claimRows(
    pool,
    messages.map((message) => message.id),
    LEASE_MS,
  )
  assert.deepEqual([...local!.ids].sort(), [messages[1]!.id, messages[2]!.id])
  assert.equal(local!.groupId, messages[1]!.id)
  await deleteGroup(pool, messages[0]!.id)
  const { rowCount } = await pool.query('SELECT FROM outbox WHERE group_id = $1', [local!.groupId])
  assert.equal(rowCount, 2, 'the end of one group took rows of another')
})

test('sweepers that race for expired groups get each one once, and do not wait for each other in a ring', async () => {
  for (let i = 0; i < 20; i++) await acceptMessages(pool, newMessages(50), true, -1)
  const claims = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const mine: string[] = []
      for (let group = await claimExpiredGroup(pool, LEASE_MS); group !== undefined; group = await claimExpiredGroup(pool, LEASE_MS)) {
        assert.equal(group.rows.length, 50)
        mine.push(group.groupId)
      }
      return mine
    }),
  )
  const claimed = claims.flat()
  assert.equal(new Set(claimed).size, claimed.length, 'a group was claimed twice')
})

test('groups that reach their workflow while a write is under way leave the outbox with the next one', async () => {
  const groups = Array.from({ length: 20 }, () => newMessages(2))
  for (const messages of groups) await acceptMessages(pool, messages, true, LEASE_MS)
  const recorder = createRecorder({ pool, onWake: () => undefined })
  for (const [first] of groups) {
    recorder.forgetGroup(first!.id)
    void recorder.record({
      ...{ messageId: first!.id, endpointId: 'ep_1', appId: 'app_1', trigger: 0, groupId: first!.id },
      change: { state: 'dead', attempts: 1 },
    })
    await setImmediate()
  }
  await recorder.drained()
  const ids = groups.map(([first]) => first!.id)
  const { rowCount } = await pool.query('SELECT FROM outbox WHERE group_id = ANY($1::text[])', [ids])
  assert.equal(rowCount, 0)
})
