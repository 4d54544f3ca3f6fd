import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import type { Rate } from '../../domain/token-bucket.ts'
import { createTokenBuckets } from '../../storage/token-buckets.ts'
import { createStorage, type Storage } from './rows.ts'

let storage: Storage

before(async () => {
  storage = await createStorage()
})
afterEach(() => storage.pool.query('TRUNCATE token_bucket, mailbox'))
after(() => storage.drop())

// A rate so low that nothing comes back during a test.
const still = (key: string, burst: number): Rate => ({ key, perSecond: 0.001, burst })

test('several processes that take at once never get more than the bucket holds', async () => {
  const processes = Array.from({ length: 4 }, () => createTokenBuckets(storage.pool))
  const takes = processes.flatMap((buckets) => Array.from({ length: 50 }, () => buckets.take([still('endpoint', 60)])))
  const waits = await Promise.all(takes)
  assert.equal(waits.filter((wait) => wait === undefined).length, 60)
  assert.ok(waits.every((wait) => wait === undefined || wait > 0))
})

test('who needs tokens of two buckets gets both or none, and what one gave in vain is not lost', async () => {
  const buckets = createTokenBuckets(storage.pool)
  const both = [still('endpoint', 10), still('application', 3)]
  const waits = await Promise.all(Array.from({ length: 8 }, () => buckets.take(both)))
  assert.equal(waits.filter((wait) => wait === undefined).length, 3)
  const rest = await Promise.all(Array.from({ length: 10 }, () => buckets.take([still('endpoint', 10)])))
  assert.equal(rest.filter((wait) => wait === undefined).length, 7)
})

test('tokens come back at the rate, and no more than the burst', async () => {
  const buckets = createTokenBuckets(storage.pool)
  const rate = { key: 'endpoint', perSecond: 50, burst: 5 }
  await Promise.all(Array.from({ length: 5 }, () => buckets.take([rate])))
  assert.ok((await buckets.take([rate]))! <= 20)
  await storage.pool.query(`UPDATE token_bucket SET at = at - interval '1 hour'`)
  const later = await Promise.all(Array.from({ length: 20 }, () => buckets.take([rate])))
  assert.ok(later.filter((wait) => wait === undefined).length >= 5 && later.filter((wait) => wait === undefined).length <= 7)
})

test('those who are refused are told to come one after the other', async () => {
  const buckets = createTokenBuckets(storage.pool)
  const rate = { key: 'endpoint', perSecond: 10, burst: 1 }
  const waits = await Promise.all(Array.from({ length: 5 }, () => buckets.take([rate])))
  assert.deepEqual(waits, [undefined, 100, 200, 300, 400])
})

test('while deliveries of an endpoint are due nobody overtakes them, but its mailbox', async () => {
  const buckets = createTokenBuckets(storage.pool)
  await storage.pool.query(`INSERT INTO mailbox (endpoint_id, idle, wake_at) VALUES ('ep_1', false, now() - interval '1 s')`)
  const rate = still('endpoint', 5)
  assert.deepEqual(await Promise.all([buckets.take([rate], 'ep_1'), buckets.take([rate], 'ep_2'), buckets.take([rate])]), [
    0,
    undefined,
    undefined,
  ])
  await storage.pool.query(`UPDATE mailbox SET wake_at = now() + interval '1 h'`)
  assert.equal(await buckets.take([rate], 'ep_1'), undefined)
})
