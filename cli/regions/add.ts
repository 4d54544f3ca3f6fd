import type { TemporalAccess } from '../../config/temporal.ts'
import type { Regions } from '../../domain/regions.ts'
import { silentProgress, type Progress } from '../progress.ts'
import { describeReplication, ensureGlobalNamespace, waitForNamespace, type NamespaceReplication } from './global-namespace.ts'
import { namespaceOf, withClusters } from './region-cluster.ts'
import { pairClusters, type Cluster } from './temporal-clusters.ts'

export interface AddRegionRequest {
  /** Of the regions file. */
  readonly regions: Regions
  readonly region: string
  /** Of all clusters; absent: they take everybody, without TLS. */
  readonly access?: TemporalAccess | undefined
  readonly progress?: Progress
}

/** The namespace of a region as each cluster has it, that of the region first. */
export interface AddRegionReport {
  readonly region: string
  readonly namespace: string
  readonly peers: readonly string[]
  readonly at: readonly NamespaceReplication[]
}

/**
 * Has the Temporal clusters of a region and of its peers know each other, and replicates the region's namespace to the
 * peers. Repeating it changes nothing: a namespace that is active at a peer stays there.
 * @throws {CommandFailure} `temporal_failed`, `clusters_incompatible`
 */
export async function addRegion({ regions, region, access, progress = silentProgress }: AddRegionRequest): Promise<AddRegionReport> {
  const { peers } = regions.get(region)
  const names = [region, ...peers]
  const namespace = namespaceOf(region)
  return withClusters({ regions, names, access }, async (clusterOf) => {
    for (const name of names) progress.say(`${name}: Temporal ${clusterOf(name).serverVersion} answers at ${clusterOf(name).peerAddress}`)
    await pairAll(names.map(clusterOf), progress)
    const alone = peers.length === 0
    const text = alone
      ? `making ${namespace} global, with ${region} alone: it has no peers`
      : `replicating ${namespace} to ${peers.join(', ')}`
    const home = clusterOf(region)
    await progress.step(text, () => ensureGlobalNamespace(home, { namespace, clusters: names, activeCluster: region }))
    for (const peer of peers) await progress.step(`waiting until ${peer} has it`, () => waitForNamespace(clusterOf(peer), namespace))
    const at = await Promise.all(names.map((name) => describeReplication(clusterOf(name), namespace)))
    progress.say(`${namespace} is active at ${at[0]!.activeCluster}, failover version ${at[0]!.failoverVersion}`)
    return { region, namespace, peers, at }
  })
}

/** Each with each: a peer that has taken over replicates to the others. */
async function pairAll(clusters: readonly Cluster[], progress: Progress): Promise<void> {
  for (const [i, one] of clusters.entries()) {
    for (const other of clusters.slice(i + 1)) {
      await progress.step(`telling ${one.name} and ${other.name} of each other`, () => pairClusters(one, other))
    }
  }
}
