import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import { test } from 'node:test'
import { createPublishTurns, type PublishTurnsDependencies } from '../../api/publish-turns.ts'
import type { Crowding } from '../../domain/crowding.ts'
import { LIMITS } from '../../domain/limits.ts'
import { DEFAULT_WEIGHTS } from '../../domain/priority.ts'

const crowdedAlways: Crowding = { published: () => undefined, crowded: () => true }
const never: Crowding = { published: () => undefined, crowded: () => false }

/** Publishes one after the other without waiting. @returns for each, whether it had to wait, and the order in which they went on */
function publishAll(
  crowding: Crowding,
  publications: readonly { appId: string; messages?: number; priority?: 'high' | 'low' }[],
  more: Partial<PublishTurnsDependencies> = {},
) {
  const turns = createPublishTurns({ crowding, weights: DEFAULT_WEIGHTS, ...more })
  const order: number[] = []
  const waits = publications.map(({ messages = 1, ...one }, i) => {
    const turn = turns.turn({ ...one, messages })
    if (turn === undefined) order.push(i)
    return turn?.then(() => void order.push(i))
  })
  return { waited: waits.map((wait) => wait !== undefined), order, done: Promise.all(waits.filter((wait) => wait !== undefined)) }
}

test('who publishes little never waits, who publishes much waits while the process is crowded', async () => {
  const { waited, done } = publishAll(crowdedAlways, [...Array.from({ length: 12 }, () => ({ appId: 'flood' })), { appId: 'modest' }])
  assert.deepEqual(waited, [...Array<boolean>(8).fill(false), ...Array<boolean>(4).fill(true), false])
  await done
})

test('nobody waits while the process is not crowded', () => {
  const { waited } = publishAll(
    never,
    Array.from({ length: 500 }, () => ({ appId: 'flood' })),
  )
  assert.ok(waited.every((one) => !one))
})

test('a turn lets through one commit of messages, and two that publish much have equal parts of it', async () => {
  const batches = ['a', 'b'].flatMap((appId) => Array.from({ length: LIMITS.messagesPerCommit / 20 }, () => ({ appId, messages: 20 })))
  const { order, done } = publishAll(crowdedAlways, batches)
  assert.equal(order.length, 0)
  await done
  const first = order.slice(0, LIMITS.messagesPerCommit / 20)
  assert.equal(first.filter((i) => batches[i]!.appId === 'a').length, first.length / 2)
})

test('those who wait take turns by their priority, and the lowest has turns too', async () => {
  const publications = (['low', 'high'] as const).flatMap((priority) =>
    Array.from({ length: 400 }, () => ({ appId: 'app', priority, messages: 1 })),
  )
  const { waited, order, done } = publishAll(crowdedAlways, publications)
  await done
  const first = order.filter((i) => waited[i]).slice(0, 90)
  const low = first.filter((i) => publications[i]!.priority === 'low').length
  assert.ok(low >= 8 && low <= 12, `low had ${low} of the first 90`)
})

test('who publishes much waits while there is more in hand than is soon made', async () => {
  let room = 0
  const inHand = { room: () => room, expect: (messages: number) => void (room -= messages) }
  const flood = Array.from({ length: 20 }, () => ({ appId: 'flood' }))
  const busy = publishAll(never, [...flood, { appId: 'modest' }], { inHand })
  assert.deepEqual(busy.waited, [...Array<boolean>(8).fill(false), ...Array<boolean>(12).fill(true), false])
  await pause(30)
  assert.equal(busy.order.length, 9)
  room = 3
  await pause(30)
  assert.equal(busy.order.length, 12)
  await busy.done
})

test('nobody waits for longer than the limit, whatever there is in hand', async () => {
  const flood = Array.from({ length: 20 }, () => ({ appId: 'flood' }))
  const { waited, order, done } = publishAll(never, flood, { inHand: { room: () => 0, expect: () => undefined } })
  assert.equal(waited.filter(Boolean).length, 12)
  await done
  assert.equal(order.length, 20)
})
