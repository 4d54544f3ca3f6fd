/** A namespace that several Temporal clusters have, one of which is active. What operators do by hand is in docs/regions.md. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { WorkflowClient } from '@temporalio/client'
import { msNumberToTs } from '@temporalio/common/lib/time.js'
import proto from '@temporalio/proto'
import { ensureSearchAttributes, NOT_FORWARDED, RETENTION_S, takesSearchAttributes } from '../embedded/namespace.ts'
import { CommandFailure, reasonOf } from '../failure.ts'
import { bounded, type Cluster } from './temporal-clusters.ts'

const { ReplicationState } = proto.temporal.api.enums.v1

// A cluster looks once a minute for others that it was told of (`system.clusterMetadataRefreshInterval`).
const CLUSTER_KNOWN_TIMEOUT_MS = 90_000
const REPLICATED_TIMEOUT_MS = 60_000
const POLL_MS = 200
const GRPC_INVALID_ARGUMENT = 3
const GRPC_NOT_FOUND = 5

const SYSTEM_NAMESPACE = 'temporal-system'
const SYSTEM_TASK_QUEUE = 'default-worker-tq'
const HANDOVER_WORKFLOW = 'namespace-handover'
/** Lags of the peer above which a handover does not begin to hold calls back; the server's least. */
const HANDOVER_LAG_MAX_S = 5
/** After this, calls are let through again where they were; the server's least. */
const HANDOVER_TIMEOUT_S = 30
const HANDOVER_WAIT_MS = 120_000

export interface GlobalNamespace {
  readonly namespace: string
  /** Names of all clusters that have it. */
  readonly clusters: readonly string[]
  readonly activeCluster: string
}

/** What one cluster has of a namespace. Others have the same a second later, as long as they hear of each other. */
export interface NamespaceReplication extends GlobalNamespace {
  /** Whose answer this is. */
  readonly cluster: string
  readonly isGlobal: boolean
  /** Grows with each failover. The cluster whose failover made it is `version % failoverVersionIncrement`. */
  readonly failoverVersion: number
  /** During a planned failover: calls wait until the peer has everything. */
  readonly isHandingOver: boolean
  readonly failovers: readonly { readonly at: Date; readonly failoverVersion: number }[]
  /** Workflows that run, as this cluster knows them; a passive one that is behind has others. Approximate. */
  readonly running: number
}

/**
 * Makes sure that a namespace is there, global, and replicated to these clusters, with our search attributes and seven
 * days of retention. One that exists stays active where it is, keeps the clusters that it has, and is made global where it
 * is not. What it holds already is replicated when it changes next. Peers have it a moment later: `waitForNamespace`.
 * @param cluster the one at which it is, or will be, active
 * @throws {CommandFailure} `temporal_failed`, also where the cluster knows none of a name after 90 s
 */
export async function ensureGlobalNamespace(cluster: Cluster, wanted: GlobalNamespace): Promise<void> {
  const deadline = performance.now() + CLUSTER_KNOWN_TIMEOUT_MS
  for (;;) {
    try {
      await bounded(cluster.connection, () => register(cluster, wanted))
      await bounded(cluster.connection, () => ensureSearchAttributes(cluster.connection, wanted.namespace))
      return
    } catch (cause) {
      if (isUnknownCluster(cause) && performance.now() < deadline) {
        await delay(POLL_MS)
        continue
      }
      throw new CommandFailure(
        'temporal_failed',
        `the Temporal cluster ${cluster.name} could not replicate the namespace ${wanted.namespace} (${reasonOf(cause)})`,
        { cause },
      )
    }
  }
}

const hasCode = (error: unknown, code: number) => (error as { code?: unknown }).code === code

const isUnknownCluster = (error: unknown) => hasCode(error, GRPC_INVALID_ARGUMENT) && /cluster/i.test(reasonOf(error))

