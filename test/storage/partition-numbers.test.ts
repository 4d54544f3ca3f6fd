import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import fc from 'fast-check'
import { partitionOf } from '../../domain/names.ts'
import { partitionsOf } from '../../domain/partitions.ts'
import { readPartitionNumbers, usePartitions } from '../../storage/partition-numbers.ts'
import { createStorage, type Storage } from './rows.ts'

let storage: Storage

before(async () => {
  storage = await createStorage(4)
})

afterEach(() => storage.pool.query('TRUNCATE partition_number'))
after(() => storage.drop())

test('whoever serves all partitions serves that of every endpoint under every number', () => {
  fc.assert(
    fc.property(fc.string(), fc.array(fc.integer({ min: 1, max: 256 }), { minLength: 1 }), (endpointId, numbers) => {
      const served = partitionsOf(numbers)
      for (const number of numbers) assert.ok(served.includes(partitionOf(endpointId, number)))
    }),
  )
})

test('a number of partitions is kept for a week after its last use, then it is forgotten', async () => {
  for (const number of [4, 8, 2]) await usePartitions(storage.pool, number)
  assert.deepEqual(await readPartitionNumbers(storage.pool), [2, 4, 8])
  await storage.pool.query(`UPDATE partition_number SET used_at = now() - interval '8 days' WHERE partitions <> 2`)
  assert.deepEqual(await readPartitionNumbers(storage.pool), [2])
  await usePartitions(storage.pool, 8)
  assert.deepEqual(await readPartitionNumbers(storage.pool), [2, 8])
  const { rows } = await storage.pool.query('SELECT partitions FROM partition_number ORDER BY partitions')
  assert.equal(rows.length, 2)
})
