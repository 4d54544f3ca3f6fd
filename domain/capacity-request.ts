/**
 * The capacity plan that the product was asked for ("Growth Projections", "Resource Allocation"), computed from its own unit
 * costs, and where its figures contradict each other. Money is USD a month.
 */

const DAY_S = 86_400

/** The figures as they were asked for. */
export const REQUEST = {
  webhooks: 1_000_000,
  eventsPerDay: 100_000_000,
  deliveriesPerDay: 2_500_000_000,
  monthly: 144_000,
  /** Multiples of the first year. */
  growth: [1, 2, 3],
  /** For 1,000 deliveries a second. */
  per1000: { workers: 10, dispatchers: 1, brokers: 1, databaseGb: 100, monthly: 14_000 },
  shares: { workers: 0.85, dispatchers: 0.05, queue: 0.05, database: 0.05 },
  rightSizing: { workers: 200, price: 100, utilisation: 0.4, target: 0.7, rightSized: 120, saving: 8000, wasted: 12_000 },
  initial: { workers: 100, deliveriesPerS: 10_000 },
  attemptBytes: 1200,
  queueEventsPerS: 100_000,
  writesPerShard: 10_000,
  storageTiers: 3500,
  cache: { hotShare: 0.01, hotMb: 100, warmShare: 0.1, warmGb: 10, allGb: 10 },
} as const

export interface RequestYear {
  readonly year: number
  readonly webhooks: number
  readonly eventsPerDay: number
  readonly deliveriesPerDay: number
  readonly deliveriesPerS: number
  /** By the unit costs. */
  readonly resources: RequestResources
  /** What the growth projection says. */
  readonly stated: number
}

export interface RequestResources {
  readonly workers: number
  readonly dispatchers: number
  readonly brokers: number
  readonly databaseGb: number
  readonly monthly: number
}

/** What the request's unit costs make of a rate; not rounded up to whole processes. */
export function requestResources(deliveriesPerS: number): RequestResources {
  const thousands = deliveriesPerS / 1000
  const { workers, dispatchers, brokers, databaseGb, monthly } = REQUEST.per1000
  return {
    workers: workers * thousands,
    dispatchers: dispatchers * thousands,
    brokers: brokers * thousands,
    databaseGb: databaseGb * thousands,
    monthly: monthly * thousands,
  }
}

/** The table of the request's growth projection, with what its unit costs make of it. */
export function requestYears(): RequestYear[] {
  return REQUEST.growth.map((multiple, i) => {
    const deliveriesPerDay = REQUEST.deliveriesPerDay * multiple
    const deliveriesPerS = deliveriesPerDay / DAY_S
    return {
      year: i + 1,
      webhooks: REQUEST.webhooks * multiple,
      eventsPerDay: REQUEST.eventsPerDay * multiple,
      deliveriesPerDay,
      deliveriesPerS,
      resources: requestResources(deliveriesPerS),
      stated: REQUEST.monthly * multiple,
    }
  })
}

export interface Contradiction {
  readonly about: string
  /** What one place says, and what follows from another. */
  readonly says: string
  readonly follows: string
}

const whole = (value: number): string => Math.round(value).toLocaleString('en-US')
const thousands = (usd: number): string => `$${(usd / 1000).toFixed(usd < 10_000 ? 1 : 0)}K`

/** Where figures of the request contradict each other, each with the arithmetic. */
export function contradictions(): Contradiction[] {
  return [...costs(), ...fleet(), ...data()]
}

function costs(): Contradiction[] {
  const { per1000, shares, rightSizing, monthly, deliveriesPerDay } = REQUEST
  const perS = deliveriesPerDay / DAY_S
  const byUnits = requestResources(perS).monthly
  const workersUsd = per1000.monthly * shares.workers
  const worker = workersUsd / per1000.workers
  const cheaply = per1000.monthly - workersUsd + per1000.workers * rightSizing.price
  const tiersShare = REQUEST.storageTiers / (byUnits * shares.database)
  return [
    {
      about: 'the monthly cost',
      says: `2.5B deliveries a day cost ${thousands(monthly)} a month`,
      follows: `they are ${whole(perS)} a second, which at ${thousands(per1000.monthly)} for 1,000 cost ${thousands(byUnits)}, ${(byUnits / monthly).toFixed(1)} times that; ${thousands(monthly)} pays for ${whole((monthly / per1000.monthly) * 1000)} a second`,
    },
    {
      about: 'the price of a worker',
      says: `85% of ${thousands(per1000.monthly)} are 10 workers: $${whole(worker)} each`,
      follows: `"Right-Sizing" has them at $${rightSizing.price}; then 1,000 a second cost ${thousands(cheaply)} and 2.5B a day ${thousands((perS / 1000) * cheaply)}: neither figure gives ${thousands(monthly)}`,
    },
    {
      about: 'storage',
      says: `hot, warm and cold storage cost ${thousands(REQUEST.storageTiers)} together`,
      follows: `the database's 5% are ${thousands(byUnits * shares.database)} by the unit costs and ${thousands(monthly * shares.database)} of ${thousands(monthly)}: tiers save ${whole((1 - tiersShare) * 100)}% or ${whole((1 - REQUEST.storageTiers / (monthly * shares.database)) * 100)}%; the 80% that are named fit the first only`,
    },
  ]
}

