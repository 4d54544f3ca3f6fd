import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { overdueMailboxes, readDueParked, settleMailbox } from '../../storage/deliveries.ts'
import { createRecorder } from '../../storage/recorder.ts'
import type { MailboxWake } from '../../storage/records.ts'
import { createStorage, newRecord, type Storage } from './rows.ts'

let storage: Storage

before(async () => {
  storage = await createStorage(12)
})

afterEach(() => storage.pool.query('TRUNCATE attempt, delivery, mailbox'))
after(() => storage.drop())

const parkedUntil = (nextAtMs: number) => newRecord({ state: 'parked', attempts: 6, nextAtMs })

async function box() {
  const { rows } = await storage.pool.query<{ idle: boolean; wake_at: Date | null }>(
    `SELECT idle, wake_at FROM mailbox WHERE endpoint_id = 'ep_1'`,
  )
  return rows[0]
}

test('a mailbox with nothing parked goes to sleep, one with something learns when it is due', async () => {
  assert.equal(await settleMailbox(storage.pool, 'ep_1'), null)
  assert.deepEqual(await box(), { idle: true, wake_at: null })
  const recorder = createRecorder({ pool: storage.pool, onWake: () => undefined })
  const atMs = Date.now() + 60_000
  await Promise.all([recorder.record(parkedUntil(atMs + 5)), recorder.record(parkedUntil(atMs)), recorder.record(parkedUntil(atMs + 9))])
  assert.equal(await settleMailbox(storage.pool, 'ep_1'), atMs)
  assert.deepEqual(await box(), { idle: false, wake_at: new Date(atMs) })
})

test('what is parked while the mailbox goes to sleep always wakes it', async () => {
  // The mailbox drains and settles in a loop, as its workflow does, until it sleeps; then only a wake starts it again.
  const wakes: MailboxWake[] = []
  let wokenUp: () => void = () => undefined
  const recorders = Array.from({ length: 2 }, () =>
    createRecorder({
      pool: storage.pool,
      onWake(wake) {
        wakes.push(wake)
        wokenUp()
      },
    }),
  )
  let drained = 0
  let slept = 0
  let stopped = false
  const drain = async () => {
    const due = await readDueParked(storage.pool, 'ep_1', Date.now() + 1000, 100)
    const messageIds = due.map((one) => one.messageId)
    await storage.pool.query(`DELETE FROM delivery WHERE endpoint_id = 'ep_1' AND message_id = ANY($1)`, [messageIds])
    drained += due.length
  }
  const mailbox = async () => {
    while (!stopped) {
      if (wakes.splice(0).length === 0) {
        slept++
        await new Promise<void>((resolve) => (wokenUp = resolve))
        continue
      }
      do await drain()
      while ((await settleMailbox(storage.pool, 'ep_1')) !== null)
    }
  }
  const running = mailbox()
  const writes = recorders.map(async (recorder) => {
    for (let i = 0; i < 300; i++) {
      await recorder.record(parkedUntil(Date.now()))
      // Some time for the mailbox to fall asleep, another amount at each turn, so that parking meets every step of it.
      for (let queries = i % 13; queries > 0; queries--) await storage.pool.query('SELECT 1')
    }
  })
  await Promise.all(writes)
  // Every row is in and every wake was told: the mailbox must come to its end by itself.
  while (drained < 600) {
    const { rows } = await storage.pool.query(`SELECT FROM delivery JOIN mailbox USING (endpoint_id) WHERE state = 'parked' AND idle`)
    assert.equal(rows.length, 0, 'a delivery is parked in a mailbox that sleeps')
  }
  assert.ok(slept > 1, 'the mailbox never slept, nothing was raced')
  stopped = true
  wakes.push({ endpointId: 'ep_1', wakeAtMs: 0 })
  wokenUp()
  await running
  assert.equal(drained, 600)
})

test('of many that wait for the same time only the first wakes the mailbox, also after it has looked', async () => {
  const wakes: MailboxWake[] = []
  const recorder = createRecorder({ pool: storage.pool, onWake: (wake) => void wakes.push(wake) })
  const nextAtMs = Date.now() + 60_000
  for (let i = 0; i < 5; i++) await recorder.record(parkedUntil(nextAtMs))
  assert.deepEqual(wakes, [{ endpointId: 'ep_1', wakeAtMs: nextAtMs }])
  assert.equal(await settleMailbox(storage.pool, 'ep_1'), nextAtMs)
  await recorder.record(parkedUntil(nextAtMs))
  assert.equal(wakes.length, 1)
  await recorder.record(parkedUntil(nextAtMs - 1))
  assert.equal(wakes.length, 2)
})

test('settling and parking at once never leaves a parked delivery in a sleeping mailbox without a wake', async () => {
  for (let i = 0; i < 150; i++) {
    const wakes: MailboxWake[] = []
    const recorder = createRecorder({ pool: storage.pool, onWake: (wake) => void wakes.push(wake) })
    const nextAtMs = Date.now() + 60_000
    const [, , settled] = await Promise.all([
      recorder.record(parkedUntil(nextAtMs)),
      recorder.record(parkedUntil(nextAtMs + 1)),
      settleMailbox(storage.pool, 'ep_1'),
    ])
    const { idle, wake_at } = (await box())!
    assert.equal(idle, false)
    assert.equal(wake_at?.getTime(), nextAtMs)
    // Either the drain that settled knows of it, or the mailbox was told after.
    assert.ok(settled === nextAtMs || wakes.some((wake) => wake.wakeAtMs === nextAtMs), `round ${i}`)
    await storage.pool.query(`DELETE FROM delivery`)
    assert.equal(await settleMailbox(storage.pool, 'ep_1'), null)
  }
})

test('a drain reads what is due, the longest waiting first', async () => {
  const recorder = createRecorder({ pool: storage.pool, onWake: () => undefined })
  const nowMs = Date.now()
  const offsets = [-1, -300, 5000, -20, 0]
  await Promise.all(offsets.map((offset) => recorder.record(parkedUntil(nowMs + offset))))
  const due = await readDueParked(storage.pool, 'ep_1', nowMs, 100)
  assert.deepEqual(
    due.map((one) => one.nextAtMs - nowMs),
    [-300, -20, -1, 0],
  )
  assert.equal((await readDueParked(storage.pool, 'ep_1', nowMs, 2)).length, 2)
  assert.equal((await readDueParked(storage.pool, 'ep_2', nowMs, 2)).length, 0)
})

test('a mailbox whose wake was lost is found when its time has passed, a sleeping one never is', async () => {
  const recorder = createRecorder({ pool: storage.pool, onWake: () => undefined })
  const atMs = Date.now() - 60_000
  await recorder.record(parkedUntil(atMs))
  assert.deepEqual(await overdueMailboxes(storage.pool, 5000, 10), [{ endpointId: 'ep_1', wakeAtMs: atMs }])
  assert.deepEqual(await overdueMailboxes(storage.pool, 120_000, 10), [])
  await storage.pool.query('DELETE FROM delivery')
  await settleMailbox(storage.pool, 'ep_1')
  assert.deepEqual(await overdueMailboxes(storage.pool, 5000, 10), [])
})
