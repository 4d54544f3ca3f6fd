import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { adviseOnPool, workersFor, type HourOfUse, type PoolAdvice } from '../../domain/right-sizing.ts'

const PRICES = { worker: 100, spotDiscount: 0.7, reservedDiscount: 0.4 }
const RULES = { minWorkers: 2, minSamples: 20 }

/** A day in which `workersAt` run and `utilisationAt` of their time is busy. */
function day(workersAt: (hour: number) => number, utilisationAt: (hour: number) => number, samples = 240): HourOfUse[] {
  return Array.from({ length: 24 }, (_, hour) => {
    const busy = workersAt(hour) * utilisationAt(hour)
    return { hour, samples, workers: workersAt(hour), busy, busyP95: busy }
  })
}

const advised = (hours: readonly HourOfUse[]): PoolAdvice => {
  const advice = adviseOnPool(hours, PRICES, RULES)
  assert.ok(advice !== undefined)
  return advice
}

const inShort = ({ advice }: PoolAdvice) => advice.map(({ kind, from, to, saving }) => [kind, from, to, Math.round(saving)])
const atNight = (hour: number) => hour < 8

test("the request's example: 200 workers of $100 at 40% become 115, not 120", () => {
  const example = advised(
    day(
      () => 200,
      () => 0.4,
    ),
  )
  assert.deepEqual(inShort(example), [
    ['over-provisioned', 200, 115, 8500],
    // 115 always run: 40% of $11,500.
    ['reserved', 115, 115, 4600],
  ])
  assert.deepEqual([example.costNow, example.workers], [20_000, 200])
  assert.ok(Math.abs(example.utilisation - 0.4) < 1e-9)
})

test('days of many kinds', () => {
  const cases: readonly [name: string, hours: HourOfUse[], expected: unknown[]][] = [
    [
      'as it should be',
      day(
        () => 100,
        () => 0.7,
      ),
      [['reserved', 100, 100, 4000]],
    ],
    [
      'a little too many are not worth a change',
      day(
        () => 100,
        () => 0.68,
      ),
      [['reserved', 98, 98, 3920]],
    ],
    [
      'eight hours of night with a tenth of the work',
      day(
        () => 100,
        (hour) => (atNight(hour) ? 0.07 : 0.7),
      ),
      [
        ['off-peak', 100, 70, 3000],
        ['reserved', 10, 10, 400],
        ['spot', 60, 60, 4200],
      ],
    ],
    [
      'scaled by hand already',
      day(
        (hour) => (atNight(hour) ? 10 : 100),
        () => 0.7,
      ),
      [
        ['reserved', 10, 10, 400],
        ['spot', 60, 60, 4200],
      ],
    ],
    [
      'all too many, and fewer at night',
      day(
        () => 200,
        (hour) => (atNight(hour) ? 0.035 : 0.35),
      ),
      [
        ['over-provisioned', 200, 100, 10_000],
        ['off-peak', 100, 70, 3000],
        ['reserved', 10, 10, 400],
        ['spot', 60, 60, 4200],
      ],
    ],
    [
      'too busy',
      day(
        () => 10,
        (hour) => (hour === 12 ? 0.9 : 0.7),
      ),
      [
        ['under-provisioned', 10, 13, 0],
        ['reserved', 10, 10, 400],
      ],
    ],
    [
      'nothing to do',
      day(
        () => 2,
        () => 0,
      ),
      [['reserved', 2, 2, 80]],
    ],
    [
      'no workers at all',
      day(
        () => 0,
        () => 0,
      ),
      [],
    ],
  ]
  for (const [name, hours, expected] of cases) assert.deepEqual(inShort(advised(hours)), expected, name)
})

test('hours that are hardly known say nothing, and without all of them only the number is judged', () => {
  const hours = day(
    () => 200,
    () => 0.4,
  )
  assert.equal(adviseOnPool([], PRICES, RULES), undefined)
  assert.equal(
    adviseOnPool(
      day(
        () => 200,
        () => 0.4,
        19,
      ),
      PRICES,
      RULES,
    ),
    undefined,
  )
  const part = advised(hours.filter(({ hour }) => hour >= 9 && hour < 17))
  assert.deepEqual(inShort(part), [['over-provisioned', 200, 115, 8500]])
  assert.deepEqual(part.unknownHours.length, 16)
  assert.ok(!part.unknownHours.includes(9) && part.unknownHours.includes(17))
})

test('workers for a load: rounded up, exact where it is exact, never below the least', () => {
  const cases = [
    [80, 115],
    [7, 10],
    [70, 100],
    [70.1, 101],
    [0, 2],
    [0.1, 2],
  ] as const
  for (const [busy, expected] of cases) assert.equal(workersFor(busy, RULES), expected, String(busy))
})

test('savings never exceed what is paid, and what is advised has room for the work', () => {
  const hour = fc.record({ workers: fc.integer({ min: 0, max: 10_000 }), utilisation: fc.double({ min: 0, max: 1, noNaN: true }) })
  fc.assert(
    fc.property(fc.array(hour, { minLength: 24, maxLength: 24 }), (given) => {
      const hours = day(
        (i) => given[i]!.workers,
        (i) => given[i]!.utilisation,
      )
      const { advice, costNow } = advised(hours)
      const saving = advice.reduce((sum, one) => sum + one.saving, 0)
      assert.ok(saving <= costNow + 1e-6, `${saving} of ${costNow}`)
      for (const one of advice) {
        assert.ok(one.saving >= 0 && one.to >= 0, one.kind)
        if (one.kind === 'off-peak') one.hours!.forEach((count, i) => assert.ok(count * 0.7 >= hours[i]!.busy - 1e-6))
        if (one.kind === 'over-provisioned') assert.ok(hours.every(({ busy }) => one.to * 0.7 >= busy - 1e-6))
      }
    }),
  )
})