async function register({ connection }: Cluster, { namespace, clusters, activeCluster }: GlobalNamespace): Promise<void> {
  const { workflowService } = connection
  const retention = msNumberToTs(RETENTION_S * 1000)
  const named = (names: Iterable<string>) => [...names].map((clusterName) => ({ clusterName }))
  const existing = await workflowService.describeNamespace({ namespace }).catch((error: unknown) => {
    if (hasCode(error, GRPC_NOT_FOUND)) return undefined
    throw error
  })
  if (existing === undefined) {
    const place = { isGlobalNamespace: true, clusters: named(clusters), activeClusterName: activeCluster }
    await workflowService.registerNamespace({ namespace, workflowExecutionRetentionPeriod: retention, ...place })
    return
  }
  if (!existing.isGlobalNamespace) await workflowService.updateNamespace({ namespace, promoteNamespace: true })
  const has = new Set((existing.replicationConfig?.clusters ?? []).map((one) => one.clusterName ?? ''))
  if (clusters.some((name) => !has.has(name))) {
    await workflowService.updateNamespace({ namespace, replicationConfig: { clusters: named(new Set([...has, ...clusters])) } })
  }
  if (Number(existing.config?.workflowExecutionRetentionTtl?.seconds ?? 0) !== RETENTION_S) {
    await workflowService.updateNamespace({ namespace, config: { workflowExecutionRetentionTtl: retention } })
  }
}

/**
 * Waits until a cluster has a namespace that another one made, and takes starts with the search attributes.
 * @throws {CommandFailure} `temporal_failed` after a minute
 */
export async function waitForNamespace(cluster: Cluster, namespace: string): Promise<void> {
  const { connection, name } = cluster
  const deadline = performance.now() + REPLICATED_TIMEOUT_MS
  for (;;) {
    try {
      if (await bounded(connection, () => takesSearchAttributes(connection, namespace))) return
    } catch (cause) {
      throw new CommandFailure('temporal_failed', `the Temporal cluster ${name} does not answer (${reasonOf(cause)})`, { cause })
    }
    if (performance.now() > deadline) {
      throw new CommandFailure(
        'temporal_failed',
        `the namespace ${namespace} has not reached the Temporal cluster ${name} in ${REPLICATED_TIMEOUT_MS / 1000} s: does it connect to its peers?`,
      )
    }
    await delay(POLL_MS)
  }
}

/** What a cluster has of a namespace, also while others are away. @throws {CommandFailure} `temporal_failed` */
export async function describeReplication({ name, connection }: Cluster, namespace: string): Promise<NamespaceReplication> {
  const { workflowService } = connection
  try {
    const [described, counted] = await bounded(connection, () =>
      connection.withMetadata(NOT_FORWARDED, () =>
        Promise.all([
          workflowService.describeNamespace({ namespace }),
          workflowService.countWorkflowExecutions({ namespace, query: "ExecutionStatus = 'Running'" }),
        ]),
      ),
    )
    const config = described.replicationConfig
    return {
      cluster: name,
      namespace,
      isGlobal: described.isGlobalNamespace,
      activeCluster: config?.activeClusterName ?? '',
      clusters: (config?.clusters ?? []).map((one) => one.clusterName ?? ''),
      failoverVersion: described.failoverVersion.toNumber(),
      isHandingOver: config?.state === ReplicationState.REPLICATION_STATE_HANDOVER,
      failovers: described.failoverHistory.map((one) => ({
        at: new Date(Number(one.failoverTime?.seconds ?? 0) * 1000),
        failoverVersion: Number(one.failoverVersion ?? 0),
      })),
      running: counted.count.toNumber(),
    }
  } catch (cause) {
    throw new CommandFailure(
      'temporal_failed',
      `the Temporal cluster ${name} could not describe the namespace ${namespace} (${reasonOf(cause)})`,
      { cause },
    )
  }
}

/**
 * Makes a cluster the active one of a namespace, whether the one that was active answers or not. What that one had not
 * replicated yet is not there, and is dropped when it returns, signals apart. Repeating it changes nothing.
 * @throws {CommandFailure} `failover_failed` where the cluster does not have the namespace, else `temporal_failed`
 */
