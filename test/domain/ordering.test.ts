import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { headsOf, type Queued } from '../../domain/ordering.ts'

const NOW_MS = 1_000_000

const queue = fc
  .array(fc.record({ orderingKey: fc.option(fc.constantFrom('a', 'b', 'c')), attempts: fc.nat(3), late: fc.boolean() }), { maxLength: 30 })
  .map((rows) =>
    rows.map(({ orderingKey, attempts, late }, i): Queued => {
      return { messageId: `msg_${i}`, orderingKey, attempts, nextAtMs: NOW_MS + (late ? 1 : -1) }
    }),
  )
const isDue = (one: Queued) => one.attempts === 0 || one.nextAtMs <= NOW_MS

test('fifo sends the first alone, and nothing while something is in flight or the first waits', () => {
  fc.assert(
    fc.property(queue, fc.boolean(), (rows, flies) => {
      const inFlight = flies ? [{ messageId: 'msg_x', orderingKey: null, attempts: 0, nextAtMs: 0 }] : []
      const heads = headsOf({ queue: rows, ordering: 'fifo', inFlight, room: 10, nowMs: NOW_MS })
      const [first] = rows
      assert.deepEqual(heads, first !== undefined && !flies && isDue(first) ? [first] : [])
    }),
  )
})

test('fifo-by-key sends of each key the first, what is due, and no more than there is room for', () => {
  fc.assert(
    fc.property(queue, fc.nat(5), fc.integer({ min: 1, max: 10 }), (rows, flying, room) => {
      const inFlight = rows.slice(0, flying)
      const heads = headsOf({ queue: rows, ordering: 'fifo-by-key', inFlight, room, nowMs: NOW_MS })
      assert.ok(heads.length === 0 || heads.length + inFlight.length <= room)
      assert.ok(heads.every(isDue))
      for (const head of heads) {
        assert.ok(!inFlight.includes(head))
        if (head.orderingKey === null) continue
        assert.equal(
          rows.find((one) => one.orderingKey === head.orderingKey),
          head,
          'something of its key is before it',
        )
      }
      const room2 = headsOf({ queue: rows, ordering: 'fifo-by-key', inFlight, room: 1000, nowMs: NOW_MS })
      const free = rows.filter((one) => !inFlight.includes(one) && isDue(one) && one.orderingKey === null)
      assert.ok(
        free.every((one) => room2.includes(one)),
        'what has no key waits for nothing',
      )
    }),
  )
})
