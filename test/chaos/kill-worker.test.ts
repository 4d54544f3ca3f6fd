import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { LIMITS } from '../../domain/limits.ts'
import { readInFlight } from './ledger.ts'
import { publishAndStrike } from './scenario.ts'
import { setStage, type Stage } from './stage.ts'

let stage: Stage

before(async () => {
  stage = await setStage()
})

afterEach(() => stage.endAll())

after(() => stage.close())

test('kill -9 of the workers loses nothing, and sends again only what was in flight', async (t) => {
  const workers = await Promise.all([stage.startWorker('dispatcher'), stage.startWorker('delivery'), stage.startApi()]).then((all) =>
    all.slice(0, 2),
  )
  let inFlight = new Set<string>()
  const { account } = await publishAndStrike(t, stage, async (targets) => {
    await Promise.all(workers.map((worker) => stage.end(worker, 'SIGKILL')))
    inFlight = await readInFlight(stage.pool, targets)
    await Promise.all([stage.startWorker('dispatcher'), stage.startWorker('delivery')])
  })
  t.diagnostic(`${inFlight.size} requests were in flight or unrecorded at the kill, ${account.unrecorded} were sent again`)
  assert.deepEqual(
    [...account.duplicates.keys()].filter((pair) => !inFlight.has(pair)),
    [],
    'sent again though recorded',
  )
  assert.ok(account.unrecorded <= inFlight.size)
})

test('kill -9 of one of two dispatchers: the other goes on, and sends again only what was in flight', async (t) => {
  const starting = [stage.startWorker('dispatcher'), stage.startWorker('dispatcher'), stage.startWorker('delivery'), stage.startApi()]
  const victim = (await Promise.all(starting))[0]!
  const { account } = await publishAndStrike(t, stage, async () => {
    await stage.end(victim, 'SIGKILL')
  })
  t.diagnostic(`${account.unrecorded} requests were in flight or unrecorded at the kill and were sent again`)
  assert.ok(account.unrecorded <= LIMITS.requestsInFlightPerLane + LIMITS.attemptsPerFlush)
})
