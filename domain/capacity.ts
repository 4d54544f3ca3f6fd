/** What a load needs: processes, Temporal, Postgres, network, and what they cost. Rates are a second, sizes bytes or 10^9 bytes. */
import { MEASURED_PAYLOAD_BYTES, type UnitCosts } from './capacity-costs.ts'
import type { CapacityInput } from './capacity-input.ts'
import { apiPrice, databasePrice, temporalPrice, workerPrice, type Prices } from './capacity-prices.ts'
import { LINGER_MS } from './linger.ts'
import { LIMITS } from './limits.ts'

/** Share of what a process or machine can do that is planned with: what the advice on recorded use aims at too. */
export const TARGET_UTILISATION = 0.7

const DAY_S = 86_400
const DAYS_A_MONTH = 30
const GB = 1e9
/** Fewer would not survive the loss of one. */
const PROCESSES_MIN = 2
const TEMPORAL_MACHINES_MIN = 3
/** The Temporal server's own database: what it needs was not measured, so one is counted whatever the load. */
const TEMPORAL_DATABASES = 1
/** Closed workflows are kept for a week. */
const HISTORY_DAYS = 7
/** Postgres writes its log and, later, the pages that have changed, in pages of this size. */
const PAGE_BYTES = 8192
const WRITES_PER_LOG_PAGE = 2

/** State transitions on the Temporal server, measured on 1.32: see docs/adr/0002-one-fan-out-workflow-for-a-group.md. */
const TRANSITIONS = { fanOut: 3, moreTasks: 2, remoteActivity: 2.5, retry: 2 }
/** Tasks a second that one partition of a task queue takes, and partitions that each has unless told otherwise. */
const TASKS_PER_PARTITION = 1000
const PARTITIONS_MIN = 4
/** What docker-compose.temporal.yml has. A shard does one write at a time (`history.shardIOConcurrency`), and is planned half busy. */
const SHARDS_MIN = 512
const SHARD_UTILISATION = 0.5

export interface Load {
  readonly webhooks: number
  readonly eventsPerDay: number
  readonly deliveriesPerDay: number
  readonly eventsPerS: number
  readonly deliveriesPerS: number
}

/** What serves a rate. */
export interface Fleet {
  readonly eventsPerS: number
  readonly deliveriesPerS: number
  readonly apis: number
  /** Processes of `--role all`. */
  readonly workers: number
  /** What asks for the most workers. */
  readonly boundBy: 'requests in flight' | 'CPU' | 'the least number'
  /** How many of the workers the dispatching alone would keep busy. */
  readonly dispatchers: number
  readonly fanOutsPerS: number
  readonly eventsPerFanOut: number
}

export interface YearPlan {
  readonly year: number
  readonly load: Load
  /** At the rate of the day, and of its busiest hour. */
  readonly average: Fleet
  readonly peak: Fleet
  readonly temporal: {
    /** At the peak. */
    readonly transitionsPerS: number
    readonly cores: number
    readonly machines: number
    /** For the last year's peak: the number cannot be changed. */
    readonly historyShards: number
    /** Of the task queue `fan-out`, and of each `deliver-retry-<partition>`. */
    readonly fanOutPartitions: number
    readonly retryPartitions: number
    readonly historyGb: number
  }
  readonly database: {
    /** At the peak. */
    readonly cores: number
    readonly walBytesPerS: number
    readonly transactionsPerS: number
    readonly iops: number
    /** When the retention is full. */
    readonly gb: number
    readonly primaries: number
  }
  readonly network: { readonly peakBytesPerS: number; readonly gbPerMonth: number }
  readonly cost: MonthlyCost
}

/** USD a month. API and workers follow the load (autoscaling), all else is there for the peak. */
export interface MonthlyCost {
  readonly workers: number
  readonly apis: number
  readonly temporal: number
  readonly database: number
  readonly storage: number
  readonly network: number
  readonly total: number
  /** The total where API and workers stay as many as the peak needs. */
  readonly withoutScaling: number
}

/** A plan for each year. */
export function planCapacity(input: CapacityInput, costs: UnitCosts, prices: Prices): YearPlan[] {
  const shards = Math.max(
    ...input.growth.map((multiple) => shardsFor(transitionsOf(input, fleetAt(input, costs, prices, peakOf(input, multiple))), input)),
  )
  return input.growth.map((multiple, i) => planYear({ year: i + 1, multiple, shards }, input, costs, prices))
}

