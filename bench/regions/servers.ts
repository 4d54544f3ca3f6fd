/** The servers of a drill's regions: Postgres for messages, its standbys, Temporal clusters, and the cluster for configuration. */
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { startPostgres, type EmbeddedPostgres } from '../../cli/embedded/postgres.ts'
import { childrenOf } from '../../cli/embedded/process-table.ts'
import type { TemporalServerPrograms } from '../../cli/embedded/temporal-server-program.ts'
import { startTemporalServer, type TemporalServer } from '../../cli/embedded/temporal-server.ts'
import { createStandby } from '../../cli/regions/standby.ts'

const COMMON = { shared_buffers: '64MB', wal_compression: 'off' }
/** Of a region's database: how soon it notices that a primary, or the leader of configuration, is another (docs/regions.md). */
const MESSAGES = { ...COMMON, max_connections: '200', wal_retrieve_retry_interval: '500ms', wal_receiver_timeout: '5s' }
/** One disk stands for the disks of several machines, and what is killed here are processes. */
const TEMPORAL = { ...COMMON, fsync: 'off', max_connections: '100' }
const CONFIGURATION = { ...COMMON, wal_level: 'logical', max_connections: '100' }

/** Where what the drill starts keeps its data. */
export interface Folders {
  /** Makes the folder where there is none. */
  of(...names: readonly string[]): string
}

export function createFolders(root: string): Folders {
  return {
    of(...names) {
      const path = join(root, ...names)
      mkdirSync(path, { recursive: true })
      return path
    },
  }
}

/** @param settings over those of every database of the drill */
export function startMessages(dataDir: string, port = 0, settings: Readonly<Record<string, string>> = {}): Promise<EmbeddedPostgres> {
  return startPostgres({ dataDir, port, settings: { ...MESSAGES, ...settings } })
}

/** A standby of a region's messages at a peer, made anew. @param primaryUrl as the peer reaches it */
export async function startStandby(
  dataDir: string,
  name: string,
  primaryUrl: string,
  cacheDir: string | undefined,
): Promise<EmbeddedPostgres> {
  await createStandby({ primaryUrl, dataDir, name, cacheDir })
  return startMessages(dataDir)
}

/** What a server that has ended has left, so that it can be made a standby of another. */
export function removeCluster(dataDir: string): void {
  rmSync(dataDir, { recursive: true, force: true, maxRetries: 3 })
  mkdirSync(dataDir)
}

export interface RegionTemporal {
  readonly server: TemporalServer
  readonly postgres: EmbeddedPostgres
}

/** A region's Temporal cluster on a Postgres of its own; started again, it is where it was. */
export async function startRegionTemporal(
  programs: TemporalServerPrograms,
  dataDir: string,
  { cluster, clusterVersion }: { readonly cluster: string; readonly clusterVersion: number },
): Promise<RegionTemporal> {
  const postgres = await startPostgres({ dataDir, port: 0, settings: TEMPORAL })
  const server = await startTemporalServer({ programs, dataDir, cluster, clusterVersion, databaseUrl: postgres.url })
  return { server, postgres }
}

/** Where configuration is written. */
export function startConfigurationLeader(dataDir: string): Promise<EmbeddedPostgres> {
  return startPostgres({ dataDir, port: 0, settings: CONFIGURATION })
}

/** By which the leader knows the member in a region; the regions' own copies are called by the regions' names. */
const memberName = (region: string): string => `configuration-${region}`

/** From now on each change waits until one of the standbys has confirmed it (docs/regions.md, "Setting it up"). */
export async function requireQuorum(leader: EmbeddedPostgres, confirming: readonly string[]): Promise<void> {
  const settings = {
    synchronous_commit: 'remote_apply',
    synchronous_standby_names: `ANY 1 (${confirming.map((region) => `"${memberName(region)}"`).join(', ')})`,
    synchronized_standby_slots: 'tidings_quorum',
  }
  const client = new pg.Client({ connectionString: leader.url })
  await client.connect()
  try {
    for (const [name, value] of Object.entries(settings)) await client.query(`ALTER SYSTEM SET ${name} = ${pg.escapeLiteral(value)}`)
    await client.query('SELECT pg_reload_conf()')
  } finally {
    await client.end()
  }
}

export async function startConfirming(
  dataDir: string,
  region: string,
  leaderUrl: string,
  cacheDir: string | undefined,
): Promise<EmbeddedPostgres> {
  await createStandby({ primaryUrl: leaderUrl, dataDir, name: memberName(region), cacheDir })
  return restartConfirming(dataDir, 0)
}

/** Starts a member where it was. @param port where the regions look for it; 0: any free one */
export function restartConfirming(dataDir: string, port: number): Promise<EmbeddedPostgres> {
  return startPostgres({ dataDir, port, settings: { ...CONFIGURATION, hot_standby_feedback: 'on' } })
}

/** As `kill -9` of the machine: the server and every process that it has. Linux only. */
export async function killPostgres(server: EmbeddedPostgres): Promise<void> {
  const pids = [server.pid, ...childrenOf(server.pid)]
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended by itself, as the others of a server do when one is killed.
    }
  }
  await server.ended
}

/** The same server by way of a route: user, password and database of its URL, another place. */
export function urlBy(url: string, address: string): string {
  const changed = new URL(url)
  changed.host = address
  return changed.href
}
