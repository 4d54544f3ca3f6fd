import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readFigures } from '../../domain/figures.ts'

const RULES = { share: { min: 0, max: 1 }, count: { min: 1, max: 10, whole: true } }

test('numbers within their rules are read, with nothing added', () => {
  assert.deepEqual(readFigures(RULES, { share: 0, count: 10 }), { values: { share: 0, count: 10 } })
  assert.deepEqual(readFigures(RULES, { share: 1, count: 1, about: 'x' }, ['about']), { values: { share: 1, count: 1 } })
})

test('everything that is wrong is told at once, each by its name', () => {
  const cases: readonly [given: unknown, problems: readonly string[]][] = [
    [{}, ['share is missing', 'count is missing']],
    [{ share: 1.1, count: 0 }, ['share must be from 0 to 1, not 1.1', 'count must be from 1 to 10, not 0']],
    [{ share: '0.5', count: 2.5 }, ['share must be a number, not "0.5"', 'count must be a whole number, not 2.5']],
    [{ share: null, count: NaN }, ['share must be a number, not null', 'count must be a number, not null']],
    [{ share: Infinity, count: 1 }, ['share must be from 0 to 1, not Infinity']],
    [{ share: 1, count: 1, shares: 1 }, ['shares is not known; known are share, count']],
    [[1], [' must be an object of names and numbers']],
    [null, [' must be an object of names and numbers']],
    ['text', [' must be an object of names and numbers']],
  ]
  for (const [given, expected] of cases) {
    const read = readFigures(RULES, given)
    assert.ok('problems' in read, JSON.stringify(given))
    assert.deepEqual(
      read.problems.map(({ name, text }) => `${name} ${text}`),
      expected,
    )
  }
})