function planYear(
  { year, multiple, shards }: { readonly year: number; readonly multiple: number; readonly shards: number },
  input: CapacityInput,
  costs: UnitCosts,
  prices: Prices,
): YearPlan {
  const load = loadOf(input, multiple)
  const average = fleetAt(input, costs, prices, load.eventsPerS)
  const peak = fleetAt(input, costs, prices, peakOf(input, multiple))
  const temporal = temporalOf(input, costs, prices, { average, peak, shards })
  const database = databaseOf(input, costs, prices, { load, peak })
  const attempts = 1 + input.failurePercent / 100
  const requestBytes = input.payloadBytes + costs.requestBytes
  const network = {
    peakBytesPerS: peak.deliveriesPerS * attempts * requestBytes,
    gbPerMonth: (load.deliveriesPerDay * attempts * requestBytes * DAYS_A_MONTH) / GB,
  }
  const cost = costOf(prices, { average, peak, temporal, database, network })
  return { year, load, average, peak, temporal, database, network, cost }
}

function loadOf(input: CapacityInput, multiple: number): Load {
  const eventsPerDay = input.eventsPerDay * multiple
  const deliveriesPerDay = eventsPerDay * input.fanOut
  return {
    webhooks: input.webhooks * multiple,
    eventsPerDay,
    deliveriesPerDay,
    eventsPerS: eventsPerDay / DAY_S,
    deliveriesPerS: deliveriesPerDay / DAY_S,
  }
}

const peakOf = (input: CapacityInput, multiple: number): number => (input.eventsPerDay * multiple * input.peakFactor) / DAY_S

/**
 * The processes that a rate needs. Every worker dispatches, and starts a fan-out each `LINGER_MS` at most: the more workers, the
 * fewer events share a fan-out, and the more CPU that costs. So the number is looked for from below.
 */
export function fleetAt(input: CapacityInput, costs: UnitCosts, prices: Prices, eventsPerS: number): Fleet {
  const deliveriesPerS = eventsPerS * input.fanOut
  const retriesPerS = (deliveriesPerS * input.failurePercent) / 100
  const inFlight = ((deliveriesPerS + retriesPerS) * input.latencyMs) / 1000
  const bySlots = Math.ceil(inFlight / (input.inFlight * TARGET_UTILISATION))
  const dispatchMs = Math.max(0, costs.serviceCpuMsPerEvent - costs.acceptCpuMsPerEvent)
  const deliveryMs = deliveriesPerS * costs.serviceCpuMsPerDelivery + retriesPerS * costs.serviceCpuMsPerRetry
  const dispatchingMs = (fanOuts: number) => eventsPerS * dispatchMs + fanOuts * costs.serviceCpuMsPerFanOut
  const fanOutsOf = (workers: number) => Math.max(eventsPerS / LIMITS.groupMaxMessages, Math.min(eventsPerS, (workers * 1000) / LINGER_MS))
  const byCpu = (workers: number) => processesFor(dispatchingMs(fanOutsOf(workers)) + deliveryMs, prices.workerVcpus)

  let workers = Math.max(PROCESSES_MIN, bySlots)
  for (let needed = byCpu(workers); needed > workers; needed = byCpu(workers)) workers = needed
  const fanOutsPerS = fanOutsOf(workers)
  return {
    eventsPerS,
    deliveriesPerS,
    apis: Math.max(PROCESSES_MIN, processesFor(eventsPerS * costs.acceptCpuMsPerEvent, prices.apiVcpus)),
    workers,
    boundBy: workers > Math.max(PROCESSES_MIN, bySlots) ? 'CPU' : bySlots > PROCESSES_MIN ? 'requests in flight' : 'the least number',
    dispatchers: Math.max(PROCESSES_MIN, processesFor(dispatchingMs(fanOutsPerS), prices.workerVcpus)),
    fanOutsPerS,
    eventsPerFanOut: fanOutsPerS === 0 ? 0 : eventsPerS / fanOutsPerS,
  }
}

/** A Node process does its work in one thread: more than one vCPU does not make it faster. @param cpuMs CPU a second */
function processesFor(cpuMs: number, vcpus: number): number {
  return Math.ceil(cpuMs / 1000 / (Math.min(1, vcpus) * TARGET_UTILISATION))
}

function transitionsOf(input: CapacityInput, { fanOutsPerS, deliveriesPerS }: Fleet): number {
  const failing = (deliveriesPerS * input.failurePercent) / 100
  // A first attempt that takes longer is handed over to an activity of its own.
  const handedOver = input.latencyMs >= LIMITS.firstAttemptHoldMs ? deliveriesPerS : 0
  const deliveriesPerFanOut = fanOutsPerS === 0 ? 0 : deliveriesPerS / fanOutsPerS
  const moreTasks = Math.max(0, Math.ceil(deliveriesPerFanOut / LIMITS.deliveriesPerTask) - 1)
  return (
    fanOutsPerS * (TRANSITIONS.fanOut + moreTasks * TRANSITIONS.moreTasks) +
    (failing + handedOver) * TRANSITIONS.remoteActivity +
    failing * TRANSITIONS.retry
  )
}

