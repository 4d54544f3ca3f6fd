import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import { isOver, problemOf, shardOf, shardOfMessage, shardsOf, type Shard } from '../../domain/shards.ts'

const DAY_MS = 86_400_000
const day = (text: string) => Date.parse(text)
const shard = (number: number, fromMs = -Infinity, untilMs = Infinity): Shard => ({ number, fromMs, untilMs })
const apps = Array.from({ length: 3000 }, () => newId('app'))
const before = day('2026-12-04T23:59:59.999Z')
const from = day('2026-12-05')

test('applications spread over shards, each about as many', () => {
  const all = [shard(0), shard(1), shard(2)]
  const counts = all.map(({ number }) => apps.filter((app) => shardOf(all, app, before).number === number).length)
  for (const count of counts) assert.ok(count > 900 && count < 1100, counts.join())
})

test('a shard that is added gets its share of the applications from its first day on; nothing else moves', () => {
  const old = [shard(0), shard(1), shard(2)]
  const all = [...old, shard(3, from)]
  for (const app of apps) assert.equal(shardOf(all, app, before).number, shardOf(old, app, before).number)
  const moved = apps.filter((app) => shardOf(all, app, from).number !== shardOf(old, app, from).number)
  assert.ok(moved.length > 650 && moved.length < 850, `${moved.length}`)
  for (const app of moved) assert.equal(shardOf(all, app, from).number, 3)
})

test('a shard that ends leaves its applications to the others, and takes part until the last of its messages is over', () => {
  const all = [shard(0), shard(1), shard(2, -Infinity, from)]
  for (const app of apps) {
    const [then, now] = [shardOf(all, app, before).number, shardOf(all, app, from).number]
    assert.notEqual(now, 2)
    if (then !== 2) assert.equal(now, then)
  }
  const one = apps.find((app) => shardOf(all, app, before).number === 2)!
  assert.deepEqual(
    shardsOf(all, one, from + 80 * DAY_MS).map(({ number }) => number),
    [shardOf(all, one, from).number, 2],
  )
  assert.equal(shardsOf(all, one, from + 91 * DAY_MS).length, 1)
  assert.equal(isOver(all[2]!, from + 91 * DAY_MS - 1), false)
})

test('a message is found by its id, on whichever side of midnight it was accepted', () => {
  const all = [shard(0), shard(1, from)]
  const app = apps.find((one) => shardOf(all, one, from).number === 1)!
  assert.equal(shardOfMessage(all, app, newId('msg', before))?.number, 0)
  assert.equal(shardOfMessage(all, app, newId('msg', from))?.number, 1)
  assert.equal(shardOfMessage(all, app, 'an-event-id'), undefined)
})

test('the shards of an application: that of now, then those before it', () => {
  const all = [shard(0), shard(1, from), shard(2, from + DAY_MS)]
  const numbers = (app: string, nowMs: number) => shardsOf(all, app, nowMs).map(({ number }) => number)
  const thrice = apps.find((app) => shardOf(all, app, from).number === 1 && shardOf(all, app, from + DAY_MS).number === 2)!
  assert.deepEqual(numbers(thrice, before), [0])
  assert.deepEqual(numbers(thrice, from), [1, 0])
  assert.deepEqual(numbers(thrice, from + DAY_MS), [2, 1, 0])
})

test('a list is refused in which on some day nobody takes messages', () => {
  assert.equal(problemOf([shard(0), shard(1, from)]), undefined)
  assert.equal(problemOf([shard(0, -Infinity, from), shard(1, from)]), undefined)
  assert.match(problemOf([shard(0, from)])!, /no beginning/)
  assert.match(problemOf([shard(0, -Infinity, from), shard(1, from + DAY_MS)])!, /on some day/)
  assert.match(problemOf([shard(0), shard(1, from, from)])!, /shard 1 ends before it begins/)
})
