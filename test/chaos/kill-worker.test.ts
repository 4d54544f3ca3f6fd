import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { readInFlight, sum } from './ledger.ts'
import { publishAndStrike } from './scenario.ts'
import { setStage, type Stage } from './stage.ts'

let stage: Stage

before(async () => {
  stage = await setStage()
})

after(() => stage.close())

test('kill -9 of the workers loses nothing, and sends again only what was in flight', async (t) => {
  const workers = await Promise.all([stage.startWorker('dispatcher'), stage.startWorker('delivery'), stage.startApi()]).then((all) =>
    all.slice(0, 2),
  )
  let inFlight = new Set<string>()
  const { account } = await publishAndStrike(t, stage, async (targets) => {
    for (const worker of workers) worker.signal('SIGKILL')
    await Promise.all(workers.map((worker) => worker.ended))
    inFlight = await readInFlight(stage.pool, targets)
    await Promise.all([stage.startWorker('dispatcher'), stage.startWorker('delivery')])
  })
  const duplicates = sum(account.duplicates.values())
  t.diagnostic(`${inFlight.size} requests were in flight or unrecorded at the kill, ${duplicates + account.unrecorded} were sent again`)
  assert.deepEqual(
    [...account.duplicates.keys()].filter((pair) => !inFlight.has(pair)),
    [],
    'sent again though recorded',
  )
  assert.ok(duplicates + account.unrecorded <= inFlight.size)
})
