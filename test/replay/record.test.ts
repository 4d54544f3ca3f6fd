/**
 * Runs each way that a delivery goes on the real service and replays what came of it. To store the histories, after a change
 * of a workflow's behaviour and besides the old ones (a workflow that is running must replay with the new code):
 *
 *   TIDINGS_RECORD_HISTORIES=<suffix> npm test -- test/replay/record.test.ts
 *
 * It writes test/replay/histories/<scenario>.<n>.<suffix>.json. Review them: no path, no secret, no payload.
 */
import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { elsewhere } from './elsewhere.ts'
import { HISTORIES, replayAll, toStored, type StoredHistory } from './replaying.ts'
import { SCENARIOS, startStage, type Stage } from './scenarios.ts'

const suffix = process.env['TIDINGS_RECORD_HISTORIES']
const recorded: StoredHistory[] = []
let stage: Stage

const ALL = { ...SCENARIOS, elsewhere }

before(async () => {
  stage = await startStage()
})

after(() => stage.stop())

for (const [scenario, run] of Object.entries(ALL)) {
  test(`the workflows of "${scenario}" come to their end`, async () => {
    for (const [n, workflowId] of (await run(stage)).entries()) {
      const history = await stage.client.workflow.getHandle(workflowId).fetchHistory()
      recorded.push(toStored(`${scenario}.${n + 1}.${suffix ?? 'now'}.json`, workflowId, history))
    }
  })
}

test('what was recorded replays', async () => {
  assert.ok(recorded.length >= Object.keys(ALL).length)
  assert.deepEqual(await replayAll(recorded), [])
  if (suffix === undefined) return
  mkdirSync(HISTORIES, { recursive: true })
  for (const { name, ...rest } of recorded) writeFileSync(new URL(name, HISTORIES), `${JSON.stringify(rest, undefined, 1)}\n`)
})
