import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Outcome } from '../../bench/elastic-report.ts'
import { spawnScript } from '../support/processes.ts'

const ENDPOINTS = 4

test('the pool grows and shrinks by the rules under load, workers are killed, and nothing is lost', async (t) => {
  const drill = spawnScript('bench/drill-elastic.ts', ['--minutes', '3', '--json'])
  const code = await drill.ended
  const lines = drill.stdout().trim().split('\n')
  t.diagnostic(lines.at(-1) ?? '')
  const outcome = JSON.parse(lines.at(-1)!) as Outcome
  assert.equal(lines.length, 1)
  assert.ok(outcome.accepted > 0)
  assert.equal(outcome.delivered, outcome.accepted * ENDPOINTS)
  assert.equal(outcome.lost, 0)
  assert.equal(outcome.duplicated, outcome.duplicatedByKills, drill.stderr())
  assert.ok(outcome.kills > 0, 'no worker was killed')
  assert.ok(outcome.scaledUp > 0, 'the pool did not grow')
  assert.ok(outcome.scaledDown > 0, 'the pool did not shrink')
  assert.equal(code, 0)
})
