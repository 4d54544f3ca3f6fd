import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import pino, { type Logger } from 'pino'
import { Svix } from 'svix'
import type { Regional } from '../../api/dependencies.ts'
import { createApiServer } from '../../api/http-server.ts'
import { createIntake } from '../../api/intake.ts'
import { createApi } from '../../api/server.ts'
import { createToken } from '../../api/token.ts'
import { readConfig, type Config } from '../../config/index.ts'
import { newId } from '../../domain/ids.ts'
import { createRegionClient } from '../../http/region-client.ts'
import type { TaskRequest } from '../../storage/background-tasks.ts'
import type { ArchiveLookup } from '../../storage/archive/lookup.ts'
import { createCipher } from '../../storage/cipher.ts'
import { createConfigCache } from '../../storage/config-cache.ts'
import { createOwnConfiguration } from '../../storage/configuration.ts'
import { createReadsOfPrimary } from '../../storage/history/reads.ts'
import { createMessageCache } from '../../storage/messages.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createRevocations } from '../../storage/revocations.ts'
import { createGuard } from '../../workers/parts.ts'
import { startRegional } from '../../workers/regional.ts'
import { createStack, type Stack } from '../../workers/stack.ts'
import { createTestDatabase } from '../support/postgres.ts'

export const JWT_SECRET = 'test secret of at least 32 characters'
export const ENCRYPTION_KEY = 'test encryption key of 32 characters'

/** What the tests read of an answer; an empty one reads as an empty object. */
export interface Answer {
  readonly [field: string]: unknown
  readonly id: string
  readonly code: string
  readonly key: string
  readonly detail: readonly { loc: string[]; msg: string; type: string }[]
  readonly data: readonly Answer[]
  readonly iterator: string | null
  readonly prevIterator: string | null
  readonly done: boolean
  readonly payload: unknown
}

export interface Harness {
  readonly url: string
  readonly pool: Pool
  /** The organisation that `svix` and `call` speak for; each harness has a fresh one. */
  readonly orgId: string
  readonly token: string
  readonly svix: Svix
  /** Background tasks whose workflow would have been started. */
  readonly tasks: TaskRequest[]
  readonly readiness: Record<string, () => Promise<string>>
  /** A raw request under `/api/v1`; `body` is JSON unless it is text. */
  call(method: string, path: string, body?: unknown, token?: string): Promise<{ status: number; json: Answer; headers: Headers }>
  close(): Promise<void>
}

function listening(server: Server, port: number): Promise<number> {
  server.listen(port, '127.0.0.1')
  return once(server, 'listening').then(() => (server.address() as AddressInfo).port)
}

/** What the API has where the configuration names regions. */
function regionalOf(parts: { config: Config & { jwtSecret: string }; pool: Pool; log: Logger }, stack: Stack): Regional | undefined {
  const { config } = parts
  if (config.regions === undefined) return undefined
  const client = createRegionClient({ secret: config.jwtSecret, own: config.regions.own.name })
  stack.push(() => client.close())
  return startRegional({ ...parts, guard: createGuard(config), regionClient: client }, stack)
}

/**
 * The API on a real Postgres, without workers: what is published stays in the outbox.
 * @param changes laid over the default configuration
 * @param archive where messages are that are in the database no more
 */
export async function startApi(changes: Partial<Config> = {}, archive?: ArchiveLookup): Promise<Harness> {
  const database = await createTestDatabase()
  const pool = createPool(database.url, 5)
  const config = { ...readConfig({ TIDINGS_LOG_LEVEL: 'silent' }), jwtSecret: JWT_SECRET, ...changes }
  const log = pino({ level: process.env['TEST_LOG'] ?? 'silent' })
  const cipher = createCipher(ENCRYPTION_KEY)
  const stack = createStack(log)
  const regional = regionalOf({ config, pool, log }, stack)
  const tasks: TaskRequest[] = []
  const readiness: Harness['readiness'] = { postgres: () => Promise.resolve('') }
  const intake = createIntake({ pool, messages: createMessageCache(), groupLeaseMs: 10_000 })
  const app = createApi({
    config,
    pool,
    history: createReadsOfPrimary(pool),
    cipher,
    configCache: createConfigCache({ pool, cipher, log }),
    configuration: createOwnConfiguration(pool),
    revocations: createRevocations(pool),
    guard: createGuard(config),
    intake,
    launchTask: (task) => Promise.resolve(void tasks.push(task)),
    findFanOut: () => Promise.resolve(undefined),
    wakeMailbox: () => undefined,
    readiness,
    regional,
    archive,
    log,
  })
  const server = createApiServer(app)
  const url = `http://127.0.0.1:${await listening(server, changes.port ?? 0)}`
  const orgId = newId('org')
  const token = await createToken({ secret: JWT_SECRET, subject: orgId })
  async function call(method: string, path: string, body?: unknown, as = token) {
    const text = typeof body === 'string' || body === undefined ? body : JSON.stringify(body)
    const response = await fetch(`${url}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${as}` },
      ...(text === undefined ? {} : { body: text }),
    })
    const answer = await response.text()
    return { status: response.status, json: (answer === '' ? {} : JSON.parse(answer)) as Answer, headers: response.headers }
  }
  return {
    url,
    pool,
    orgId,
    token,
    svix: new Svix(token, { serverUrl: url, retryScheduleInMs: [] }),
    tasks,
    readiness,
    call,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await intake.drained()
      await stack.unwind()
      await pool.end()
      await database.drop()
    },
  }
}
