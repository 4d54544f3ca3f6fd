import { randomUUID } from 'node:crypto'
import { ApplicationFailure } from '@temporalio/common'
import type { Logger } from 'pino'
import type { RetryPolicy } from '../domain/backoff.ts'
import type { HealthRules } from '../domain/health.ts'
import type { InHand } from '../domain/in-hand.ts'
import type { Prefetch } from '../domain/prefetch.ts'
import type { Lane } from '../domain/names.ts'
import type { PriorityWeights } from '../domain/priority.ts'
import type { Regions } from '../domain/regions.ts'
import type { Retention } from '../domain/retention.ts'
import type { WarmRules } from '../domain/warm-tables.ts'
import type { OutgoingClient } from '../http/client.ts'
import type { RegionClient } from '../http/region-client.ts'
import type { ArchiveEraser } from '../storage/archive/erasure-task.ts'
import type { ConfigCache } from '../storage/config-cache.ts'
import type { EndpointStates } from '../storage/endpoint-states.ts'
import type { Configuration } from '../storage/configuration.ts'
import type { EndpointHealth } from '../storage/endpoint-health.ts'
import type { MessageCache } from '../storage/messages.ts'
import type { Pool } from '../storage/pool.ts'
import type { OperationalEvents } from '../storage/operational-events.ts'
import type { Recorder } from '../storage/recorder.ts'
import type { MailboxWake } from '../storage/records.ts'
import type { Admission } from './admission.ts'
import { createAttached } from './attached.ts'
import { createMakeAttempt, type AttemptWatch } from './attempt.ts'
import { createBegunAttempts } from './begun-attempts.ts'
import { createEndpointRuns } from './endpoint-runs.ts'
import { createFirstAttempts } from './first-attempts.ts'
import { createHandOver } from './hand-over.ts'
import type { HandOverDependencies } from './handing.ts'
import { createHoldBack } from './hold-back.ts'
import { createInFlight } from './in-flight.ts'
import { createGatedSender, createLaneSender } from './lane-sender.ts'
import type { Load } from './load.ts'
import { createMailbox } from './mailbox.ts'
import type { Pace } from './pace.ts'
import type { OpenWorkflows } from './reconcile.ts'
import { createQueueDrain } from './queue-drain.ts'
import type { QueueHints } from './queue-hints.ts'
import { createRedeliver } from './redeliver.ts'
import { createRetention, type TableArchiver } from './retention.ts'
import { createRequestSlots, type RequestSlots, type SlotUsage } from './request-slots.ts'
import type { RunMemory } from './run-memory.ts'
import { createSchedule } from './schedule.ts'
import { createSlowEndpoints } from './slow-endpoints.ts'
import { createTasks } from './tasks.ts'
import { createWarmTables } from './warm-tables.ts'

export interface ActivityDependencies {
  readonly pool: Pool
  readonly configuration: Configuration
  /** Undefined where nothing is archived. */
  readonly archiver?: (ArchiveEraser & TableArchiver) | undefined
  readonly messages: MessageCache
  readonly configCache: ConfigCache
  readonly states: EndpointStates
  readonly recorder: Recorder
  readonly operational: OperationalEvents
  readonly inHand: Pick<InHand, 'begin' | 'done' | 'handedOn'>
  readonly prefetch: Pick<Prefetch, 'routed' | 'begin' | 'ended'>
  readonly wakeMailbox: (wake: MailboxWake) => void
  readonly openWorkflows: OpenWorkflows
  readonly hints: QueueHints
  readonly admission: Admission
  readonly pace: Pace
  readonly health: EndpointHealth
  readonly healthRules: HealthRules
  readonly client: Pick<OutgoingClient, 'post'>
  readonly runs: RunMemory
  readonly policy: RetryPolicy
  readonly retryTimeScale: number
  readonly requestTimeoutMs: number
  readonly partitions: number
  readonly priorityWeights: PriorityWeights
  /** Requests in flight at a time. */
  readonly laneRequests: Readonly<Record<Lane, number>>
  /** Activities at a time of one delivery task queue. */
  readonly laneSlots: Readonly<Record<Lane, number>>
  readonly svixHeaders: boolean
  readonly retention: Retention
  /** Undefined: tables stay where they were made. */
  readonly warm: WarmRules | undefined
  readonly load: Pick<Load, 'firstRequest' | 'fault' | 'addLane'>
  /** Undefined, both: there is no other region. */
  readonly regions: Regions | undefined
  readonly regionClient: Pick<RegionClient, 'call'> | undefined
  /** Told of messages that a region has taken, or that are attempted here after all. */
  readonly onHandedOver?: HandOverDependencies['onHandedOver']
  /** Absent: nobody looks on. */
  readonly watch?: AttemptWatch | undefined
  /** Given what tells the places of each lane. */
  readonly onSlots?: ((usage: () => Readonly<Record<Lane, SlotUsage>>) => void) | undefined
  readonly log: Logger
  /** Aborted when requests in flight are to be given up. */
  readonly stopping: AbortSignal
  /** Names the task queue of this process. */
  readonly processId: string
}

