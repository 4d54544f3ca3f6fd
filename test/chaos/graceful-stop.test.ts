import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { publishAndStrike, type Outcome } from './scenario.ts'
import { setStage, type Stage } from './stage.ts'

let stage: Stage

before(async () => {
  stage = await setStage()
})

afterEach(() => stage.endAll())

after(() => stage.close())

function assertNothingTwice({ account }: Outcome): void {
  assert.deepEqual([...account.duplicates], [])
  assert.equal(account.unrecorded, 0)
}

test('SIGTERM of the workers under load: they finish what they have, nothing is lost and nothing sent twice', async (t) => {
  const [dispatcher, delivery] = await Promise.all([stage.startWorker('dispatcher'), stage.startWorker('delivery'), stage.startApi()])
  const outcome = await publishAndStrike(t, stage, async () => {
    const startedAt = performance.now()
    assert.deepEqual(await Promise.all([stage.end(dispatcher, 'SIGTERM'), stage.end(delivery, 'SIGTERM')]), [0, 0])
    t.diagnostic(`the workers took ${((performance.now() - startedAt) / 1000).toFixed(1)} s to stop`)
    await Promise.all([stage.startWorker('dispatcher'), stage.startWorker('delivery')])
  })
  assert.equal(outcome.report.failedTries, 0)
  assertNothingTwice(outcome)
})

test('SIGTERM of a service that is one process: what it has accepted is delivered once by the next', async (t) => {
  const service = await stage.startAll()
  const outcome = await publishAndStrike(t, stage, async () => {
    const startedAt = performance.now()
    assert.equal(await stage.end(service, 'SIGTERM'), 0)
    t.diagnostic(`the service took ${((performance.now() - startedAt) / 1000).toFixed(1)} s to stop`)
    await stage.startAll()
  })
  assert.equal(outcome.report.conflicts, 0, 'an answer was cut off')
  assertNothingTwice(outcome)
})
