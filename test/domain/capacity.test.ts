import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import type { UnitCosts } from '../../domain/capacity-costs.ts'
import { DEFAULT_CAPACITY_INPUT, readCapacityInput, type CapacityInput } from '../../domain/capacity-input.ts'
import { apiPrice, databasePrice, readPrices, temporalPrice, workerPrice, type Prices } from '../../domain/capacity-prices.ts'
import { fleetAt, planCapacity } from '../../domain/capacity.ts'

/** Round numbers, so that what comes out can be computed by hand. */
const COSTS: UnitCosts = {
  ...{ serviceCpuMsPerEvent: 0.35, serviceCpuMsPerDelivery: 0.2, acceptCpuMsPerEvent: 0.14, serviceCpuMsPerFanOut: 10 },
  ...{ temporalCpuMsPerEvent: 0.1, temporalCpuMsPerDelivery: 0.05, temporalCpuMsPerFanOut: 15 },
  ...{ postgresCpuMsPerEvent: 0.1, postgresCpuMsPerDelivery: 0.04, serviceCpuMsPerRetry: 1, temporalCpuMsPerRetry: 4 },
  ...{ walBytesPerEvent: 2700, walBytesPerDelivery: 760, transactionsPerEvent: 0.1, transactionsPerDelivery: 0.04 },
  ...{ storedBytesPerEvent: 2000, storedBytesPerDelivery: 500, storedBytesPerWebhook: 1000 },
  ...{ historyBytesPerFanOut: 3000, historyBytesPerEvent: 100, requestBytes: 600 },
  ...{ singleCpuMsPerEvent: 0.47, batchedCpuMsPerEvent: 0.07 },
}

const PRICES: Prices = {
  ...{ vcpu: 30, memoryGb: 3, databaseVcpu: 40, databaseMemoryGb: 4, databaseGb: 0.1, databaseIops: 0.02, databaseIopsIncluded: 3000 },
  ...{ warmGb: 0.04, archiveGb: 0.01 },
  ...{ egressGb: 0.05, spotDiscount: 0.7, reservedDiscount: 0.4, workerVcpus: 1, workerMemoryGb: 1, apiVcpus: 1, apiMemoryGb: 1 },
  ...{ temporalVcpus: 8, temporalMemoryGb: 16, databaseVcpus: 16, databaseMachineMemoryGb: 64, databaseGbMax: 16_000 },
  ...{ databaseWalBytesPerS: 1e8, databaseCopies: 2 },
}

function inputOf(changes: Partial<CapacityInput> = {}): CapacityInput {
  const { growth, ...figures } = changes
  const read = readCapacityInput(figures, growth)
  assert.ok('input' in read, JSON.stringify(read))
  return read.input
}

const close = (actual: number, expected: number, what: string) =>
  assert.ok(Math.abs(actual - expected) <= 1e-9 * Math.max(1, Math.abs(expected)), `${what}: ${actual}, not ${expected}`)

test('requests in flight, CPU or the least number decide on workers', () => {
  // 1,000 events a second to 25 endpoints of 200 ms are 5,000 requests in flight; each worker is planned with 70 of its 100.
  const input = inputOf({ failurePercent: 0 })
  const slots = fleetAt(input, COSTS, PRICES, 1000)
  assert.deepEqual([slots.workers, slots.boundBy], [Math.ceil(5000 / 70), 'requests in flight'])
  // 72 workers could start 2,400 fan-outs a second, so each event is one of its own.
  assert.equal(slots.fanOutsPerS, 1000)
  // 1,000 × 0.21 ms and 1,000 × 10 ms of each second, of 700 ms that a worker has.
  assert.equal(slots.dispatchers, Math.ceil((210 + 10_000) / 700))
  assert.equal(slots.apis, 2)

  // With 10,000 in flight it is CPU: 210 + 5,000 ms of work, and the fan-outs that so many workers start.
  const cpu = fleetAt({ ...input, inFlight: 10_000 }, COSTS, PRICES, 1000)
  assert.equal(cpu.boundBy, 'CPU')
  assert.ok(cpu.workers * 700 >= 5210 + cpu.fanOutsPerS * 10)
  assert.ok(cpu.workers < slots.workers)
  assert.ok(cpu.eventsPerFanOut > 1)

  assert.deepEqual([fleetAt(input, COSTS, PRICES, 1).workers, fleetAt(input, COSTS, PRICES, 1).boundBy], [2, 'the least number'])
})

