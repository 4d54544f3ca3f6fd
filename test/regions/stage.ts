import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { prepareNamespace } from '../../cli/embedded/namespace.ts'
import { freePort } from '../../cli/embedded/ports.ts'
import { startPostgres } from '../../cli/embedded/postgres.ts'
import { startTemporal } from '../../cli/embedded/temporal.ts'
import { createPool } from '../../storage/pool.ts'
import { migrate } from '../../storage/migrate.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { spawnScript, type RunningProcess } from '../support/processes.ts'
import { createScratch } from '../support/scratch.ts'
import { startTestTemporal } from '../support/temporal.ts'

export const SECRET = 'a secret of the tests of regions, 32 characters or more'

export interface RegionSpec {
  readonly zone?: string
}

/** What a region keeps its data in. */
interface Servers {
  readonly databaseUrl: string
  readonly temporalAddress: string
  readonly namespace: string
  /** Of servers of the region's own: all that they have on disk. */
  readonly folders: { readonly postgres: string; readonly temporal: string } | undefined
  stop(): Promise<void>
}

export interface StagedRegion extends Servers {
  readonly url: string
}

/** Regions of real processes: of each an API and a worker, on a database and a namespace of the region's own. */
export interface RegionStage<Name extends string> {
  readonly region: (name: Name) => StagedRegion
  /** @param env over that of the stage */
  startApi(name: Name, env?: Readonly<Record<string, string>>): Promise<void>
  /** Ends the API of a region; its worker and its servers stay. */
  stopApi(name: Name): Promise<void>
  /** All that the region's processes have written, those that have ended included. */
  logs(name: Name): string
  close(): Promise<void>
}

/** @param own regions that get a Postgres and a Temporal of their own; the others share those of the run */
export async function setRegions<Name extends string>(
  specs: Readonly<Record<Name, RegionSpec>>,
  own: readonly NoInfer<Name>[] = [],
): Promise<RegionStage<Name>> {
  const scratch = createScratch('regions')
  const file = join(scratch.path, 'regions.json')
  const names = Object.keys(specs) as Name[]
  const regions = new Map<Name, StagedRegion>()
  const apis = new Map<Name, RunningProcess>()
  const started = new Map<Name, RunningProcess[]>(names.map((name) => [name, []]))
  const described: Record<string, unknown> = {}
  for (const name of names) {
    const folder = join(scratch.path, name)
    mkdirSync(folder)
    const servers = own.includes(name) ? await startOwn(folder, name) : await shared()
    const url = `http://127.0.0.1:${await freePort()}`
    regions.set(name, { ...servers, url })
    described[name] = { apiUrl: url, temporalAddress: servers.temporalAddress, ...specs[name] }
  }
  writeFileSync(file, JSON.stringify({ regions: described }))

  const run = async (name: Name, script: string, args: string[], ready: RegExp, env: Readonly<Record<string, string>> = {}) => {
    const { url, databaseUrl, temporalAddress, namespace } = regions.get(name)!
    const environment = {
      ...{ TIDINGS_ENV: 'production', TIDINGS_PORT: new URL(url).port, TIDINGS_DATA_DIR: join(scratch.path, name) },
      ...{ TIDINGS_JWT_SECRET: SECRET, TIDINGS_ENCRYPTION_KEY: `${SECRET}, for encryption`, TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8' },
      ...{ TIDINGS_GROUP_MAX: '100', TIDINGS_PARTITIONS: '2', TIDINGS_LOG_LEVEL: 'trace', TIDINGS_ATTEMPT_LOG: 'all' },
      ...{ TIDINGS_REGION: name, TIDINGS_REGIONS_FILE: file, TIDINGS_REGION_FORWARDING: 'true' },
      ...{ DATABASE_URL: databaseUrl, TEMPORAL_ADDRESS: temporalAddress, TEMPORAL_NAMESPACE: namespace, ...env },
    }
    const service = spawnScript(script, args, { env: environment })
    started.get(name)!.push(service)
    await service.line(ready)
    return service
  }
  const startApi = async (name: Name, env?: Readonly<Record<string, string>>) =>
    void apis.set(name, await run(name, 'cli/api.ts', [], /^tidings ready/, env))
  const end = async (service: RunningProcess | undefined) => {
    service?.signal('SIGTERM')
    await service?.ended
  }
  const close = async () => {
    await Promise.all([...started.values()].flat().map(end))
    for (const region of regions.values()) await region.stop()
    scratch.remove()
  }
  try {
    for (const name of names) await Promise.all([startApi(name), run(name, 'cli/worker.ts', ['--role', 'all'], /^tidings worker ready/)])
  } catch (error) {
    await close()
    throw error
  }
  return {
    region: (name) => regions.get(name)!,
    startApi,
    stopApi: (name) => end(apis.get(name)),
    logs: (name) =>
      started
        .get(name)!
        .map((one) => `${one.stdout()}\n${one.stderr()}`)
        .join('\n'),
    close,
  }
}

/** A database and a namespace of the region's own on the servers of the run. */
async function shared(): Promise<Servers> {
  const [database, temporal] = await Promise.all([createTestDatabase(), startTestTemporal()])
  return {
    databaseUrl: database.url,
    temporalAddress: temporal.address,
    namespace: temporal.namespace,
    folders: undefined,
    stop: () => database.drop(),
  }
}

/** Without compression: what is on disk can be searched. */
async function startOwn(folder: string, name: string): Promise<Servers> {
  const folders = { postgres: join(folder, 'postgres'), temporal: join(folder, 'temporal') }
  for (const path of Object.values(folders)) mkdirSync(path)
  const settings = { fsync: 'off', shared_buffers: '64MB', wal_compression: 'off' }
  const { program } = await startTestTemporal()
  const [postgres, temporal] = await Promise.all([
    startPostgres({ dataDir: folders.postgres, port: 0, settings }),
    startTemporal({ program, dataDir: folders.temporal, namespace: `tidings-${name}`, port: 0, uiPort: 0 }),
  ])
  const pool = createPool(postgres.url, 1)
  await migrate(pool)
  await pool.end()
  await prepareNamespace(temporal.address, `tidings-${name}`)
  return {
    databaseUrl: postgres.url,
    temporalAddress: temporal.address,
    namespace: `tidings-${name}`,
    folders,
    async stop() {
      await temporal.stop()
      await postgres.stop()
    },
  }
}
