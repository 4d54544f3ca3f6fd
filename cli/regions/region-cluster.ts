import type { TemporalAccess } from '../../config/temporal.ts'
import type { Regions } from '../../domain/regions.ts'
import { CommandFailure } from '../failure.ts'
import { openCluster, type Cluster } from './temporal-clusters.ts'

/** The namespace of a region's workflows. */
export function namespaceOf(region: string): string {
  return `tidings-${region}`
}

/**
 * Opens the Temporal cluster of a region, at the address that the regions file gives. The caller closes it.
 * @throws {CommandFailure} `temporal_failed` where it does not answer, or under another name
 */
export async function openRegionCluster(regions: Regions, region: string, access?: TemporalAccess): Promise<Cluster> {
  const { temporalAddress: address } = regions.get(region)
  const cluster = await openCluster({ address, ...(access === undefined ? {} : { access }) })
  if (cluster.name === region) return cluster
  await cluster.close()
  throw new CommandFailure(
    'temporal_failed',
    `the Temporal cluster at ${address} calls itself ${cluster.name}: that of the region ${region} must have its name (TEMPORAL_CLUSTER)`,
  )
}

/** Runs `work` with the clusters of some regions, and closes them. @throws as `openRegionCluster` */
export async function withClusters<T>(
  {
    regions,
    names,
    access,
  }: { readonly regions: Regions; readonly names: readonly string[]; readonly access?: TemporalAccess | undefined },
  work: (clusterOf: (region: string) => Cluster) => Promise<T>,
): Promise<T> {
  const opened = new Map<string, Cluster>()
  try {
    const opening = await Promise.allSettled(
      names.map(async (name) => void opened.set(name, await openRegionCluster(regions, name, access))),
    )
    const failed = opening.find((one) => one.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    return await work((name) => opened.get(name)!)
  } finally {
    await Promise.all([...opened.values()].map((cluster) => cluster.close()))
  }
}
