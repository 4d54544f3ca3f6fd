import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createToken } from '../api/token.ts'
import { startPostgres } from '../cli/embedded/postgres.ts'
import { findTemporal } from '../cli/embedded/temporal-program.ts'
import { startTemporal } from '../cli/embedded/temporal.ts'
import type { Progress } from '../cli/progress.ts'
import type { Cleanup } from '../cli/stopping.ts'
import { readConfig } from '../config/index.ts'
import { DEFAULT_ORGANISATION } from '../domain/default-organisation.ts'
import { startScript, type Service } from './script.ts'

const NAMESPACE = 'tidings-elastic'

/** Servers of our own with an empty data directory, and an API process on them. */
export interface ElasticStack {
  readonly apiUrl: string
  readonly token: string
  readonly databaseUrl: string
  /** What a worker's process needs to know. */
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Starts a script of ours, and waits until it says that it works. */
  start(script: string, args: readonly string[], ready: RegExp, env?: Readonly<Record<string, string>>): Promise<Service>
  /** The folder of what the processes write. */
  readonly logs: string
  /** Rejects when one of the processes ends without having been asked to. */
  readonly died: Promise<never>
}

/**
 * Starts Postgres, Temporal and an API process. What was started is stopped by `cleanup`.
 * @param settings environment of the service's processes, over the usual one
 */
export async function startElasticStack(
  settings: Readonly<Record<string, string>>,
  cleanup: Cleanup,
  progress: Progress,
): Promise<ElasticStack> {
  const folder = mkdtempSync(join(tmpdir(), 'tidings-elastic-'))
  // Postgres runs as another user where we are root.
  chmodSync(folder, 0o755)
  cleanup.add(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }))
  const dataDir = (name: string) => {
    mkdirSync(join(folder, name))
    return join(folder, name)
  }
  const postgres = await progress.step('starting Postgres', () => startPostgres({ dataDir: dataDir('postgres'), port: 0 }))
  cleanup.add(() => postgres.stop())
  const program = await findTemporal({ cacheDir: readConfig().cacheDir, dataDir: folder }, progress)
  const temporal = await progress.step('starting Temporal', () =>
    startTemporal({ program, dataDir: dataDir('temporal'), namespace: NAMESPACE, port: 0, uiPort: 0 }),
  )
  cleanup.add(() => temporal.stop())
  const secret = randomBytes(32).toString('base64url')
  const environment = {
    ...process.env,
    NODE_TEST_CONTEXT: undefined,
    MALLOC_ARENA_MAX: '2',
    TIDINGS_ENV: 'production',
    TIDINGS_PORT: '0',
    TIDINGS_DATA_DIR: folder,
    TIDINGS_JWT_SECRET: secret,
    TIDINGS_ENCRYPTION_KEY: `${secret}, for encryption`,
    TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8',
    TIDINGS_LOG_LEVEL: 'warn',
    DATABASE_URL: postgres.url,
    TEMPORAL_ADDRESS: temporal.address,
    TEMPORAL_NAMESPACE: NAMESPACE,
    ...settings,
  }
  const logs = dataDir('logs')
  let fail: (error: unknown) => void = () => undefined
  const died = new Promise<never>((_, reject) => (fail = reject))
  died.catch(() => undefined)
  const start: ElasticStack['start'] = async (script, args, ready, env = {}) => {
    const service = await startScript({
      script,
      args,
      ready,
      env: { ...environment, ...env },
      logFile: join(logs, `${script.replace(/\W/g, '-')}.log`),
    })
    cleanup.add(async () => void (await service.stop()))
    service.died.catch(fail)
    return service
  }
  const api = await progress.step('starting an API process', () => start('cli/api.ts', [], /^tidings ready \S+$/m))
  return {
    apiUrl: /^tidings ready (\S+)$/m.exec(api.said())![1]!,
    token: await createToken({ secret, subject: DEFAULT_ORGANISATION }),
    databaseUrl: postgres.url,
    environment,
    start,
    logs,
    died,
  }
}
