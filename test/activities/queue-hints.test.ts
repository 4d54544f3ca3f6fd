import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createQueueHints } from '../../activities/queue-hints.ts'
import { readQueueHint } from '../../storage/queue-wakes.ts'

const LONG_MS = 60_000

async function isOver(waiting: Promise<void>): Promise<boolean> {
  const over = waiting.then(() => true)
  await new Promise((resolve) => setImmediate(resolve))
  return Promise.race([over, Promise.resolve(false)])
}

test('who waits for several is woken when as many were added, to its own queue', async () => {
  const hints = createQueueHints()
  const waiting = hints.wait('ep_1', LONG_MS, new AbortController().signal, 40)
  for (const hint of ['ep_2 100', 'ep_1 30', 'ep_1 9']) hints.tell(readQueueHint(hint))
  assert.equal(await isOver(waiting), false)
  hints.tell(readQueueHint('ep_1 1'))
  assert.equal(await isOver(waiting), true)
})

test('what is added to a queue is counted while it is watched', () => {
  const hints = createQueueHints()
  const watch = hints.watch('ep_1')
  for (const hint of ['ep_1 30', 'ep_2 5', 'ep_1 12']) hints.tell(readQueueHint(hint))
  watch.stop()
  hints.tell(readQueueHint('ep_1 1'))
  assert.equal(watch.added, 42)
})

test('a hint that does not say how many is enough for everybody, and so is the end of the drain', async () => {
  const hints = createQueueHints()
  const told = hints.wait('ep_1', LONG_MS, new AbortController().signal, 40)
  hints.tell(readQueueHint('ep_1'))
  assert.equal(await isOver(told), true)
  const ending = new AbortController()
  const stopped = hints.wait('ep_1', LONG_MS, ending.signal, 40)
  ending.abort()
  assert.equal(await isOver(stopped), true)
})
