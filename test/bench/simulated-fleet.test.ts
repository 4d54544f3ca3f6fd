import assert from 'node:assert/strict'
import { test } from 'node:test'
import { dayCurve, figuresOf, simulateFleet, type FleetOptions } from '../../bench/simulated-fleet.ts'
import { DEFAULT_RULES } from '../../domain/scaling-rules.ts'

const options = (changes: Partial<FleetOptions> = {}): FleetOptions => ({
  rules: DEFAULT_RULES,
  hours: 24,
  perWorker: 100,
  startMs: 30_000,
  drainMs: 30_000,
  load: dayCurve(850_000, 24),
  ...changes,
})

test('a day with peaks for thousands of workers: the fleet follows, within limits and cooldowns, and all that waited is done', () => {
  const run = simulateFleet(options())
  const figures = figuresOf(run, options())
  assert.ok(figures.peakWorkers > 9000 && figures.peakWorkers <= 10_000, `${figures.peakWorkers}`)
  assert.equal(figures.flaps, 0)
  assert.ok(figures.turns <= 12, `${figures.turns}`)
  assert.equal(run.points.at(-1)!.backlog, 0)
  assert.ok(figures.workerHours < figures.fixedWorkerHours / 2)
  for (const { wanted, ready } of run.points) assert.ok(wanted >= 10 && wanted <= 10_000 && ready <= wanted)
})

test('under a steady load of which its workers can do half nothing changes', () => {
  const run = simulateFleet(options({ hours: 3, load: () => 500 }))
  assert.deepEqual(run.acts, [])
  const figures = figuresOf(run, options())
  assert.deepEqual([figures.overHours, figures.underHours, figures.backlogMax, figures.workerHours], [0, 0, 0, 10 * 3])
})

test('a load that is suddenly three times as much waits until the workers are there, and no longer', () => {
  const run = simulateFleet(options({ hours: 3, load: (atMs) => (atMs < 1_800_000 ? 500 : 3000) }))
  const figures = figuresOf(run, options())
  assert.ok(figures.backlogMax > 10_000 && figures.downs === 0 && figures.ups > 3)
  assert.ok(figures.underHours < 0.5, `${figures.underHours} hours`)
  assert.equal(run.points.at(-1)!.backlog, 0)
  assert.ok(3000 / (100 * run.points.at(-1)!.ready) <= 0.8)
})
