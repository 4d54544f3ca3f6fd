import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { readInFlight } from './ledger.ts'
import { publishAndStrike } from './scenario.ts'
import { setStage, type Stage } from './stage.ts'

let stage: Stage

before(async () => {
  stage = await setStage()
})

after(() => stage.close())

test('kill -9 of a service that is one process loses nothing, and sends again only what was in flight', async (t) => {
  const service = await stage.startAll()
  let inFlight = new Set<string>()
  const { account, report } = await publishAndStrike(t, stage, async (targets) => {
    await stage.end(service, 'SIGKILL')
    inFlight = await readInFlight(stage.pool, targets)
    await stage.startAll()
  })
  t.diagnostic(`${inFlight.size} requests were in flight or unrecorded at the kill, ${account.unrecorded} were sent again`)
  assert.ok(report.failedTries > 0, 'no publisher noticed the kill')
  assert.deepEqual(
    [...account.duplicates.keys()].filter((pair) => !inFlight.has(pair)),
    [],
    'sent again though recorded',
  )
  assert.ok(account.unrecorded <= inFlight.size)
})