function fleet(): Contradiction[] {
  const { rightSizing: sizing, initial, deliveriesPerDay, queueEventsPerS } = REQUEST
  const perS = deliveriesPerDay / DAY_S
  const needed = Math.ceil((sizing.workers * sizing.utilisation) / sizing.target)
  const { workers, brokers } = requestResources(perS)
  return [
    {
      about: 'the first year',
      says: `initially ${initial.workers} workers make ${whole(initial.deliveriesPerS)} deliveries a second`,
      follows: `2.5B a day need ${whole(Math.ceil(workers))} at the same rate, without a peak; ${initial.workers} make ${whole((initial.deliveriesPerS * DAY_S) / 1e6)}M a day`,
    },
    {
      about: 'right-sizing',
      says: `${sizing.workers} workers at 40% become ${sizing.rightSized} at 70%, which saves ${thousands(sizing.saving)}`,
      follows: `${sizing.workers} × 0.4 / 0.7 are ${needed}, which saves $${whole((sizing.workers - needed) * sizing.price)}; ${sizing.rightSized} run at ${whole(((sizing.workers * sizing.utilisation) / sizing.rightSized) * 100)}%. The ${thousands(sizing.wasted)} "wasted" would be saved at 100% only`,
    },
    {
      about: 'brokers',
      says: `a queue's limit is ${whole(queueEventsPerS)} events a second`,
      follows: `"Resource Allocation" has a broker for each 1,000: ${whole(Math.ceil(brokers))} for ${whole(perS)} a second, where by its limit one takes ${(queueEventsPerS / perS).toFixed(1)} times that`,
    },
    {
      about: 'batches',
      says: 'batches reduce overhead by 100x ("Batch Processing")',
      follows: 'and cost by 10x ("Delivery Optimization"): requests by the first, money by the second at most',
    },
    {
      about: 'scaling down',
      says: 'a cooldown of 5 minutes, and steps of 20% up and 10% down',
      follows: 'the rules further below have 60 s up, 300 s down, and one increment of 20%',
    },
  ]
}

function data(): Contradiction[] {
  const { per1000, attemptBytes, deliveriesPerDay, writesPerShard, cache, webhooks } = REQUEST
  const dayGb = (1000 * DAY_S * attemptBytes) / 1e9
  const webhookKb = (cache.allGb * 1e6) / webhooks
  const hotMb = (webhooks * cache.hotShare * webhookKb) / 1000
  const warmGb = (webhooks * cache.warmShare * webhookKb) / 1e6
  const perS = deliveriesPerDay / DAY_S
  return [
    {
      about: 'the database',
      says: `${per1000.databaseGb} GB for 1,000 deliveries a second`,
      follows: `at 1.2 kB a delivery they write ${whole(dayGb)} GB a day; 30 days of successes are ${((30 * dayGb) / 1000).toFixed(1)} TB, and ${((30 * dayGb * perS) / 1e6).toFixed(0)} TB for the first year's rate`,
    },
    {
      about: 'database writes',
      says: `10K writes a second for a shard`,
      follows: `${whole(perS)} a second are ${Math.ceil(perS / writesPerShard)} shards if each delivery is one write; the allocation counts GB only`,
    },
    {
      about: 'the archive',
      says: 'successes are deleted after 30 days and failures kept for 90',
      follows: 'then nothing is left to be archived "after 90 days", and only failures are in the warm tier of days 31 to 90',
    },
    {
      about: 'the cache',
      says: `all webhooks are ${cache.allGb} GB, the warm 10% of them in a ${cache.warmGb} GB cluster`,
      follows: `at ${whole(webhookKb)} kB each the warm 10% are ${whole(warmGb)} GB (the hot 1% are ${whole(hotMb)} MB, as stated)`,
    },
  ]
}
