import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { publishAndStrike } from './scenario.ts'
import { setStage, type Stage } from './stage.ts'

let stage: Stage

before(async () => {
  stage = await setStage()
})

after(() => stage.close())

test('kill -9 of the API loses nothing that was accepted, and sends nothing twice', async (t) => {
  const [api] = await Promise.all([stage.startApi(), stage.startWorker('dispatcher'), stage.startWorker('delivery')])
  const { account, report } = await publishAndStrike(t, stage, async () => {
    await stage.end(api, 'SIGKILL')
    await stage.startApi()
  })
  assert.ok(report.failedTries > 0, 'no publisher noticed the kill')
  assert.deepEqual([...account.duplicates], [])
  assert.equal(account.unrecorded, 0)
})
