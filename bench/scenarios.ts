/** What an endpoint of the sink does. `fail-first`: 500 to the first attempts of each delivery, then 200. */
export type Behaviour = 'healthy' | 'hang' | 'fail' | 'fail-first'

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
  readonly retry?: RetryPlan
}

/** How the deliveries of the `retry` scenario fail and wait. */
export interface RetryPlan {
  /** Seconds before each retry: as many attempts fail. Jitter (20 %) comes on top. */
  readonly scheduleS: readonly number[]
  /** Ports of the sink. Endpoints are spread over them, because a worker has 10 requests in flight to one host at most. */
  readonly hosts: number
}

const PAYLOAD_BYTES = 1024
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

export const SCENARIO_NAMES: readonly string[] = [...STANDARD.map(({ name }) => name), 'retry']

export interface RetryOptions {
  readonly endpoints: number
  readonly messages: number
  readonly ratePerS: number
  readonly scheduleS: readonly number[]
}

/** @param name one of `SCENARIO_NAMES` */
export function scenarioOf(name: string, retry: RetryOptions): Scenario {
  const standard = STANDARD.find((scenario) => scenario.name === name)
  if (standard !== undefined) return standard
  const { endpoints, messages, ratePerS, scheduleS } = retry
  const waitsMs = scheduleS.reduce((sum, seconds) => sum + seconds * 1000, 0) * (1 + JITTER)
  return {
    ...closedLoop('retry', all('fail-first', endpoints), messages, 0),
    ratePerS,
    silenceMs: Math.max(...scheduleS) * 1000 * (1 + JITTER) + 30_000,
    capMs: (messages / ratePerS) * 1000 + waitsMs + 180_000,
    retry: { scheduleS, hosts: Math.min(endpoints, 20) },
  }
}

// The service's own.
const JITTER = 0.2

function closedLoop(name: string, behaviours: readonly Behaviour[], messages: number, publishers: number): Scenario {
  return { name, behaviours, messages, publishers, payloadBytes: PAYLOAD_BYTES, silenceMs: 60_000, capMs: 240_000 }
}

function all(behaviour: Behaviour, count: number): Behaviour[] {
  return Array.from({ length: count }, () => behaviour)
}
