import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import type { NewMessage } from '../../domain/message.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { notifyOutbox } from '../../storage/outbox.ts'
import { account, untilSettled } from './ledger.ts'
import { eventIdOf } from './publishers.ts'
import { setStage, untilFanOutsEnded, type Stage } from './stage.ts'
import { createTargets, type Targets } from './targets.ts'

const GROUPS = 40
const MESSAGES_PER_GROUP = 5
const WITHIN_MS = 60_000

let stage: Stage
let targets: Targets

before(async () => {
  stage = await setStage()
  await Promise.all([stage.startApi(), stage.startWorker('dispatcher'), stage.startWorker('dispatcher'), stage.startWorker('delivery')])
})

after(async () => {
  await targets.close()
  await stage.close()
})

/** Stores messages as an intake does whose process is killed right after the commit. */
async function store(from: number, count: number, grouped: boolean, leaseMs: number): Promise<void> {
  const nowMs = Date.now()
  const messages = Array.from({ length: count }, (_, i): NewMessage => {
    const id = newId('msg', nowMs)
    const base = { id, appId: targets.appId, eventType: 'chaos.tested', eventId: eventIdOf(from + i), channels: null }
    return { ...base, payload: '{}', createdAtMs: nowMs, expiresAtMs: nowMs + 86_400_000 }
  })
  await acceptMessages(stage.pool, messages, grouped, leaseMs)
}

test('groups that a dead dispatcher has recorded are started once, whatever number of dispatchers sweeps', async (t) => {
  targets = await createTargets(stage)
  const events = 2 * GROUPS * MESSAGES_PER_GROUP
  for (let i = 0; i < GROUPS; i++) {
    // Recorded with a lease that has run out, and waiting ungrouped: both dispatchers are woken for each.
    await store(2 * i * MESSAGES_PER_GROUP, MESSAGES_PER_GROUP, true, -1)
    await store((2 * i + 1) * MESSAGES_PER_GROUP, MESSAGES_PER_GROUP, false, 0)
    await notifyOutbox(stage.pool)
  }
  await untilSettled(stage.pool, targets, { events, withinMs: WITHIN_MS })
  await untilFanOutsEnded(stage, WITHIN_MS)
  const taken = await account(stage.pool, targets, events)
  assert.deepEqual([...taken.duplicates], [])
  assert.equal(taken.unrecorded, 0)
  assert.doesNotMatch(stage.logs(), /sweep\.failed/)
  t.diagnostic(`${taken.delivered} delivered once, ${taken.waiting} still scheduled`)
})
