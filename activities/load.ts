import { LATENCY_BOUNDS_MS, latencyClassOf } from '../domain/health.ts'
import type { AttemptOutcome } from '../domain/outcome.ts'
import type { EndpointHealth } from '../storage/endpoint-health.ts'

/** How full one lane of requests is. */
export interface LaneUse {
  readonly inFlight: () => number
  readonly max: number
}

/** What a process has counted since it was asked last. */
export interface LoadCounts {
  readonly attempts: number
  readonly endpointFailures: number
  readonly ownFailures: number
  /** First requests by the time since the publish, in the classes of `LATENCY_BOUNDS_MS`. */
  readonly firstRequests: readonly number[]
}

/** Counts the work of this process in memory, for what it reports to the autoscaler. */
export interface Load {
  /** Counts what requests come to. */
  counted(health: EndpointHealth): EndpointHealth
  /** The first request of a delivery begins. @param waitedMs since its message could be sent */
  firstRequest(waitedMs: number): void
  /** An activity failed by a fault of ours. */
  fault(): void
  /** Requests of one more lane of this process. */
  addLane(lane: LaneUse): void
  readonly lanes: readonly LaneUse[]
  /** Takes the counts. */
  take(): LoadCounts
}

export function createLoad(): Load {
  const lanes: LaneUse[] = []
  let attempts = 0
  let endpointFailures = 0
  let ownFailures = 0
  let firstRequests = noRequests()
  const count = ({ kind }: AttemptOutcome) => {
    attempts++
    if (kind === 'interrupted') ownFailures++
    else if (kind !== 'delivered') endpointFailures++
  }
  return {
    lanes,
    counted: (health) => ({
      ...health,
      begin(endpoint) {
        const ended = health.begin(endpoint)
        return (outcome) => {
          count(outcome)
          ended(outcome)
        }
      },
    }),
    firstRequest: (waitedMs) => void firstRequests[latencyClassOf(waitedMs)]!++,
    fault() {
      attempts++
      ownFailures++
    },
    addLane: (lane) => void lanes.push(lane),
    take() {
      const counts = { attempts, endpointFailures, ownFailures, firstRequests }
      attempts = endpointFailures = ownFailures = 0
      firstRequests = noRequests()
      return counts
    },
  }
}

function noRequests(): number[] {
  return Array<number>(LATENCY_BOUNDS_MS.length + 1).fill(0)
}
