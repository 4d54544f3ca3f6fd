import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCrowding } from '../../domain/crowding.ts'
import { createInHand } from '../../domain/in-hand.ts'
import { createStartPace } from '../../workers/start-pace.ts'

const LEAST_MS = 200
// Timers and the monotonic clock differ by parts of a millisecond.
const ROUNDING_MS = 2

const pace = () =>
  createStartPace(
    createCrowding(() => 0),
    createInHand(),
    LEAST_MS,
  )

test('a start that comes alone is due at once, and the next one after the least time', async () => {
  const paced = pace()
  await paced.due(() => 1)
  paced.started()
  const since = performance.now()
  await paced.due(() => 1)
  assert.ok(performance.now() - since >= LEAST_MS - ROUNDING_MS)
})

test('a hurry does not shorten the least time between two that hurry', async () => {
  const paced = pace()
  paced.hurry()
  await paced.due(() => 1)
  paced.started()
  const since = performance.now()
  paced.hurry()
  await paced.due(() => 1)
  assert.ok(performance.now() - since >= LEAST_MS - ROUNDING_MS)
})
