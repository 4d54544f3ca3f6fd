import { join } from 'node:path'
import pino, { type Logger } from 'pino'
import { Svix } from 'svix'
import { createToken } from '../../api/token.ts'
import { readConfig, type Config } from '../../config/index.ts'
import { LANES } from '../../domain/names.ts'
import { newId } from '../../domain/ids.ts'
import { startService, type Role, type Service } from '../../workers/service.ts'
import { createTestDatabase, type TestDatabase } from './postgres.ts'
import { startTestTemporal, type TestTemporal } from './temporal.ts'

export const TEST_SECRET = 'a secret of the test suite, 32 characters or more'

export interface TestService {
  readonly url: string
  readonly token: string
  readonly organisation: string
  readonly config: Config
  readonly database: TestDatabase
  readonly temporal: TestTemporal
  /** The official client, unmodified. */
  readonly svix: Svix
  readonly service: Service
  /** What it logs to. */
  readonly log: Logger
  stop(): Promise<void>
}

export interface TestServiceOptions {
  /** Environment over the defaults of the tests. */
  readonly env?: Record<string, string>
  readonly roles?: readonly Role[]
  readonly log?: Logger
  /** A Temporal of the test's own; absent: the one that tests share. */
  readonly temporal?: TestTemporal
  /** A database that something is in already; `stop` drops it. */
  readonly database?: TestDatabase
}

/** All that services of this run log goes to files that the leak test reads; to the terminal where TIDINGS_TEST_LOG is set. */
export function runLog(): Logger {
  const level = process.env['TIDINGS_TEST_LOG']
  if (level !== undefined) return pino({ level })
  const folder = process.env['TIDINGS_TEST_FOLDER']
  if (folder === undefined) return pino({ level: 'silent' })
  return pino({ level: 'trace' }, pino.destination({ dest: join(folder, 'logs', `${process.pid}.log`), mkdir: true, sync: true }))
}

/** Starts the whole service in this process, on a database and a namespace of its own. */
export async function startTestService(options: TestServiceOptions = {}): Promise<TestService> {
  const [database, temporal] = await Promise.all([options.database ?? createTestDatabase(), options.temporal ?? startTestTemporal()])
  const config = readConfig({
    TIDINGS_PORT: '0',
    TIDINGS_JWT_SECRET: TEST_SECRET,
    TIDINGS_ENCRYPTION_KEY: TEST_SECRET,
    TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8',
    TIDINGS_PARTITIONS: '2',
    TIDINGS_GROUP_MAX: '100',
    DATABASE_URL: database.url,
    TEMPORAL_ADDRESS: temporal.address,
    TEMPORAL_NAMESPACE: temporal.namespace,
    ...options.env,
  })
  const log = options.log ?? runLog()
  const service = await startService(config, {
    roles: options.roles ?? ['api', 'dispatcher', 'delivery'],
    lanes: LANES,
    partitions: 'all',
    log,
    drainMs: 1000,
  })
  const organisation = newId('org')
  const token = await createToken({ secret: TEST_SECRET, subject: organisation })
  return {
    url: service.url ?? '',
    token,
    organisation,
    config,
    database,
    temporal,
    svix: new Svix(token, { serverUrl: service.url }),
    service,
    log,
    async stop() {
      await service.stop()
      await database.drop()
    },
  }
}
