/** Temporal clusters, and which of them know each other. What operators do by hand instead is in docs/regions.md. */
import { Connection } from '@temporalio/client'
import type { TemporalAccess } from '../../config/temporal.ts'
import { CommandFailure, reasonOf } from '../failure.ts'

const CONNECT_TIMEOUT_MS = 10_000
// A cluster calls the other one before it answers, and may be on another continent.
const CALL_TIMEOUT_MS = 30_000

export interface ClusterAddress {
  /** host:port at which this process reaches its frontend. */
  readonly address: string
  /** host:port at which other clusters reach it; absent: the same. */
  readonly peerAddress?: string
  /** Absent: it takes everybody, without TLS. */
  readonly access?: TemporalAccess
}

/** A cluster that answers. */
export interface Cluster {
  /** As it calls itself: the name of its region. */
  readonly name: string
  readonly connection: Connection
  readonly peerAddress: string
  /** Of this cluster alone; what wrote a history's event is `version % failoverVersionIncrement`. */
  readonly initialFailoverVersion: number
  readonly failoverVersionIncrement: number
  readonly historyShards: number
  readonly serverVersion: string
  close(): Promise<void>
}

/** What a cluster knows of another. */
export interface RemoteCluster {
  readonly name: string
  readonly address: string
  readonly isConnected: boolean
  readonly isReplicating: boolean
}

/**
 * Connects to a cluster and asks it what it is. The caller closes it.
 * @throws {CommandFailure} `temporal_failed`
 */
export async function openCluster({ address, peerAddress = address, access }: ClusterAddress): Promise<Cluster> {
  // `Connection.connect` leaves what it could not connect open, and trying.
  const connection = Connection.lazy({ address, connectTimeout: CONNECT_TIMEOUT_MS, ...access })
  try {
    await connection.ensureConnected()
    const info = await bounded(connection, () => connection.workflowService.getClusterInfo({}))
    return {
      name: info.clusterName,
      connection,
      peerAddress,
      initialFailoverVersion: info.initialFailoverVersion.toNumber(),
      failoverVersionIncrement: info.failoverVersionIncrement.toNumber(),
      historyShards: info.historyShardCount,
      serverVersion: info.serverVersion,
      close: () => connection.close(),
    }
  } catch (cause) {
    await connection.close()
    throw new CommandFailure('temporal_failed', `Temporal does not answer at ${address} (${reasonOf(cause)})`, { cause })
  }
}

/** Runs calls of a connection that end after half a minute at the latest. */
export function bounded<T>(connection: Connection, work: () => Promise<T>): Promise<T> {
  return connection.withDeadline(Date.now() + CALL_TIMEOUT_MS, work)
}

/** The others that a cluster has been told of. It acts on them within a minute. @throws {CommandFailure} `temporal_failed` */
export async function remoteClusters({ name, connection }: Cluster): Promise<readonly RemoteCluster[]> {
  try {
    const { clusters } = await bounded(connection, () => connection.operatorService.listClusters({ pageSize: 100 }))
    return clusters
      .filter((one) => one.clusterName !== name)
      .map((one) => ({
        name: one.clusterName ?? '',
        address: one.address ?? '',
        isConnected: one.isConnectionEnabled === true,
        isReplicating: one.isReplicationEnabled === true,
      }))
  } catch (cause) {
    throw new CommandFailure('temporal_failed', `the Temporal cluster ${name} does not list the others (${reasonOf(cause)})`, { cause })
  }
}

/**
 * Tells a cluster of another, or of another address of it: then it connects, and sends it what namespaces of both have.
 * Each of two clusters has to be told. The other must be reachable from it, since it is asked what it is.
 * @throws {CommandFailure} `clusters_incompatible` or `temporal_failed`
 */
export async function addRemoteCluster(cluster: Cluster, other: Cluster): Promise<void> {
  requireCompatible(cluster, other)
  const { connection } = cluster
  try {
    await bounded(connection, () =>
      connection.operatorService.addOrUpdateRemoteCluster({
        frontendAddress: other.peerAddress,
        enableRemoteClusterConnection: true,
        enableReplication: true,
      }),
    )
  } catch (cause) {
    throw new CommandFailure(
      'temporal_failed',
      `the Temporal cluster ${cluster.name} did not take ${other.name} at ${other.peerAddress} (${reasonOf(cause)})`,
      { cause },
    )
  }
}

/** Tells two clusters of each other. @throws {CommandFailure} as `addRemoteCluster` */
export async function pairClusters(one: Cluster, other: Cluster): Promise<void> {
  await addRemoteCluster(one, other)
  await addRemoteCluster(other, one)
}

/** What the servers would refuse too, or not say plainly. */
function requireCompatible(one: Cluster, other: Cluster): void {
  const both = `the Temporal clusters ${one.name} (${one.peerAddress}) and ${other.name} (${other.peerAddress})`
  const refuse = (why: string): never => {
    throw new CommandFailure('clusters_incompatible', `${both} cannot replicate: ${why}`)
  }
  if (one.name === other.name) refuse('they have one name: each needs its own (TEMPORAL_CLUSTER)')
  if (one.failoverVersionIncrement !== other.failoverVersionIncrement) {
    refuse(`their failoverVersionIncrement differs, ${one.failoverVersionIncrement} and ${other.failoverVersionIncrement}`)
  }
  if (one.initialFailoverVersion === other.initialFailoverVersion) {
    refuse(`both have the version ${one.initialFailoverVersion}: each needs its own (TEMPORAL_CLUSTER_VERSION)`)
  }
  const [fewer = 1, more = 1] = [one.historyShards, other.historyShards].toSorted((a, b) => a - b)
  if (more % fewer !== 0) refuse(`neither number of history shards, ${fewer} and ${more}, is a multiple of the other`)
}
