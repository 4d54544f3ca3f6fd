import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import { test } from 'node:test'
import { createGroupCommit, createLine } from '../../storage/group-commit.ts'

interface Item {
  readonly n: number
}

/** A group commit whose writes take 1 ms, and what was written together. */
function recording(gapMs?: () => number, max = 100, enough?: number) {
  const groups: number[][] = []
  const commits = createGroupCommit<Item, number>({
    max,
    gapMs,
    enough,
    queue: createLine(),
    onPassingFault: 'reject',
    async write(items) {
      groups.push(items.map(({ n }) => n))
      await pause(1)
      return items.map(({ n }) => n * 2)
    },
  })
  return { groups, commits }
}

test('what comes in one turn of the loop is one write, and what comes while it is written the next', async () => {
  const { groups, commits } = recording()
  const first = [commits.add({ n: 1 }), commits.add({ n: 2 })]
  await new Promise(setImmediate)
  const second = [commits.add({ n: 3 }), commits.add({ n: 4 })]
  assert.deepEqual(await Promise.all([...first, ...second]), [2, 4, 6, 8])
  assert.deepEqual(groups, [
    [1, 2],
    [3, 4],
  ])
})

test('with a gap the next write waits for more, also where nothing was waiting; a full one does not', async () => {
  const { groups, commits } = recording(() => 300, 3)
  await commits.add({ n: 1 })
  const waiting = commits.add({ n: 2 })
  await pause(20)
  assert.deepEqual(groups, [[1]])
  assert.equal(await waiting, 4)

  const full = recording(() => 60_000, 3)
  await Promise.all([1, 2, 3].map((n) => full.commits.add({ n })))
  await Promise.all([4, 5, 6].map((n) => full.commits.add({ n })))
  assert.deepEqual(full.groups, [
    [1, 2, 3],
    [4, 5, 6],
  ])
})

test('enough items end the gap, and those that come in the same turn go along', async () => {
  const { groups, commits } = recording(() => 60_000, 10, 2)
  await commits.add({ n: 1 })
  const first = commits.add({ n: 2 })
  await pause(20)
  assert.deepEqual(groups, [[1]])
  await Promise.all([first, ...[3, 4].map((n) => commits.add({ n }))])
  assert.deepEqual(groups, [[1], [2, 3, 4]])
})

test('the gap that counts is the one as of then', async () => {
  let gapMs = 30
  const { groups, commits } = recording(() => gapMs)
  await commits.add({ n: 1 })
  await Promise.all([2, 3].map((n) => commits.add({ n })))
  gapMs = 0
  await commits.add({ n: 4 })
  assert.deepEqual(groups, [[1], [2, 3], [4]])
})
