import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LINGER_MAX_MS, LINGER_MS, lingerMs, writeGapMs } from '../../domain/linger.ts'
import { createPublishRates } from '../../domain/publish-rates.ts'

test('an application publishes little up to eight messages in 200 ms, and again when it has calmed down', () => {
  const rates = createPublishRates()
  assert.deepEqual(
    Array.from({ length: 9 }, () => rates.count('a', 1000)),
    [...Array<boolean>(8).fill(true), false],
  )
  assert.equal(rates.count('b', 1000), true)
  assert.equal(rates.count('a', 1250), false, 'the window before counts too')
  assert.equal(rates.count('a', 1480), true)
  assert.equal(rates.count('a', 5000), true)
  assert.equal(rates.count('a', 10), true, 'the clock was set back')
})

test('a batch counts as its messages', () => {
  const rates = createPublishRates()
  assert.equal(rates.count('a', 1000, 8), true)
  assert.equal(rates.count('a', 1000), false)
  assert.equal(rates.count('b', 1000, 100), false)
})

test('starts linger as long as the process is busy', () => {
  assert.equal(lingerMs(0, LINGER_MS), LINGER_MS)
  assert.equal(lingerMs(0.5, LINGER_MS), LINGER_MS)
  assert.equal(lingerMs(1, LINGER_MS), LINGER_MAX_MS)
  assert.equal(lingerMs(1, 2 * LINGER_MAX_MS), 2 * LINGER_MAX_MS)
  let last = 0
  for (let utilisation = 0; utilisation <= 1; utilisation += 0.05) {
    assert.ok(lingerMs(utilisation, LINGER_MS) >= last)
    last = lingerMs(utilisation, LINGER_MS)
  }
})

test('writes follow each other at once unless the process is busy', () => {
  assert.equal(writeGapMs(0, 40), 0)
  assert.equal(writeGapMs(0.5, 40), 0)
  assert.equal(writeGapMs(1, 40), 40)
  assert.ok(writeGapMs(0.75, 40) > 0 && writeGapMs(0.75, 40) < 40)
})
