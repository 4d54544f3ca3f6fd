import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { hasQueue, headsOf, isSameWay, ORDERINGS, type Queued } from '../../domain/ordering.ts'

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

/** What happens in a drain: a request is answered (which of those in flight, and whether well), or time passes. */
const events = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('answer' as const), which: fc.nat(9), delivered: fc.boolean() }),
    fc.record({ kind: fc.constant('time' as const), ms: fc.nat(3000) }),
  ),
  { maxLength: 60 },
)

const RETRY_MS = 1000

test('whatever is answered in whatever order, each key is delivered in the order of the queue, and in the end all of it is', () => {
  fc.assert(
    fc.property(queue, fc.constantFrom('fifo' as const, 'fifo-by-key' as const), events, (rows, ordering, happens) => {
      let left = rows
      let inFlight: Queued[] = []
      let nowMs = NOW_MS
      const delivered: Queued[] = []
      const send = () => {
        inFlight = [...inFlight, ...headsOf({ queue: left, ordering, inFlight, room: 3, nowMs })]
        assert.equal(new Set(inFlight.map((one) => one.messageId)).size, inFlight.length, 'sent twice at a time')
        const keys = inFlight.flatMap((one) => one.orderingKey ?? [])
        assert.ok(inFlight.length <= (ordering === 'fifo' ? 1 : 3) && new Set(keys).size === keys.length)
      }
      const answer = (which: number, well: boolean) => {
        const one = inFlight[which % inFlight.length]
        if (one === undefined) return
        inFlight = inFlight.filter((other) => other !== one)
        if (well) delivered.push(one)
        const failed = { ...one, attempts: one.attempts + 1, nextAtMs: nowMs + RETRY_MS }
        left = left.flatMap((other) => (other.messageId !== one.messageId ? [other] : well ? [] : [failed]))
      }
      for (const event of happens) {
        send()
        if (event.kind === 'answer') answer(event.which, event.delivered)
        else nowMs += event.ms
      }
      for (let turn = 0; turn < rows.length; turn++) {
        nowMs += RETRY_MS
        send()
        while (inFlight.length > 0) answer(0, true)
      }
      assert.deepEqual(left, [])
      const placeOf = (one: Queued) => rows.findIndex((row) => row.messageId === one.messageId)
      for (const key of ordering === 'fifo' ? ['everything'] : ['a', 'b', 'c']) {
        const places = delivered.filter((one) => key === 'everything' || one.orderingKey === key).map(placeOf)
        assert.deepEqual(
          places,
          places.toSorted((a, b) => a - b),
          key,
        )
      }
      assert.equal(delivered.length, rows.length)
    }),
  )
})

test('what has a queue is not sent as what has none, and how large batches are is not another way', () => {
  const batching = fc.option(fc.record({ maxEvents: fc.integer({ min: 1, max: 100 }), lingerMs: fc.nat(), maxBytes: fc.nat() }))
  const way = fc.record({ ordering: fc.constantFrom(...ORDERINGS), batching })
  fc.assert(
    fc.property(way, way, (one, other) => {
      if (isSameWay(one, other)) assert.equal(hasQueue(one), hasQueue(other))
      assert.ok(isSameWay(one, { ...one, batching: one.batching === null ? null : { maxEvents: 1, lingerMs: 0, maxBytes: 1 } }))
      assert.equal(isSameWay(one, other), isSameWay(other, one))
    }),
  )
})
