import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { batchBody, cutBatch, failedOf } from '../../domain/batch.ts'

const FRAME_MAX_BYTES = 512
const rows = fc.array(fc.record({ attempts: fc.nat(2), nextAtMs: fc.constant(0), bytes: fc.nat(3000) }), { maxLength: 120 })
const limits = fc.record({
  maxEvents: fc.integer({ min: 1, max: 100 }),
  lingerMs: fc.constant(0),
  maxBytes: fc.integer({ min: 1024, max: 20_000 }),
})

test('a batch is the longest front of the queue that its limits allow, and never empty', () => {
  fc.assert(
    fc.property(rows, limits, (queue, batching) => {
      const { count, full } = cutBatch(queue, batching)
      assert.equal(count === 0, queue.length === 0)
      assert.ok(count <= batching.maxEvents)
      const cut = queue.slice(0, count)
      assert.ok(cut.every((one) => one.attempts === queue[0]!.attempts))
      const bytes = cut.reduce((sum, one) => sum + one.bytes, 0)
      assert.ok(count <= 1 || bytes <= batching.maxBytes)
      if (!full) assert.equal(count, queue.length)
      const next = queue[count]
      if (next === undefined) return
      // Another would be too many, too large with what each takes besides its payload, or of other attempts.
      const framed = bytes + next.bytes + (count + 1) * FRAME_MAX_BYTES
      assert.ok(count === batching.maxEvents || next.attempts !== queue[0]!.attempts || framed > batching.maxBytes)
    }),
  )
})

test('all of a queue goes in batches, in its order', () => {
  fc.assert(
    fc.property(rows, limits, (queue, batching) => {
      const batches: (typeof queue)[] = []
      for (let at = 0; at < queue.length; at += batches.at(-1)!.length) {
        const { count } = cutBatch(queue.slice(at), batching)
        assert.ok(count > 0)
        batches.push(queue.slice(at, at + count))
      }
      assert.deepEqual(batches.flat(), queue)
    }),
  )
})

test('the body is an array of events, each with its payload as it was published', () => {
  const message = (id: string) => ({ id, appId: 'app_1', eventType: 'invoice.paid', createdAtMs: 0 })
  const events = [
    { message: message('msg_1'), payload: '{"amount":1.0}' },
    { message: message('msg_2'), payload: 'not JSON' },
  ]
  const base64 = { message: { ...events[0]!.message, envelope: { base64: true } }, payload: '1234' } as const
  const [inBatch] = JSON.parse(batchBody([base64], null).body) as object[]
  assert.ok(inBatch !== undefined && 'data_base64' in inBatch && !('data' in inBatch))
  assert.equal(inBatch.data_base64, '1234')
  const plain = batchBody(events, null)
  assert.equal(
    plain.body,
    '[{"id":"msg_1","type":"invoice.paid","timestamp":"1970-01-01T00:00:00.000Z","data":{"amount":1.0}},' +
      '{"id":"msg_2","type":"invoice.paid","timestamp":"1970-01-01T00:00:00.000Z","data":"not JSON"}]',
  )
  const cloud = batchBody(events.slice(0, 1), 'cloudevents-structured')
  assert.match(cloud.contentType, /^application\/cloudevents-batch\+json/)
  assert.equal((JSON.parse(cloud.body) as { specversion: string }[])[0]!.specversion, '1.0')
})

test('only a 207 that names positions says that some have failed', () => {
  assert.deepEqual(failedOf(200, '{"failed":[0]}', 3), new Set())
  assert.deepEqual(failedOf(207, '{"failed":[0,2]}', 3), new Set([0, 2]))
  assert.deepEqual(failedOf(207, '{"failed":[]}', 3), new Set())
  for (const body of ['', '[]', '{}', 'null', '{"failed":[3]}', '{"failed":[-1]}', '{"failed":["0"]}', '{"failed":1}']) {
    assert.equal(failedOf(207, body, 3), 'all', body)
  }
})
