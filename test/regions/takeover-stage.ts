import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createToken } from '../../api/token.ts'
import { startPostgres, type EmbeddedPostgres } from '../../cli/embedded/postgres.ts'
import { childrenOf } from '../../cli/embedded/process-table.ts'
import type { TemporalServerPrograms } from '../../cli/embedded/temporal-server-program.ts'
import { newId } from '../../domain/ids.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { spawnScript, type RunningProcess } from '../support/processes.ts'
import { freePorts } from '../support/regions.ts'
import { createScratch } from '../support/scratch.ts'
import { createTestClusters, type TestClusters } from '../support/temporal-server.ts'

export type Place = 'us-east' | 'us-west'
export const PLACES: readonly Place[] = ['us-east', 'us-west']

const SECRET = 'a secret of the tests of failovers, 32 characters or more'

/**
 * The region us-east and its peer us-west, which has no peers itself: a Temporal cluster and a Postgres at each place, and
 * the processes of us-east, wherever they run.
 */
export interface TakeoverStage {
  readonly clusters: TestClusters
  readonly token: string
  /** Of us-east's Postgres at a place, running or not. */
  databaseUrl(place: Place): string
  dataDir(place: Place): string
  startPostgres(place: Place): Promise<void>
  /** kill -9 of the server and of every process it has. */
  killPostgres(place: Place): Promise<void>
  /** Stops it and removes all that it has. */
  removePostgres(place: Place): Promise<void>
  withPool<T>(place: Place, work: (pool: Pool) => Promise<T>): Promise<T>
  /** Starts a process of us-east at a place, and waits for nothing. */
  startApi(place: Place): RunningProcess
  startWorker(place: Place): RunningProcess
  apiUrl(place: Place): string
  region(...args: string[]): RunningProcess
  close(): Promise<void>
}

export async function setTakeoverStage(programs: TemporalServerPrograms): Promise<TakeoverStage> {
  const scratch = createScratch('takeover')
  const [eastApi, westApi, eastDatabase, westDatabase] = (await freePorts(4)) as [number, number, number, number]
  const apiPorts = { 'us-east': eastApi, 'us-west': westApi }
  const databasePorts = { 'us-east': eastDatabase, 'us-west': westDatabase }
  const clusters = await createTestClusters(programs, PLACES)
  const temporals = await Promise.all(PLACES.map((place) => clusters.start(place)))
  const temporalOf = (place: Place) => temporals[PLACES.indexOf(place)]!.address
  const file = join(scratch.path, 'regions.json')
  writeFileSync(
    file,
    JSON.stringify({
      regions: {
        'us-east': { peers: ['us-west'], apiUrl: `http://127.0.0.1:${eastApi}`, temporalAddress: temporalOf('us-east') },
        'us-west': { apiUrl: 'http://127.0.0.1:1', temporalAddress: temporalOf('us-west') },
      },
    }),
  )
  const servers = new Map<Place, EmbeddedPostgres>()
  const urls = new Map<Place, string>()
  const processes = new Set<RunningProcess>()
  const dataDir = (place: Place) => {
    const path = join(scratch.path, place)
    mkdirSync(path, { recursive: true })
    return path
  }
  const stopPostgres = async (place: Place) => {
    await servers.get(place)?.stop()
    servers.delete(place)
  }
  const urlOf = (place: Place) => {
    const url = new URL(urls.get('us-east')!)
    url.port = String(databasePorts[place])
    return url.href
  }
  const spawn = (script: string, args: readonly string[], env: Readonly<Record<string, string>>) => {
    const started = spawnScript(script, args, { env: { TIDINGS_REGIONS_FILE: file, ...env } })
    processes.add(started)
    return started
  }
  const environmentOf = (place: Place) => ({
    ...{ TIDINGS_PORT: String(apiPorts[place]), TIDINGS_DATA_DIR: scratch.path, TIDINGS_REGION: 'us-east' },
    ...{ TIDINGS_JWT_SECRET: SECRET, TIDINGS_ENCRYPTION_KEY: `${SECRET}, for encryption`, TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8' },
    ...{ TIDINGS_PARTITIONS: '2', TIDINGS_LOG_LEVEL: 'warn', TIDINGS_RETRY_SCHEDULE: '2,'.repeat(30).slice(0, -1) },
    ...{ TIDINGS_BREAKER_OPEN_MS: '2000', DATABASE_URL: urlOf(place), TEMPORAL_ADDRESS: temporalOf(place) },
  })
  return {
    clusters,
    token: await createToken({ secret: SECRET, subject: newId('org') }),
    databaseUrl: urlOf,
    dataDir,
    async startPostgres(place) {
      const settings = { fsync: 'off', shared_buffers: '64MB' }
      const server = await startPostgres({ dataDir: dataDir(place), port: databasePorts[place], settings })
      servers.set(place, server)
      urls.set(place, server.url)
    },
    async killPostgres(place) {
      const { pid } = servers.get(place)!
      for (const one of [pid, ...childrenOf(pid)]) process.kill(one, 'SIGKILL')
      await stopPostgres(place)
    },
    async removePostgres(place) {
      await stopPostgres(place)
      rmSync(dataDir(place), { recursive: true, force: true })
    },
    async withPool(place, work) {
      const pool = createPool(urlOf(place), 1)
      try {
        return await work(pool)
      } finally {
        await pool.end()
      }
    },
    startApi: (place) => spawn('cli/api.ts', [], environmentOf(place)),
    startWorker: (place) => spawn('cli/worker.ts', [], environmentOf(place)),
    apiUrl: (place) => `http://127.0.0.1:${apiPorts[place]}`,
    region: (...args) => spawn('cli/region.ts', args, { TIDINGS_PARTITIONS: '2' }),
    async close() {
      for (const one of processes) one.signal('SIGKILL')
      await Promise.all([...processes].map((one) => one.ended))
      await Promise.all(PLACES.map(stopPostgres))
      await clusters.stop()
      scratch.remove()
    },
  }
}
