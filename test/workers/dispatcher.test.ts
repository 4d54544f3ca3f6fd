import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pino from 'pino'
import { LIMITS } from '../../domain/limits.ts'
import { createPrefetch } from '../../domain/prefetch.ts'
import { DEFAULT_WEIGHTS } from '../../domain/priority.ts'
import { acceptMessages } from '../../storage/accept.ts'
import type { NewMessage } from '../../domain/message.ts'
import { createDispatcher } from '../../workers/dispatcher.ts'
import { createStorage, newMessage, newMessages, type Storage } from '../storage/rows.ts'

let storage: Storage
before(async () => {
  storage = await createStorage()
})
after(() => storage.drop())

/** A dispatcher whose starts end when told, and all that it did in its order. */
function stage() {
  const did: string[] = []
  const ends: (() => void)[] = []
  const dispatcher = createDispatcher({
    pool: storage.pool,
    groupMaxMessages: 100,
    weights: DEFAULT_WEIGHTS,
    log: pino({ level: 'silent' }),
    endpointsOf: () => Promise.resolve([]),
    refused: () => Promise.resolve([]),
    pace: {
      started: () => void did.push('started'),
      hurry: () => void did.push('hurry'),
      due: () => Promise.resolve(void did.push('due')),
    },
    prefetch: createPrefetch(),
    startFanOut: (_, rows) => {
      did.push(`start of ${rows.length}`)
      return new Promise((resolve) => ends.push(() => resolve('started')))
    },
  })
  const started = async (starts: number) => {
    while (ends.length < starts) await new Promise(setImmediate)
  }
  const end = () => ends.splice(0).forEach((one) => one())
  return { dispatcher, did, started, end }
}

async function accepted(messages: NewMessage[], grouped: boolean) {
  const { groupId } = await acceptMessages(storage.pool, messages, grouped, 60_000)
  return { messages, groupId: groupId! }
}

test('a message that hurries when nothing is under way is asked for when it is due, before its start begins', async () => {
  const { dispatcher, did, started, end } = stage()
  dispatcher.offer((await accepted([newMessage()], false)).messages)
  await started(1)
  assert.deepEqual(did, ['hurry', 'due', 'started', 'start of 1'])
  end()
  await dispatcher.stop()
})

test('a group that was fixed while another start was under way is started after it, and what waits after that', async () => {
  const { dispatcher, did, started, end } = stage()
  const [fixed, first, second] = await Promise.all([
    accepted(newMessages(3), true),
    accepted(newMessages(2), false),
    accepted(newMessages(4), false),
  ])
  assert.equal(dispatcher.idle, true)
  dispatcher.offer(first.messages)
  assert.equal(dispatcher.idle, false)
  await started(1)
  dispatcher.startGroup(fixed.groupId, fixed.messages)
  dispatcher.offer(second.messages)
  end()
  await started(1)
  end()
  await started(1)
  assert.deepEqual(
    did.filter((one) => one.startsWith('start of')),
    ['start of 2', 'start of 3', 'start of 4'],
  )
  end()
  await dispatcher.stop()
})

test('a message of who publishes little is started though a flood has filled what is held in memory', async () => {
  const { dispatcher, did, started, end } = stage()
  dispatcher.offer((await accepted([newMessage()], false)).messages)
  await started(1)
  const [modest] = (await accepted([newMessage({ appId: 'app_modest' })], false)).messages
  dispatcher.offer(newMessages(LIMITS.startsWaitingMax + 100, { appId: 'app_flood' }))
  dispatcher.offer([modest!])
  end()
  await started(1)
  assert.equal(did.at(-1), 'start of 1')
  end()
  await dispatcher.stop()
})

test('a dispatcher that is told of nothing stays idle', async () => {
  const { dispatcher } = stage()
  dispatcher.offer([])
  assert.equal(dispatcher.idle, true)
  await dispatcher.stop()
})