/** A power of two, of which each is half busy with writes of `commitMs`. */
function shardsFor(transitionsPerS: number, { commitMs }: CapacityInput): number {
  const needed = (transitionsPerS * commitMs) / 1000 / SHARD_UTILISATION
  return Math.max(SHARDS_MIN, 2 ** Math.ceil(Math.log2(Math.max(1, needed))))
}

function partitionsFor(tasksPerS: number): number {
  return Math.max(PARTITIONS_MIN, Math.ceil(tasksPerS / (TASKS_PER_PARTITION * TARGET_UTILISATION)))
}

function temporalOf(
  input: CapacityInput,
  costs: UnitCosts,
  prices: Prices,
  { average, peak, shards }: { readonly average: Fleet; readonly peak: Fleet; readonly shards: number },
): YearPlan['temporal'] {
  const retriesPerS = (peak.deliveriesPerS * input.failurePercent) / 100
  const cpuMs =
    peak.eventsPerS * costs.temporalCpuMsPerEvent +
    peak.deliveriesPerS * costs.temporalCpuMsPerDelivery +
    peak.fanOutsPerS * costs.temporalCpuMsPerFanOut +
    retriesPerS * costs.temporalCpuMsPerRetry
  const cores = cpuMs / 1000
  const historyBytesPerS = average.fanOutsPerS * costs.historyBytesPerFanOut + average.eventsPerS * costs.historyBytesPerEvent
  return {
    transitionsPerS: transitionsOf(input, peak),
    cores,
    machines: Math.max(TEMPORAL_MACHINES_MIN, Math.ceil(cores / (prices.temporalVcpus * TARGET_UTILISATION))),
    historyShards: shards,
    fanOutPartitions: partitionsFor(peak.fanOutsPerS),
    // A delivery that failed is an activity of its queue, and once more for its retry.
    retryPartitions: partitionsFor((2 * retriesPerS) / input.partitions),
    historyGb: (historyBytesPerS * DAY_S * HISTORY_DAYS) / GB,
  }
}

function databaseOf(
  input: CapacityInput,
  costs: UnitCosts,
  prices: Prices,
  { load, peak }: { readonly load: Load; readonly peak: Fleet },
): YearPlan['database'] {
  const attemptsPerS = peak.deliveriesPerS * (1 + input.failurePercent / 100)
  // Of every event its payload is stored, and logged, once.
  const morePayload = input.payloadBytes - MEASURED_PAYLOAD_BYTES
  const perEvent = (bytes: number) => Math.max(0, bytes + morePayload)
  const walBytesPerS = peak.eventsPerS * perEvent(costs.walBytesPerEvent) + attemptsPerS * costs.walBytesPerDelivery
  const transactionsPerS = peak.eventsPerS * costs.transactionsPerEvent + attemptsPerS * costs.transactionsPerDelivery
  const cores = (peak.eventsPerS * costs.postgresCpuMsPerEvent + attemptsPerS * costs.postgresCpuMsPerDelivery) / 1000
  const attemptsPerDay = load.deliveriesPerDay * (1 + input.failurePercent / 100)
  const storedPerDay = load.eventsPerDay * perEvent(costs.storedBytesPerEvent) + attemptsPerDay * costs.storedBytesPerDelivery
  const gb = (storedPerDay * input.retentionDays + load.webhooks * costs.storedBytesPerWebhook) / GB
  const primaries = Math.max(
    cores / (prices.databaseVcpus * TARGET_UTILISATION),
    walBytesPerS / prices.databaseWalBytesPerS,
    gb / prices.databaseGbMax,
  )
  return {
    cores,
    walBytesPerS,
    transactionsPerS,
    iops: transactionsPerS + (WRITES_PER_LOG_PAGE * walBytesPerS) / PAGE_BYTES,
    gb,
    primaries: Math.max(1, Math.ceil(primaries)),
  }
}

function costOf(
  prices: Prices,
  { average, peak, temporal, database, network }: Pick<YearPlan, 'average' | 'peak' | 'temporal' | 'database' | 'network'>,
): MonthlyCost {
  const workers = average.workers * workerPrice(prices)
  const apis = average.apis * apiPrice(prices)
  const paidIops = Math.max(0, database.iops - database.primaries * prices.databaseIopsIncluded)
  const parts = {
    workers,
    apis,
    temporal: temporal.machines * temporalPrice(prices) + TEMPORAL_DATABASES * databasePrice(prices),
    database: database.primaries * databasePrice(prices) + prices.databaseCopies * paidIops * prices.databaseIops,
    storage: prices.databaseCopies * (database.gb + temporal.historyGb) * prices.databaseGb,
    network: network.gbPerMonth * prices.egressGb,
  }
  const total = Object.values(parts).reduce((sum, one) => sum + one, 0)
  const standing = (peak.workers - average.workers) * workerPrice(prices) + (peak.apis - average.apis) * apiPrice(prices)
  return { ...parts, total, withoutScaling: total + standing }
}
