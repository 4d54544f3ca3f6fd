import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pino } from 'pino'
import { createRegionsAway } from '../../activities/regions-away.ts'

const WEST = 'west'

function create() {
  const back: string[] = []
  return { back, away: createRegionsAway(pino({ level: 'silent' }), (region) => void back.push(region)) }
}

test('a region that did not answer rests, and is back with its first answer', () => {
  const { away, back } = create()
  assert.equal(away.rests(WEST), false)
  away.didNotAnswer(WEST, 'refused', false)
  assert.equal(away.rests(WEST), true)
  away.answered(WEST)
  assert.deepEqual([away.rests(WEST), back], [false, [WEST]])
})

test('a region that is late and has answered others of late does not rest; one that refuses does all the same', () => {
  const { away } = create()
  away.answered(WEST)
  away.didNotAnswer(WEST, 'late', true)
  assert.equal(away.rests(WEST), false)
  away.didNotAnswer(WEST, 'refused', false)
  assert.equal(away.rests(WEST), true)
})

test('a region that is late and has answered nobody rests', () => {
  const { away } = create()
  away.didNotAnswer(WEST, 'late', true)
  assert.equal(away.rests(WEST), true)
})