test('a fleet has room for what it is planned for, and more load never needs less', () => {
  const rate = fc.double({ min: 0.01, max: 20_000, noNaN: true })
  const latencyMs = fc.integer({ min: 1, max: 30_000 })
  fc.assert(
    fc.property(
      rate,
      rate,
      latencyMs,
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 0, max: 100 }),
      (a, b, latency, inFlight, fanOut) => {
        const input = inputOf({ latencyMs: latency, inFlight, fanOut })
        const [less, more] = [Math.min(a, b), Math.max(a, b)].map((one) => fleetAt(input, COSTS, PRICES, one))
        assert.ok(less!.workers <= more!.workers && less!.apis <= more!.apis)
        const { workers, fanOutsPerS, eventsPerS, deliveriesPerS, dispatchers } = more!
        const retries = deliveriesPerS * 0.02
        assert.ok(((deliveriesPerS + retries) * latency) / 1000 <= workers * inFlight * 0.7 + 1e-6)
        assert.ok(eventsPerS * 0.21 + fanOutsPerS * 10 + deliveriesPerS * 0.2 + retries <= workers * 700 + 1e-6)
        assert.ok(fanOutsPerS <= eventsPerS && fanOutsPerS >= eventsPerS / 100 - 1e-9)
        assert.ok(dispatchers <= workers)
      },
    ),
  )
})

test('a year of the plan, by hand', () => {
  // 864,000 events a day are 10 a second, 30 at the peak; 100 and 300 deliveries.
  const input = inputOf({
    webhooks: 1000,
    eventsPerDay: 864_000,
    fanOut: 10,
    failurePercent: 10,
    latencyMs: 100,
    years: 1,
    retentionDays: 10,
  })
  const [plan, ...others] = planCapacity(input, COSTS, PRICES)
  assert.equal(others.length, 0)
  const { load, average, peak, temporal, database, network, cost } = plan!
  assert.deepEqual(load, { webhooks: 1000, eventsPerDay: 864_000, deliveriesPerDay: 8_640_000, eventsPerS: 10, deliveriesPerS: 100 })
  assert.deepEqual([average.workers, peak.workers, peak.fanOutsPerS], [2, 2, 30])
  close(temporal.transitionsPerS, 30 * 3 + 30 * (2.5 + 2), 'transitions')
  close(temporal.cores, (30 * 0.1 + 300 * 0.05 + 30 * 15 + 30 * 4) / 1000, 'cores of Temporal')
  assert.deepEqual([temporal.machines, temporal.historyShards, temporal.fanOutPartitions, temporal.retryPartitions], [3, 512, 4, 4])
  close(temporal.historyGb, ((10 * 3000 + 10 * 100) * 604_800) / 1e9, 'history')
  close(database.walBytesPerS, 30 * 2700 + 330 * 760, 'log')
  close(database.transactionsPerS, 30 * 0.1 + 330 * 0.04, 'transactions of Postgres')
  close(database.iops, database.transactionsPerS + (2 * database.walBytesPerS) / 8192, 'I/O')
  close(database.gb, (10 * (864_000 * 2000 + 9_504_000 * 500) + 1000 * 1000) / 1e9, 'size')
  assert.equal(database.primaries, 1)
  close(network.peakBytesPerS, 330 * 1624, 'egress at the peak')
  close(network.gbPerMonth, (9_504_000 * 1624 * 30) / 1e9, 'egress')
  assert.deepEqual([workerPrice(PRICES), apiPrice(PRICES), temporalPrice(PRICES), databasePrice(PRICES)], [33, 33, 288, 1792])
  assert.deepEqual([cost.workers, cost.apis, cost.temporal, cost.database], [66, 66, 3 * 288 + 1792, 1792])
  close(cost.storage, 2 * (database.gb + temporal.historyGb) * 0.1, 'storage')
  close(cost.network, network.gbPerMonth * 0.05, 'network')
  close(cost.total, 66 + 66 + 3 * 288 + 2 * 1792 + cost.storage + cost.network, 'total')
  close(cost.withoutScaling, cost.total, 'without scaling')
})

