import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { startPostgres, type EmbeddedPostgres } from '../../cli/embedded/postgres.ts'
import { existingTemporalServer, type TemporalServerPrograms } from '../../cli/embedded/temporal-server-program.ts'
import { startTemporalServer, type TemporalServer } from '../../cli/embedded/temporal-server.ts'
import { openCluster, type Cluster } from '../../cli/regions/temporal-clusters.ts'
import { readConfig } from '../../config/index.ts'
import { createScratch } from './scratch.ts'

/** Why a test of regions skips. */
export const NO_TEMPORAL_SERVER =
  'no temporal-server: .ci/run builds it where Go is (8 minutes on two cores), or TIDINGS_TEMPORAL_SERVER names one'

/** The programs where they are there; a test does not wait for a build. */
export function temporalServerPrograms(): Promise<TemporalServerPrograms | undefined> {
  const { temporalServer, cacheDir } = readConfig()
  return existingTemporalServer({ program: temporalServer, cacheDir })
}

/** Clusters of a test's own, each on databases of its own in one Postgres. */
export interface TestClusters {
  /** Starts a cluster, or the one of that name again, where it was. */
  start(name: string): Promise<TemporalServer>
  /** As an operator reaches it; closed by `stop`. */
  open(name: string): Promise<Cluster>
  /** kill -9, and waits until it is gone. */
  kill(name: string): Promise<void>
  stop(): Promise<void>
}

/** @param names of the clusters, whose versions are 1, 2 and so on */
export async function createTestClusters(programs: TemporalServerPrograms, names: readonly string[]): Promise<TestClusters> {
  const scratch = createScratch('clusters')
  const servers = new Map<string, TemporalServer>()
  const open: Cluster[] = []
  const postgres = await startOwnPostgres(scratch.path)
  const serverOf = (name: string): TemporalServer => {
    const server = servers.get(name)
    if (server === undefined) throw new Error(`the cluster ${name} was not started`)
    return server
  }
  return {
    async start(name) {
      const dataDir = join(scratch.path, name)
      mkdirSync(dataDir, { recursive: true })
      const prefix = `temporal_${name.replaceAll('-', '_')}`
      const server = await startTemporalServer({
        programs,
        dataDir,
        cluster: name,
        clusterVersion: names.indexOf(name) + 1,
        databaseUrl: postgres.url,
        databases: { persistence: prefix, visibility: `${prefix}_visibility` },
      })
      servers.set(name, server)
      return server
    },
    async open(name) {
      const cluster = await openCluster({ address: serverOf(name).address })
      open.push(cluster)
      return cluster
    },
    async kill(name) {
      const server = serverOf(name)
      process.kill(server.pid, 'SIGKILL')
      await server.ended
    },
    async stop() {
      await Promise.all(open.map((cluster) => cluster.close()))
      // Nothing here outlives the test.
      await Promise.all([...servers.values()].map((server) => server.stop(0)))
      await postgres.stop()
      rmSync(scratch.path, { recursive: true, force: true, maxRetries: 3 })
    },
  }
}

function startOwnPostgres(folder: string): Promise<EmbeddedPostgres> {
  const dataDir = join(folder, 'postgres')
  mkdirSync(dataDir)
  return startPostgres({ dataDir, port: 0, settings: { fsync: 'off', full_page_writes: 'off', max_connections: '300' } })
}
