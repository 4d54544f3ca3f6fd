import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { newId } from '../../domain/ids.ts'
import {
  attachTaskQueue,
  deliverTaskQueue,
  fanOutWorkflowId,
  mailboxWorkflowId,
  partitionOf,
  replayWorkflowId,
} from '../../domain/names.ts'

test('a partition is a whole number in range and the same at every call', () => {
  fc.assert(
    fc.property(fc.string(), fc.integer({ min: 1, max: 256 }), (id, partitions) => {
      const partition = partitionOf(id, partitions)
      assert.ok(Number.isInteger(partition) && partition >= 0 && partition < partitions)
      assert.equal(partitionOf(id, partitions), partition)
    }),
  )
})

// Running workflows hold partitions of their endpoints: another hash would send them to other workers.
test('partitions of known endpoints have not moved', () => {
  const known = ['ep_2QdzJzGUe7y5bB8vXwYV3H1WmJa', 'ep_2QdzJzGUe7y5bB8vXwYV3H1WmJb', 'ep_30000000000000000000000000000', 'a', '']
  assert.deepEqual(
    known.map((id) => [partitionOf(id, 4), partitionOf(id, 256)]),
    [
      [3, 211],
      [2, 102],
      [2, 106],
      [0, 44],
      [1, 197],
    ],
  )
})

test('endpoints spread evenly over partitions', () => {
  for (const partitions of [2, 4, 7, 16]) {
    const counts = new Array<number>(partitions).fill(0)
    for (let i = 0; i < 8000; i++) counts[partitionOf(newId('ep', Date.now() + i), partitions)]!++
    const expected = 8000 / partitions
    for (const count of counts) assert.ok(Math.abs(count - expected) < expected * 0.25, `${partitions} partitions: ${counts.join(' ')}`)
  }
})

test('names that Temporal keeps have not changed', () => {
  assert.equal(deliverTaskQueue('retry', 3), 'deliver-retry-3')
  assert.equal(attachTaskQueue('0a1b'), 'attach-0a1b')
  assert.equal(fanOutWorkflowId('msg_1'), 'fan-out/msg_1')
  assert.equal(fanOutWorkflowId('msg_1', 2), 'fan-out/msg_1/2')
  assert.equal(mailboxWorkflowId('ep_1'), 'mailbox/ep_1')
  assert.equal(replayWorkflowId('qtask_1'), 'replay/qtask_1')
})