export async function failOver(to: Cluster, namespace: string): Promise<NamespaceReplication> {
  const before = await requireReplicated(to, namespace)
  const { workflowService } = to.connection
  try {
    if (before.activeCluster !== to.name) {
      await bounded(to.connection, () => workflowService.updateNamespace({ namespace, replicationConfig: { activeClusterName: to.name } }))
    }
    // A planned failover that was cut off would hold calls back for ever.
    if (before.isHandingOver) {
      const replicationConfig = { state: ReplicationState.REPLICATION_STATE_NORMAL }
      await bounded(to.connection, () => workflowService.updateNamespace({ namespace, replicationConfig }))
    }
  } catch (cause) {
    throw new CommandFailure(
      'temporal_failed',
      `the Temporal cluster ${to.name} did not become active for the namespace ${namespace} (${reasonOf(cause)})`,
      { cause },
    )
  }
  return describeReplication(to, namespace)
}

async function requireReplicated(cluster: Cluster, namespace: string): Promise<NamespaceReplication> {
  const found = await describeReplication(cluster, namespace)
  if (!found.isGlobal || !found.clusters.includes(cluster.name)) {
    throw new CommandFailure('failover_failed', `the namespace ${namespace} is not replicated to the Temporal cluster ${cluster.name}`)
  }
  return found
}

/**
 * Moves a namespace from a cluster to another while both answer, without losing or repeating anything: Temporal waits
 * until the peer is less than 5 s behind, holds calls back until it has everything, and makes it active. Where the peer
 * does not catch up the namespace stays where it was.
 * @throws {CommandFailure} `failover_failed` where the peer is behind or the cluster is not the active one, else `temporal_failed`
 */
export async function handOver(from: Cluster, to: Cluster, namespace: string): Promise<NamespaceReplication> {
  await requireReplicated(to, namespace)
  const { activeCluster } = await describeReplication(from, namespace)
  if (activeCluster === to.name) return describeReplication(to, namespace)
  if (activeCluster !== from.name) {
    throw new CommandFailure('failover_failed', `the namespace ${namespace} is active at ${activeCluster}, not at ${from.name}`)
  }
  const client = new WorkflowClient({ connection: from.connection, namespace: SYSTEM_NAMESPACE })
  try {
    const handle = await client.start(HANDOVER_WORKFLOW, {
      workflowId: `${HANDOVER_WORKFLOW}-${namespace}-${randomUUID()}`,
      taskQueue: SYSTEM_TASK_QUEUE,
      args: [
        {
          Namespace: namespace,
          RemoteCluster: to.name,
          AllowedLaggingSeconds: HANDOVER_LAG_MAX_S,
          HandoverTimeoutSeconds: HANDOVER_TIMEOUT_S,
        },
      ],
    })
    const result = await Promise.race([
      handle.result().then(() => 'done' as const),
      delay(HANDOVER_WAIT_MS, 'late' as const, { ref: false }),
    ])
    if (result === 'late') {
      // Cancelled, it lets calls through again.
      await handle.cancel()
      throw new CommandFailure('failover_failed', `the namespace ${namespace} stays at ${from.name}: ${to.name} is too far behind`)
    }
  } catch (cause) {
    if (cause instanceof CommandFailure) throw cause
    const reason = reasonOf((cause as { cause?: unknown }).cause ?? cause)
    throw new CommandFailure('failover_failed', `the namespace ${namespace} could not be handed over to ${to.name} (${reason})`, { cause })
  }
  return waitUntilActive(to, namespace)
}

/** The cluster that gave a namespace away knows it at once, the other a second later. */
async function waitUntilActive(cluster: Cluster, namespace: string): Promise<NamespaceReplication> {
  const deadline = performance.now() + REPLICATED_TIMEOUT_MS
  for (;;) {
    const found = await describeReplication(cluster, namespace)
    if (found.activeCluster === cluster.name && !found.isHandingOver) return found
    if (performance.now() > deadline) {
      throw new CommandFailure(
        'failover_failed',
        `the Temporal cluster ${cluster.name} has not heard that it has the namespace ${namespace}`,
      )
    }
    await delay(POLL_MS)
  }
}
