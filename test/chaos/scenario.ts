import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { eventually } from './eventually.ts'
import { account, sum, untilSettled, type Account } from './ledger.ts'
import { publish, type Publishing, type PublishOptions, type PublishReport } from './publishers.ts'
import { untilFanOutsEnded, type Stage } from './stage.ts'
import { createTargets, type Targets } from './targets.ts'

export const EVENTS = 2000
const ENDPOINTS = 5
const PUBLISHERS = 16
const EVENTS_MAX = 100_000
// A kill in the middle: this many are accepted, and this many have arrived at healthy endpoints.
const ACCEPTED_AT_STRIKE = EVENTS * 0.4
const ARRIVED_AT_STRIKE = EVENTS * 0.6
const MIDDLE_WITHIN_MS = 60_000
const SETTLED_WITHIN_MS = 120_000

export interface Outcome {
  readonly report: PublishReport
  readonly account: Account
  readonly targets: Targets
}

/**
 * Publishes 2,000 events to 5 endpoints, one of which fails, strikes in the middle, waits until everything is settled, and
 * takes the account: no pair may be lost.
 * @param strike does the harm and mends it
 */
export function publishAndStrike(t: TestContext, stage: Stage, strike: (targets: Targets) => Promise<void>): Promise<Outcome> {
  return run(t, stage, { events: EVENTS, concurrency: PUBLISHERS }, async ({ targets, publishing, seconds }) => {
    await eventually({ what: 'the middle of the run', withinMs: MIDDLE_WITHIN_MS }, () => {
      return publishing.count() >= ACCEPTED_AT_STRIKE && targets.healthyArrivals() >= ARRIVED_AT_STRIKE
    })
    const before = { published: publishing.count(), arrived: targets.healthyArrivals() }
    t.diagnostic(`strike at ${seconds()}: ${before.published} events accepted, ${before.arrived} deliveries arrived`)
    assert.ok(before.published < EVENTS, 'the strike came after the last event')
    await strike(targets)
    t.diagnostic(`mended at ${seconds()}`)
  })
}

/** What is published to while the publishers go on. */
export interface Running {
  readonly targets: Targets
  readonly publishing: Publishing
  /** How long it has been going on, for diagnostics. */
  seconds(): string
}

/**
 * The same at a steady pace for as long as `change` takes, and from the first deliveries on.
 * @param perSecond events
 */
export function publishDuring(
  t: TestContext,
  stage: Stage,
  perSecond: number,
  change: (running: Running) => Promise<void>,
): Promise<Outcome> {
  return run(t, stage, { events: EVENTS_MAX, concurrency: PUBLISHERS, perSecond }, async (running) => {
    await eventually({ what: 'the first deliveries', withinMs: MIDDLE_WITHIN_MS }, () => running.targets.healthyArrivals() >= perSecond)
    await change(running)
    running.publishing.finish()
  })
}

async function run(
  t: TestContext,
  stage: Stage,
  load: Pick<PublishOptions, 'events' | 'concurrency' | 'perSecond'>,
  work: (running: Running) => Promise<void>,
): Promise<Outcome> {
  const startedAt = performance.now()
  const seconds = () => `${((performance.now() - startedAt) / 1000).toFixed(1)} s`
  const targets = await createTargets(stage, ENDPOINTS)
  const { apiUrl, token, pool } = stage
  const publishing = publish({ apiUrl, token, appId: targets.appId, ...load })
  try {
    await work({ targets, publishing, seconds })
    const report = await publishing.done
    const events = publishing.count()
    t.diagnostic(`published at ${seconds()}: ${JSON.stringify(report)}`)
    await untilSettled(pool, targets, { events, withinMs: SETTLED_WITHIN_MS })
    await untilFanOutsEnded(stage, SETTLED_WITHIN_MS)
    const taken = await account(pool, targets, events)
    assert.equal(taken.delivered + taken.waiting, events * ENDPOINTS)
    assert.deepEqual(stage.fallen(), [], 'processes ended that nobody had killed')
    t.diagnostic(
      `settled at ${seconds()}: ${taken.delivered} delivered, ${taken.waiting} still scheduled, 0 lost, ` +
        `${sum(taken.duplicates.values())} duplicates at healthy endpoints, ${taken.unrecorded} requests without a record`,
    )
    return { report, account: taken, targets }
  } catch (error) {
    t.diagnostic(stage.logs())
    throw error
  } finally {
    publishing.stop()
    await targets.close()
  }
}
