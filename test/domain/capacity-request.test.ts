import assert from 'node:assert/strict'
import { test } from 'node:test'
import { contradictions, requestResources, requestYears } from '../../domain/capacity-request.ts'

test("the request's table comes out of its own unit costs", () => {
  assert.deepEqual(requestResources(1000), { workers: 10, dispatchers: 1, brokers: 1, databaseGb: 100, monthly: 14_000 })
  const years = requestYears()
  assert.deepEqual(
    years.map(({ year, webhooks, eventsPerDay, deliveriesPerDay, stated }) => [year, webhooks, eventsPerDay, deliveriesPerDay, stated]),
    [
      [1, 1e6, 1e8, 2.5e9, 144_000],
      [2, 2e6, 2e8, 5e9, 288_000],
      [3, 3e6, 3e8, 7.5e9, 432_000],
    ],
  )
  assert.deepEqual(
    years.map(({ deliveriesPerS, resources }) => [Math.round(deliveriesPerS), Math.round(resources.monthly), Math.ceil(resources.workers)]),
    [
      [28_935, 405_093, 290],
      [57_870, 810_185, 579],
      [86_806, 1_215_278, 869],
    ],
  )
})

test('each contradiction is named with the arithmetic that shows it', () => {
  const told = Object.fromEntries(contradictions().map(({ about, says, follows }) => [about, `${says}; ${follows}`]))
  const expected: Readonly<Record<string, readonly RegExp[]>> = {
    'the monthly cost': [/\$144K/, /28,935 a second/, /\$405K, 2\.8 times/, /10,286 a second/],
    'the price of a worker': [/\$1,190 each/, /at \$100/, /\$3\.1K/, /\$90K/],
    storage: [/\$3\.5K/, /83% or 51%/],
    'the first year': [/100 workers/, /290 at the same rate/, /864M a day/],
    'right-sizing': [/are 115, which saves \$8,500/, /run at 67%/, /\$12K "wasted"/],
    brokers: [/100,000 events/, /29 for 28,935/, /3\.5 times/],
    batches: [/100x/, /10x/],
    'scaling down': [/5 minutes/, /60 s up, 300 s down/],
    'the database': [/104 GB a day/, /3\.1 TB/, /90 TB/],
    'database writes': [/3 shards/],
    'the archive': [/30 days/],
    'the cache': [/10 kB each the warm 10% are 1 GB/, /hot 1% are 100 MB/],
  }
  assert.deepEqual(Object.keys(told).sort(), Object.keys(expected).sort())
  for (const [about, patterns] of Object.entries(expected)) for (const pattern of patterns) assert.match(told[about]!, pattern)
})
