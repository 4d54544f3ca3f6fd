import type { Distribution } from './statistics.ts'

/** Whose figures they are: the service's, or those of a bare relay (`relay.ts`). */
export type Peer = 'tidings' | 'relay'

/**
 * One run of one scenario: a line of the JSON file. Names and meanings are those of the Go harness, whose `summary` reads these
 * lines too. Latency, lost, duplicated and deliveries/s are of the endpoints that are not down.
 */
export interface Result {
  readonly peer: Peer
  readonly scenario: string
  readonly rep: number
  readonly start: string
  readonly f: number
  readonly healthy_f: number
  readonly m: number
  readonly c: number
  readonly rate?: number | undefined
  readonly accepted: number
  readonly publish_errors: number
  readonly first_error?: string | undefined
  readonly publish_seconds: number
  readonly total_seconds: number
  readonly accepted_per_s: number
  readonly deliveries_per_s: number
  readonly delivered: number
  readonly lost: number
  readonly duplicated: number
  readonly timed_out?: string | undefined
  readonly latency: Distribution
  readonly publish_latency: Distribution
  readonly hang_peak: number
  readonly unhealthy_hits: number
  /** HTTP requests at the sink, whatever it answered. */
  readonly requests: number
  /** Seconds, by process group; `driver+sink` is this process. */
  readonly cpu_s: Readonly<Record<string, number>>
  readonly cpu_s_total: number
  /** What the machine's other processes used. */
  readonly other_cpu_s: number
  /** The most resident memory by process group, in MB. */
  readonly rss_mb: Readonly<Record<string, number>>
  /** Of the service's Postgres; undefined where nobody said where it is, and of the relay, which has none. */
  readonly database?: DatabaseCost | undefined
  readonly load1_max: number
  readonly retry?: Lateness | undefined
  readonly quiet?: Quiet | undefined
  readonly recovery?: Recovery | undefined
}

/** From before the first publish until shortly after the last arrival, with all that the service does besides. */
export interface DatabaseCost {
  /** Undefined where Postgres does not count them. */
  readonly statements_per_delivery?: number | undefined
  readonly transactions_per_delivery: number
  /** Of the write-ahead log. */
  readonly wal_bytes_per_delivery: number
}

/** CPU seconds by process group over `seconds` in which nothing is published: before the run, and after it. */
export interface Quiet {
  readonly seconds: number
  readonly before: Readonly<Record<string, number>>
  readonly after: Readonly<Record<string, number>>
  /** Requests at the sink while `after` was measured. */
  readonly requests: number
}

/** What came after endpoints that were down have recovered. */
export interface Recovery {
  /** Requests before they recovered. */
  readonly refused: number
  /** Seconds after the recovery until the first and the last delivery arrived. */
  readonly first_s: number
  readonly last_s: number
  /** Arrivals in each second from that of the first on. */
  readonly per_s: readonly number[]
  /** The most that one endpoint got in a second. */
  readonly endpoint_per_s_max: number
  /** The most CPU seconds that a process group used in a second. */
  readonly cpu_max: Readonly<Record<string, number>>
}

/** How late retries left, against the time that the attempt before had recorded for them (`attempt.next_attempt_at`). */
export interface Lateness {
  readonly retries: number
  /** Deliveries that waited at one moment, at most. */
  readonly waiting_max: number
  /** Retries that were due in one second, at most: more than the machine can do is late whatever the timers do. */
  readonly due_per_s_max: number
  /** The request was signed and handed to its connection (`attempt.created_at`). */
  readonly left: Distribution
  /** The request's body was at the sink. */
  readonly arrived: Distribution
  /** `left`, by the number of the retry. */
  readonly left_by_retry: readonly Distribution[]
}