/**
 * All that workflows ask for, and first attempts that begin before their workflow does. Each kind of worker registers all
 * activities; task queues decide what it gets.
 */
export function createActivities(deps: ActivityDependencies) {
  const { laneRequests, priorityWeights: weights } = deps
  const slow = createSlowEndpoints(deps.states)
  const attempts = { ...deps, disableEndpoint: (endpointId: string, appId: string) => deps.configuration.disable({ endpointId, appId }) }
  const makeAttempt = createMakeAttempt(attempts)
  const retrySlots = createRequestSlots({ weights, startingLimit: 2, max: laneRequests.retry })
  const sendRetry = createLaneSender(retrySlots, makeAttempt, slow)
  const gated = (slots: RequestSlots) => createGatedSender(slots, makeAttempt, { slow, gate: deps })
  const drainQueue = createQueueDrain({ ...attempts, slots: retrySlots })
  const fastSlots = createRequestSlots({ weights, isSlow: (endpointId) => slow.has(endpointId), startingLimit: 1, max: laneRequests.fast })
  const slowSlots = createRequestSlots({ weights, startingLimit: 5, max: laneRequests.slow })
  deps.onSlots?.(() => ({ fast: fastSlots.usage(), slow: slowSlots.usage(), retry: retrySlots.usage() }))
  const senders = { fast: gated(fastSlots), slow: gated(slowSlots), retry: gated(retrySlots) }
  for (const [lane, slots] of Object.entries({ fast: fastSlots, slow: slowSlots, retry: retrySlots })) {
    deps.load.addLane({ inFlight: () => slots.usage().used, max: laneRequests[lane as Lane] })
  }
  const inFlight = createInFlight()
  const endpointRuns = createEndpointRuns(deps.laneSlots)
  const begun = createBegunAttempts({ ...deps, sendFast: senders.fast })
  const takesItsTime = (endpointId: string) => fastSlots.takesItsTime(endpointId)
  const activities = {
    ...guarded(createFirstAttempts({ ...deps, sendFast: senders.fast, takesItsTime, inFlight, begun, endpointRuns }), deps),
    ...guarded(createAttached({ inFlight, begun }), deps),
    ...guarded(createHoldBack(deps), deps),
    ...guarded(createHandOver(deps), deps),
    ...guarded(createRedeliver({ ...deps, senders, endpointRuns }), deps),
    ...guarded(createMailbox({ ...deps, sendRetry, drainQueue }), deps),
    ...guarded(createTasks(deps), deps),
    ...guarded(createSchedule(deps), deps),
    ...guarded(createRetention(deps), deps),
    ...guarded(createWarmTables(deps), deps),
  }
  return { activities, begun }
}

export type Activities = ReturnType<typeof createActivities>['activities']

type AnyActivity = (input: never) => Promise<unknown>

/**
 * The activities' edge: what is not a Temporal failure already is a fault of ours or of a database. It is logged whole, and
 * history gets its kind and a reference to the log line: messages and stacks of unknown errors may hold anything.
 */
function guarded<T extends Record<string, AnyActivity>>(activities: T, { log, load }: Pick<ActivityDependencies, 'log' | 'load'>): T {
  const wrap =
    (name: string, activity: AnyActivity): AnyActivity =>
    async (input) => {
      try {
        return await activity(input)
      } catch (error) {
        if (error instanceof ApplicationFailure) throw error
        load.fault()
        const reference = randomUUID()
        log.error({ activity: name, reference, err: error }, 'activity.failed')
        const type = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'Fault'
        const failure = ApplicationFailure.retryable(`${name} failed, see log reference ${reference}`, type)
        failure.stack = ''
        throw failure
      }
    }
  return Object.fromEntries(Object.entries(activities).map(([name, activity]) => [name, wrap(name, activity)])) as T
}
