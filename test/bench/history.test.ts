import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { compare, comparisonTable } from '../../bench/compare.ts'
import { formatRun, lastCommitted, nameOf, writeFiles, type Run } from '../../bench/history.ts'
import { plotRun } from '../../bench/plot.ts'
import { ratiosToRelay } from '../../bench/ratios.ts'
import type { Peer, Result } from '../../bench/result.ts'
import { tables } from '../../bench/table.ts'
import { createScratch } from '../support/scratch.ts'
import { problemsOf } from './well-formed.ts'

const LATENCY = { n: 1, p50_ms: 10, p95_ms: 20, p99_ms: 30, max_ms: 40 }

function result(scenario: string, peer: Peer, rep: number, perS: number): Result {
  return {
    ...{ peer, scenario, rep, start: '2026-11-25T14:05:00.000Z', f: 1, healthy_f: 1, m: 100, c: 1 },
    ...{ accepted: 100, publish_errors: 0, publish_seconds: 1, total_seconds: 1, accepted_per_s: perS, deliveries_per_s: perS },
    ...{ delivered: 100, lost: 0, duplicated: 0, latency: LATENCY, publish_latency: LATENCY, hang_peak: 0, unhealthy_hits: 0 },
    ...{ requests: 100, cpu_s: { node: 1 }, cpu_s_total: 1, other_cpu_s: 0, rss_mb: { node: 400 }, load1_max: 1 },
  }
}

function runOf(results: readonly Result[]): Run {
  const about = { start: '2026-11-25T14:05:00.000Z', commit: 'abcdef0123456789', dirty: false }
  return { ...about, node: 'v24.0.0', cores: 2, cpu: 'a & b <c>', results }
}

test('a difference within the spread of the repetitions is called noise', () => {
  assert.deepEqual(compare([90, 100, 110], [105, 120, 130]), { ratio: 100 / 120, verdict: 'noise' })
  assert.equal(compare([100], [100]).verdict, 'noise')
  assert.equal(compare([131, 140], [105, 120, 130]).verdict, 'more')
  assert.equal(compare([90, 104], [105, 120, 130]).verdict, 'less')
})

test('each repetition is divided by the bare relay of the same repetition', () => {
  const results = [
    result('S1', 'tidings', 1, 50),
    result('S1', 'relay', 1, 100),
    result('S1', 'tidings', 2, 90),
    result('S1', 'relay', 2, 90),
  ]
  const [ratio, ...others] = ratiosToRelay([...results, result('S5', 'tidings', 1, 5), result('S1', 'tidings', 3, 7)])
  assert.deepEqual(ratio, { scenario: 'S1', events: [0.5, 1], deliveries: [0.5, 1], p50: [1, 1] })
  assert.deepEqual(others, [])
  assert.match(tables(results), /\| S1 +\| 0.50\/0.75\/1 /)
})

test('a run is written under the minute of its start, and read back as it was', () => {
  const run = runOf([result('S1', 'tidings', 1, 50), result('S1', 'relay', 1, 100)])
  assert.equal(nameOf(new Date(run.start)), '2026-11-25T1405Z')
  assert.deepEqual(JSON.parse(formatRun(run)), run)
  assert.deepEqual(JSON.parse(formatRun(runOf([]))), runOf([]))
})

test('the last run that git has committed is what a run is compared with', (t) => {
  const scratch = createScratch('history')
  t.after(() => scratch.remove())
  const git = (...args: string[]) => execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', ...args], { cwd: scratch.path })
  assert.match(JSON.stringify(lastCommitted(join(scratch.path, 'none'))), /there is no/)
  git('init', '--quiet')
  assert.match(JSON.stringify(lastCommitted(scratch.path)), /no commit/)
  const folder = join(scratch.path, 'results')
  const then = runOf([result('S1', 'tidings', 1, 50)])
  for (const name of ['2026-11-24T0900Z', '2026-11-25T0800Z'])
    writeFiles(folder, name, { json: formatRun(then), svg: plotRun(then, undefined) })
  writeFileSync(join(folder, 'growth-2026-11-26T0900Z.json'), '{}')
  git('add', '.')
  git('commit', '--quiet', '-m', 'results')
  writeFiles(folder, '2026-11-26T0800Z', { json: 'not committed', svg: '' })
  const last = lastCommitted(folder)
  assert.ok(typeof last !== 'string', JSON.stringify(last))
  assert.equal(last.name, '2026-11-25T0800Z.json')
  assert.deepEqual(last.run, then)
  const table = comparisonTable(runOf([result('S1', 'tidings', 1, 100)]), last.run, last.name)
  assert.match(table, /\| S1 +\| deliveries\/s \| 100 +\| 50 +\| 2\.00 +\| more/)
})

test('the plot of a run is well-formed, whatever the names in it', () => {
  const run = runOf([result('S1', 'tidings', 1, 50), result('S4', 'relay', 1, 100)])
  for (const svg of [plotRun(run, { name: '<&">.json', run }), plotRun(runOf([]), undefined)]) assert.deepEqual(problemsOf(svg), [])
})
