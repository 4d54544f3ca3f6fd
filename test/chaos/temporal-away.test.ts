import assert from 'node:assert/strict'
import { after, afterEach, before, test, type TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { eventually } from './eventually.ts'
import { account, untilSettled } from './ledger.ts'
import { publish } from './publishers.ts'
import { setStage, untilFanOutsEnded, type Stage } from './stage.ts'
import { createTargets } from './targets.ts'

const AWAY_MS = 8000
const EVENTS = 1000
const PUBLISHERS = 4
const EVENTS_PER_SECOND = 80
const SETTLED_WITHIN_MS = 90_000
const SLOWEST_ANSWER_MS = 3000

let stage: Stage

before(async () => {
  stage = await setStage()
})

afterEach(() => stage.endAll())

after(() => stage.close())

/** Publishes from before Temporal goes until after it is back. */
async function publishWhileAway(t: TestContext, away: () => Promise<void>): Promise<void> {
  const startedAt = performance.now()
  const seconds = () => `${((performance.now() - startedAt) / 1000).toFixed(1)} s`
  const targets = await createTargets(stage)
  const { apiUrl, token, pool } = stage
  const options = { apiUrl, token, appId: targets.appId, events: EVENTS, concurrency: PUBLISHERS, perSecond: EVENTS_PER_SECOND }
  const publishing = publish(options)
  try {
    await eventually({ what: 'the first deliveries', withinMs: 30_000 }, () => targets.healthyArrivals() > 100)
    const before = publishing.count()
    await away()
    const during = publishing.count() - before
    t.diagnostic(`back at ${seconds()}: ${during} events accepted while Temporal was away`)
    assert.ok(during >= (AWAY_MS / 1000) * EVENTS_PER_SECOND * 0.5, 'publishing slowed down')
    const report = await publishing.done
    assert.equal(report.accepted, EVENTS, 'every event was answered 202 at its first try')
    assert.ok(report.slowestMs < SLOWEST_ANSWER_MS, `an answer took ${Math.round(report.slowestMs)} ms`)
    await untilSettled(pool, targets, { events: EVENTS, withinMs: SETTLED_WITHIN_MS })
    await untilFanOutsEnded(stage, SETTLED_WITHIN_MS)
    const taken = await account(pool, targets, EVENTS)
    assert.deepEqual([...taken.duplicates], [])
    assert.equal(taken.unrecorded, 0)
    assert.deepEqual(stage.fallen(), [], 'processes ended that nobody had killed')
    t.diagnostic(`settled at ${seconds()}: ${taken.delivered} delivered once, slowest answer ${Math.round(report.slowestMs)} ms`)
  } catch (error) {
    t.diagnostic(stage.logs())
    throw error
  } finally {
    publishing.stop()
    await targets.close()
  }
}

test('while Temporal is down publishing is answered 202, and everything is delivered once it is back', async (t) => {
  await Promise.all([stage.startApi(), stage.startWorker('dispatcher'), stage.startWorker('delivery')])
  await publishWhileAway(t, async () => {
    await stage.killTemporal()
    await delay(AWAY_MS)
    await stage.startTemporal()
  })
})

test('while Temporal hangs a service that is one process answers 202, and everything is delivered when it goes on', async (t) => {
  await stage.startAll()
  await publishWhileAway(t, async () => {
    stage.signalTemporal('SIGSTOP')
    await delay(AWAY_MS)
    stage.signalTemporal('SIGCONT')
  })
})
