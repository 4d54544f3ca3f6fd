import type { Server } from 'node:http'
import type { Logger } from 'pino'
import { collectDefaultMetrics, Registry } from 'prom-client'
import { RATE_LIMITED, type Admission } from '../activities/admission.ts'
import type { AttemptWatch } from '../activities/attempt.ts'
import type { HandOverDependencies } from '../activities/handing.ts'
import type { SlotUsage } from '../activities/request-slots.ts'
import type { Intake } from '../api/dependencies.ts'
import type { Lane } from '../domain/names.ts'
import type { Retention } from '../domain/retention.ts'
import type { ConfigCache } from '../storage/config-cache.ts'
import type { ConfigCopy } from '../storage/config-copy.ts'
import type { OutgoingClient } from '../http/client.ts'
import type { EndpointHealth } from '../storage/endpoint-health.ts'
import type { EndpointStates } from '../storage/endpoint-states.ts'
import type { Pool } from '../storage/pool.ts'
import type { Replicas } from '../storage/replicas.ts'
import { exposeAccepting, exposeRequests } from './metrics-api.ts'
import { createAttemptMetrics } from './metrics-attempts.ts'
import { createEndpointMetrics } from './metrics-endpoints.ts'
import { exposeCache, exposeConnections, exposeCopy, exposeEventLoop, exposeSlots, exposeStates } from './metrics-process.ts'
import { exposeDatabase, type StatementTimes } from './metrics-database.ts'
import { exposeQueues } from './metrics-queues.ts'
import { readCounter } from './metrics-read.ts'
import { countHandedOver, exposeHandOvers } from './metrics-regions.ts'
import { exposeReplicas } from './metrics-replicas.ts'
import { exposeRetention } from './metrics-retention.ts'
import { exposeStandbys } from './metrics-standbys.ts'

/** What this process measures of itself, for Prometheus. Labels name the few busiest endpoints: there may be a million. */
export interface Metrics {
  /** Counts what requests come to. */
  counted(health: EndpointHealth): EndpointHealth
  /** Counts what may not be sent. */
  held(admission: Admission): Admission
  /** Counts what attempts make of deliveries. */
  readonly watch: AttemptWatch
  /** Tells how connections of this process are used. */
  connections(client: Pick<OutgoingClient, 'usage'>): void
  /** Tells how the places of its lanes are used. */
  slots(usage: () => Readonly<Record<Lane, SlotUsage>>): void
  /** Counts what is accepted. */
  accepting<T extends Intake>(intake: T): T
  /** Counts the requests of an API server. */
  requests(server: Server): void
  /** Counts messages that were handed to other regions; undefined where there are none. */
  readonly handedOver: HandOverDependencies['onHandedOver']
  /** Tells where history is read, and how far behind replicas are. */
  replicas(replicas: Pick<Replicas, 'status' | 'counts'>): void
  /** Tells what waits in Postgres, and what is there beyond its time. */
  queues(): void
  /** The text that Prometheus reads. */
  text(): Promise<string>
}

export interface MetricsDependencies {
  readonly states: EndpointStates
  readonly configCache: Pick<ConfigCache, 'counts'>
  /** Absent where regions share no configuration. */
  readonly copy?: Pick<ConfigCopy, 'ageMs'> | undefined
  readonly pool: Pool
  readonly log: Logger
  /** Whether Postgres may have standbys in other regions. */
  readonly standbys?: boolean
  /** Absent: statements are not timed. */
  readonly statements?: StatementTimes | undefined
  /** How long history is kept. */
  readonly retention: Retention
  /** How many endpoints have labels of their own. */
  readonly endpoints: number
  /** Names of other regions, where there are some. */
  readonly otherRegions?: readonly string[]
}

export function createMetrics(deps: MetricsDependencies): Metrics {
  const { states, configCache, copy, pool, log, statements, standbys, retention, endpoints: max, otherRegions = [] } = deps
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const attempts = createAttemptMetrics(registry)
  const endpoints = createEndpointMetrics(registry, states, max)
  const reasons = new Map<string, number>()
  readCounter(
    registry,
    { name: 'tidings_held_total', help: 'Deliveries that were parked because they might not be sent yet, by reason', labels: ['reason'] },
    (add) => {
      for (const [reason, count] of reasons) add({ reason }, count)
    },
  )
  exposeStates(registry, states)
  exposeCache(registry, configCache)
  if (copy !== undefined) exposeCopy(registry, copy)
  exposeEventLoop(registry)
  exposeDatabase(registry, pool, statements)
  const count = (endpointId: string, reason: string) => {
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
    if (reason === RATE_LIMITED) endpoints.held(endpointId)
  }
  return {
    watch: attempts.watch,
    counted: (health) => ({
      ...health,
      begin(endpoint) {
        const ended = health.begin(endpoint)
        return (outcome) => {
          attempts.count(outcome)
          endpoints.count(endpoint.id, outcome)
          ended(outcome)
        }
      },
    }),
    held: (admission) => ({
      ...admission,
      look(endpoint, purpose) {
        const one = admission.look(endpoint, purpose)
        if (one !== undefined) count(endpoint.id, one.reason)
        return one
      },
      check(endpoint, purpose) {
        const checked = admission.check(endpoint, purpose)
        return checked?.then((one) => {
          if (one !== undefined && purpose !== 'mailbox') count(endpoint.id, one.reason)
          return one
        })
      },
    }),
    connections: (client) => exposeConnections(registry, client),
    slots: (usage) => exposeSlots(registry, usage),
    accepting: (intake) => exposeAccepting(registry, intake),
    requests: (server) => exposeRequests(registry, server),
    handedOver: otherRegions.length === 0 ? undefined : countHandedOver(registry),
    replicas: (replicas) => exposeReplicas(registry, replicas),
    queues() {
      exposeQueues(registry, { pool, log })
      exposeRetention(registry, { pool, retention, log })
      if (standbys === true) exposeStandbys(registry, { pool, log })
      if (otherRegions.length > 0) exposeHandOvers(registry, { pool, log }, otherRegions)
    },
    text: () => registry.metrics(),
  }
}