test('what crosses a limit shows in the plan', () => {
  const plan = (changes: Partial<CapacityInput>) => planCapacity(inputOf({ years: 1, ...changes }), COSTS, PRICES)[0]!
  const usual = plan({})
  // Handed over after a second: an activity for each delivery.
  assert.ok(plan({ latencyMs: 999 }).temporal.transitionsPerS < plan({ latencyMs: 1000 }).temporal.transitionsPerS / 5)
  // A payload is stored and logged once for its event, and sent with each delivery.
  const large = plan({ payloadBytes: 11_024 })
  close(large.database.walBytesPerS - usual.database.walBytesPerS, usual.peak.eventsPerS * 10_000, 'log of payloads')
  close((large.network.gbPerMonth - usual.network.gbPerMonth) / usual.network.gbPerMonth, 10_000 / 1624, 'egress of payloads')
  assert.ok(plan({ payloadBytes: 1 }).database.walBytesPerS > 0)
  assert.equal(usual.database.primaries, Math.ceil(usual.database.gb / 16_000))
  assert.ok(plan({ retentionDays: 1 }).database.primaries < usual.database.primaries)
  // One shard writes 1000 / commitMs times a second, and is planned half busy.
  const { transitionsPerS } = usual.temporal
  const slow = plan({ commitMs: 50 }).temporal.historyShards
  assert.ok(slow >= transitionsPerS * 0.1 && slow < transitionsPerS * 0.2, String(slow))
  assert.equal(Math.log2(slow) % 1, 0)
})

test('years grow as told, and all of them have the shards of the largest', () => {
  const years = planCapacity(inputOf({ growth: [1, 5, 2] }), COSTS, PRICES)
  assert.deepEqual(
    years.map(({ year, load }) => [year, load.eventsPerDay, load.webhooks]),
    [
      [1, 1e8, 1e6],
      [2, 5e8, 5e6],
      [3, 2e8, 2e6],
    ],
  )
  const alone = planCapacity(inputOf({ growth: [5], years: 1 }), COSTS, PRICES)[0]!
  for (const { temporal } of years) assert.equal(temporal.historyShards, alone.temporal.historyShards)
})

test('an input that makes no sense is refused, with everything that is wrong', () => {
  const cases: readonly [Parameters<typeof readCapacityInput>, readonly string[]][] = [
    [[{ webhooks: 0 }, undefined], ['webhooks must be from 1 to 10000000000, not 0']],
    [
      [{ webhooks: 1.5, fanOut: -1 }, undefined],
      ['webhooks must be a whole number, not 1.5', 'fanOut must be from 0 to 20000, not -1'],
    ],
    [[{ peakFactor: 0.5 }, undefined], ['peakFactor must be from 1 to 100, not 0.5']],
    [[{ payloadBytes: 3e6 }, undefined], ['payloadBytes must be from 1 to 2097152, not 3000000']],
    [[{ latencyMs: 60_001 }, undefined], ['latencyMs must be from 1 to 60000, not 60001']],
    [[{ failurePercent: 101 }, undefined], ['failurePercent must be from 0 to 100, not 101']],
    [[{ years: 11 }, undefined], ['years must be from 1 to 10, not 11']],
    [[{ years: 2 }, [1, 2, 3]], ['growth must have a number for each of the 2 years, not 3']],
    [[{ years: 1 }, [0]], ['growth must be from 0.01 to 10000, not 0']],
  ]
  for (const [[figures, growth], expected] of cases) {
    const read = readCapacityInput(figures, growth)
    assert.ok('problems' in read, JSON.stringify(figures))
    assert.deepEqual(
      read.problems.map(({ name, text }) => `${name} ${text}`),
      expected,
    )
  }
  const { years, fanOut } = inputOf({ fanOut: undefined as never })
  assert.deepEqual([years, fanOut], [DEFAULT_CAPACITY_INPUT.years, DEFAULT_CAPACITY_INPUT.fanOut])
})

test('the example prices can be read, and a price that is missing, misspelt or no price is named', () => {
  const example = JSON.parse(readFileSync(join(import.meta.dirname, '../../deploy/prices.json'), 'utf8')) as Record<string, unknown>
  assert.ok('prices' in readPrices(example))
  const read = readPrices({ ...example, vcpu: undefined, spotDiscount: 70, vCPU: 29 })
  assert.ok('problems' in read)
  assert.deepEqual(
    read.problems.map(({ name, text }) => `${name} ${text.slice(0, 30)}`),
    ['vcpu is missing', 'spotDiscount must be from 0 to 1, not 70', 'vCPU is not known; known are vcpu, '],
  )
})
