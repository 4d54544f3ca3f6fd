import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { publishAndStrike } from './scenario.ts'
import { setStage, type Stage } from './stage.ts'

let stage: Stage

before(async () => {
  stage = await setStage()
})

after(() => stage.close())

test('kill -9 of Temporal loses nothing, and sends nothing twice', async (t) => {
  await Promise.all([stage.startApi(), stage.startWorker('dispatcher'), stage.startWorker('delivery')])
  const { account, report } = await publishAndStrike(t, stage, async () => {
    await stage.killTemporal()
    await stage.startTemporal()
  })
  assert.equal(report.failedTries, 0, 'publishing needs no Temporal')
  assert.deepEqual([...account.duplicates], [])
  assert.equal(account.unrecorded, 0)
})
