import { createToken } from '../../api/token.ts'
import { startPostgres, type EmbeddedPostgres } from '../../cli/embedded/postgres.ts'
import { readConfig } from '../../config/index.ts'
import { newId } from '../../domain/ids.ts'
import { LANES } from '../../domain/names.ts'
import { setUpSharedConfiguration } from '../../storage/config-set-up.ts'
import { migrate } from '../../storage/migrate.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { startService, type Service } from '../../workers/service.ts'
import { createScratch } from './scratch.ts'
import { TEST_SECRET, runLog } from './service.ts'
import { startTestTemporal } from './temporal.ts'

const SETTINGS = {
  fsync: 'off',
  shared_buffers: '32MB',
  wal_level: 'logical',
  max_connections: '100',
  // How long an apply worker waits until it looks for the leader again; 5 s unless told.
  wal_retrieve_retry_interval: '200ms',
}

/** A Postgres server of the test's own that can be taken away and come back with what it had. */
export interface TestServer {
  /** Stays the same. */
  readonly url: string
  /** All that it has on disk. */
  readonly folder: string
  start(): Promise<void>
  /** As `kill -9`: nothing is told to whoever is connected. */
  kill(): Promise<void>
  remove(): Promise<void>
}

export async function startTestServer(name: string): Promise<TestServer> {
  const scratch = createScratch(name)
  const launch = (port: number) => startPostgres({ dataDir: scratch.path, port, settings: SETTINGS })
  let running: EmbeddedPostgres | undefined = await launch(0)
  const { url, port } = running
  return {
    url,
    folder: scratch.path,
    async start() {
      running = await launch(port)
    },
    async kill() {
      if (running === undefined) return
      process.kill(running.pid, 'SIGKILL')
      await running.ended
      running = undefined
    },
    async remove() {
      await running?.stop()
      scratch.remove()
    },
  }
}

export interface Reply {
  readonly status: number
  readonly json: { readonly id: string; readonly code: string; readonly url: string; readonly data: readonly { readonly id: string }[] }
}

/** One region's service in this process, with a database and a namespace of its own. */
export interface TestRegion {
  readonly name: string
  readonly pool: Pool
  readonly url: string
  call(method: string, path: string, body?: unknown, token?: string): Promise<Reply>
  stop(): Promise<void>
}

export interface Organisation {
  readonly id: string
  readonly token: string
}

export async function newOrganisation(): Promise<Organisation> {
  const id = newId('org')
  return { id, token: await createToken({ secret: TEST_SECRET, subject: id }) }
}

export interface RegionOptions {
  readonly name: string
  readonly databaseUrl: string
  readonly configUrls: readonly string[]
  /** For whom `call` speaks. */
  readonly organisation: Organisation
  /** Where there is a regions file: what names it, and the region's zone. */
  readonly env?: Readonly<Record<string, string>>
  readonly zone?: string
}

export async function startRegion({ name, databaseUrl, configUrls, organisation, env, zone }: RegionOptions): Promise<TestRegion> {
  const pool = createPool(databaseUrl, 3)
  await migrate(pool)
  await setUpSharedConfiguration(pool, { urls: configUrls, region: name, zone: zone ?? null })
  const temporal = await startTestTemporal()
  const config = readConfig({
    TIDINGS_PORT: '0',
    TIDINGS_REGION: name,
    TIDINGS_JWT_SECRET: TEST_SECRET,
    TIDINGS_ENCRYPTION_KEY: TEST_SECRET,
    TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8',
    TIDINGS_PARTITIONS: '1',
    DATABASE_URL: databaseUrl,
    CONFIG_DATABASE_URLS: configUrls.join(','),
    TEMPORAL_ADDRESS: temporal.address,
    TEMPORAL_NAMESPACE: temporal.namespace,
    ...env,
  })
  const service: Service = await startService(config, {
    roles: ['api', 'dispatcher', 'delivery'],
    lanes: LANES,
    partitions: 'all',
    log: runLog(),
    drainMs: 1000,
  })
  const url = service.url ?? ''
  return {
    name,
    pool,
    url,
    async call(method, path, body, token = organisation.token) {
      const response = await fetch(`${url}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${token}` },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      const text = await response.text()
      return { status: response.status, json: (text === '' ? {} : JSON.parse(text)) as Reply['json'] }
    },
    async stop() {
      await service.stop()
      await pool.end()
    },
  }
}
