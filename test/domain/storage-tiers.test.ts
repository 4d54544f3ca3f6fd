import assert from 'node:assert/strict'
import { test } from 'node:test'
import { tiersOf } from '../../domain/storage-tiers.ts'

const COSTS = { storedBytesPerEvent: 2000, storedBytesPerDelivery: 500 }
const PRICES = { databaseGb: 0.1, warmGb: 0.04, archiveGb: 0.01, databaseCopies: 2 }
const near = (actual: number, expected: number) => assert.ok(Math.abs(actual - expected) < expected * 1e-9, `${actual}, not ${expected}`)

test('each tier has the days that its parts are kept there for', () => {
  // A million events to ten endpoints: 2 GB of messages a day, 5 GB of attempts, and 0.25 GB of those that failed at first.
  const { hot, warm, archive, withoutTiers } = tiersOf({ eventsPerDay: 1e6, deliveriesPerDay: 1e7 }, { failurePercent: 5 }, COSTS, PRICES)
  near(hot.gb, 7 * 7.25)
  near(warm.gb, 83 * 2.25 + 23 * 5)
  near(archive.gb, 365 * ((2 * 329) / 3261 + 0.5775))
  near(withoutTiers.gb, 365 * 7.25)
})

test('a database has its copies, an archive is paid for once', () => {
  const { hot, warm, archive, monthly } = tiersOf({ eventsPerDay: 1e6, deliveriesPerDay: 1e7 }, { failurePercent: 0 }, COSTS, PRICES)
  near(hot.monthly, hot.gb * 0.2)
  near(warm.monthly, warm.gb * 0.08)
  near(archive.monthly, archive.gb * 0.01)
  near(monthly, hot.monthly + warm.monthly + archive.monthly)
})
