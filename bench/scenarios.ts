/**
 * What an endpoint of the sink does. `fail-first`: 500 to the first attempts of each delivery, then 200. `down`: 500 to
 * everything until the sink is told to recover; only what comes after that is counted as arrived.
 */
export type Behaviour = 'healthy' | 'hang' | 'fail' | 'fail-first' | 'down'

/** One workload. */
export interface Scenario {
  readonly name: string
  /** One for each endpoint. */
  readonly behaviours: readonly Behaviour[]
  readonly messages: number
  /** Publishers that each wait for their answer before the next publish. */
  readonly publishers: number
  /** Messages a second, sent on time whatever the answers: then there are no `publishers`. */
  readonly ratePerS?: number
  readonly payloadBytes: number
  /** Given up after so long without an arrival. */
  readonly silenceMs: number
  /** Given up after so long in any case. */
  readonly capMs: number
  /** Ports of the sink that the endpoints are spread over, because a worker has 10 requests in flight to one host; 1 unless told. */
  readonly hosts?: number
  /** How long every endpoint takes to answer; at once unless told. */
  readonly answerAfterMs?: number
  /** Of every endpoint, besides its URL. */
  readonly endpoint?: EndpointSettings
  readonly retry?: RetryPlan
  /** The servers' CPU time is measured over so many seconds before the publishing, and again when everything has arrived. */
  readonly quietS?: number
}

/** Fields of `EndpointIn`. */
export interface EndpointSettings {
  readonly retrySchedule?: readonly number[]
  readonly circuitBreaker?: boolean
  readonly throttleRate?: number
  readonly ordering?: 'fifo'
  readonly batching?: { readonly maxEvents: number; readonly lingerMs: number }
}

/** How the deliveries of the `retry` scenario fail and wait. */
export interface RetryPlan {
  /** Seconds before each retry: as many attempts fail. Jitter (20 %) comes on top. */
  readonly scheduleS: readonly number[]
}

const PAYLOAD_BYTES = 1024
/** A hundred dead of a thousand: without the breaker a delivery to one of them makes six requests in about a minute. */
const DEAD = { schedule: [2, 4, 8, 16, 32], hosts: 20, messages: 100 }
const FAILING: readonly Behaviour[] = ['hang', 'fail', ...all('healthy', 8)]

/** Coupled to the Go harness (`shared/bench/harness/scenario.go`), whose figures have to agree with these. */
const STANDARD: readonly Scenario[] = [
  { ...closedLoop('S0', all('healthy', 1), 200, 8), silenceMs: 20_000, capMs: 60_000 },
  closedLoop('S1', all('healthy', 1), 5000, 32),
  closedLoop('S2', all('healthy', 10), 1000, 16),
  closedLoop('S3', all('healthy', 100), 200, 4),
  { ...closedLoop('S4', all('healthy', 1), 400, 0), ratePerS: 20 },
  closedLoop('S5', FAILING, 500, 16),
  closedLoop('S5-healthy', all('healthy', 10), 500, 16),
  closedLoop('S6', FAILING, 2000, 16),
  closedLoop('S6-healthy', all('healthy', 10), 2000, 16),
]

/** Endpoints that are dead, recover, are ordered or batched. */
const ENDPOINTS: readonly Scenario[] = [
  { ...deadAmong('dead', 'fail'), endpoint: { retrySchedule: DEAD.schedule }, quietS: 60 },
  { ...deadAmong('dead-no-breaker', 'fail'), endpoint: { retrySchedule: DEAD.schedule, circuitBreaker: false }, quietS: 60 },
  deadAmong('dead-healthy', 'healthy'),
  { ...closedLoop('storm', all('down', 500), 40, 4), hosts: DEAD.hosts, silenceMs: 400_000, capMs: 900_000 },
  { ...closedLoop('fifo-one', all('healthy', 1), 5000, 32), endpoint: { ordering: 'fifo' } },
  closedLoop('batch-none', [], 60_000, 64),
  closedLoop('batch-off', all('healthy', 1), 20_000, 64),
  { ...closedLoop('batch', all('healthy', 1), 60_000, 64), endpoint: { batching: { maxEvents: 100, lingerMs: 100 } } },
  { ...closedLoop('batch-idle', all('healthy', 1), 200, 0), ratePerS: 5, endpoint: { batching: { maxEvents: 100, lingerMs: 100 } } },
]

/** What is measured of a bare relay too (`relay.ts`): it keeps no promise that the others are about. */
export const RELAYED: readonly string[] = ['S0', 'S1', 'S2', 'S3', 'S4']

/** A run that has all of these is kept in `bench/results/`. */
export const KEPT: readonly string[] = ['S1', 'S2', 'S3', 'S4', 'S5', 'S6']

/** What is measured unless told otherwise. */
export const DEFAULT_SCENARIOS: readonly string[] = [...STANDARD.map(({ name }) => name), 'retry']
export const SCENARIO_NAMES: readonly string[] = [...DEFAULT_SCENARIOS, ...ENDPOINTS.map(({ name }) => name)]

export interface RetryOptions {
  readonly endpoints: number
  readonly messages: number
  readonly ratePerS: number
  readonly scheduleS: readonly number[]
}

/** @param name one of `SCENARIO_NAMES` */
export function scenarioOf(name: string, retry: RetryOptions): Scenario {
  const fixed = [...STANDARD, ...ENDPOINTS].find((scenario) => scenario.name === name)
  if (fixed !== undefined) return fixed
  const { endpoints, messages, ratePerS, scheduleS } = retry
  const waitsMs = scheduleS.reduce((sum, seconds) => sum + seconds * 1000, 0) * (1 + JITTER)
  return {
    ...closedLoop('retry', all('fail-first', endpoints), messages, 0),
    ratePerS,
    silenceMs: Math.max(...scheduleS) * 1000 * (1 + JITTER) + 30_000,
    capMs: (messages / ratePerS) * 1000 + waitsMs + 180_000,
    hosts: Math.min(endpoints, 20),
    endpoint: { retrySchedule: scheduleS, circuitBreaker: false },
    retry: { scheduleS },
  }
}

// The service's own.
const JITTER = 0.2

function deadAmong(name: string, behaviour: Behaviour): Scenario {
  const scenario = closedLoop(name, [...all(behaviour, 100), ...all('healthy', 900)], DEAD.messages, 4)
  return { ...scenario, hosts: DEAD.hosts }
}

function closedLoop(name: string, behaviours: readonly Behaviour[], messages: number, publishers: number): Scenario {
  return { name, behaviours, messages, publishers, payloadBytes: PAYLOAD_BYTES, silenceMs: 60_000, capMs: 240_000 }
}

function all(behaviour: Behaviour, count: number): Behaviour[] {
  return Array.from({ length: count }, () => behaviour)
}
