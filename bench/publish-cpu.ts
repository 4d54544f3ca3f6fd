/**
 * CPU of one publish in the API's thread, in two figures. `npm run bench:cpu` prints them.
 *
 * - handler: the API as an Express application is given one request after the other, made as Node's server makes them.
 *   Everything is real but the intake, which accepts at once: routing, authentication, rate limit, reading, validation and
 *   the answer, without HTTP parsing and without the commit. There is nothing to wait for, so the time of a request is its
 *   CPU wherever the thread is not interrupted: that is the p50. The system counts CPU in ticks of some milliseconds, too
 *   coarse for one request; it is told as the mean over all of them, interruptions and garbage collection included.
 * - whole: the same over connections from another process, with the commit to a Postgres of its own; CPU over batches of
 *   requests, divided by their number. HTTP, the driver of Postgres and garbage collection are in it.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer, IncomingMessage, ServerResponse } from 'node:http'
import { Socket, type AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { Express } from 'express'
import pino from 'pino'
import { createIntake } from '../api/intake.ts'
import type { ApiDependencies } from '../api/dependencies.ts'
import { createApi } from '../api/server.ts'
import { createToken } from '../api/token.ts'
import { readConfig } from '../config/index.ts'
import { newId } from '../domain/ids.ts'
import { createCipher } from '../storage/cipher.ts'
import { createConfigCache } from '../storage/config-cache.ts'
import { createOwnConfiguration } from '../storage/configuration.ts'
import { createReadsOfPrimary } from '../storage/history/reads.ts'
import { createMessageCache } from '../storage/messages.ts'
import { createPool } from '../storage/pool.ts'
import { createRevocations } from '../storage/revocations.ts'
import { createTestDatabase } from '../test/support/postgres.ts'
import { createGuard } from '../workers/parts.ts'
import { buildPayload } from './payload.ts'
import { createPublisher } from './publisher.ts'
import { distributionOf } from './statistics.ts'

const SECRET = 'of the benchmark only, 32 characters or more'
const PAYLOAD_BYTES = 1024
const WARM_UP = 5000
const SINGLE = 20_000
const BATCHES = 40
const BATCH = 250
const CONNECTIONS = 16

interface Target {
  readonly url: string
  readonly token: string
  readonly appId: string
}

const microseconds = (usage: { user: number; system: number }): number => usage.user + usage.system
const payload = (message: number): string => buildPayload('cpu', message, PAYLOAD_BYTES)

function report(name: string, valuesUs: readonly number[]): void {
  const { n, p50_ms: p50, p95_ms: p95, p99_ms: p99 } = distributionOf(valuesUs)
  process.stdout.write(`${name}, µs per publish: n ${n}, p50 ${p50}, p95 ${p95}, p99 ${p99}\n`)
}

/** One request, as Node's server would have read it. @returns its time in microseconds */
async function single(api: Express, { token, appId }: Target, message: number): Promise<number> {
  const body = Buffer.from(`{"eventType":"bench.event","payload":${payload(message)}}`)
  const request = new IncomingMessage(new Socket())
  request.method = 'POST'
  request.url = `/api/v1/app/${appId}/msg`
  Object.assign(request.headers, { authorization: `Bearer ${token}`, 'content-type': 'application/json', host: 'bench' })
  request.push(body)
  request.push(null)
  const response = new ServerResponse(request)
  const startedMs = performance.now()
  const ended = new Promise<void>((resolve) => (response.end = () => (resolve(), response)))
  api(request, response)
  await ended
  const elapsedUs = (performance.now() - startedMs) * 1000
  if (response.statusCode !== 202) throw new Error(`answered ${response.statusCode}`)
  return elapsedUs
}

async function measureHandler(deps: Omit<ApiDependencies, 'intake'>, target: Target): Promise<void> {
  const nothing = { sendAgain: () => Promise.resolve(), takeOver: () => Promise.resolve({ unknown: [], refused: [] }) }
  const intake = { accept: () => Promise.resolve(), acceptAll: () => Promise.resolve([]), ...nothing }
  const api = createApi({ ...deps, intake })
  const valuesUs: number[] = []
  for (let i = 0; i < WARM_UP; i++) await single(api, target, i)
  const before = process.threadCpuUsage()
  for (let i = 0; i < SINGLE; i++) valuesUs.push(await single(api, target, i))
  const meanUs = Math.round(microseconds(process.threadCpuUsage(before)) / SINGLE)
  report(`handler (mean CPU with the bench's own part ${meanUs} µs), time`, valuesUs)
}

async function measureWhole(target: Target): Promise<void> {
  const load = fork(fileURLToPath(import.meta.url), ['load'])
  load.send(target)
  await once(load, 'message')
  const valuesUs: number[] = []
  for (let i = 0; i < BATCHES; i++) {
    const before = process.threadCpuUsage()
    load.send('batch')
    await once(load, 'message')
    valuesUs.push(Math.round(microseconds(process.threadCpuUsage(before)) / BATCH))
  }
  load.disconnect()
  await once(load, 'exit')
  report(`whole, CPU in batches of ${BATCH}`, valuesUs.slice(BATCHES / 4))
}

/** The process that publishes: so many at a time, a batch for each message of the one that measures. */
function generate(): void {
  process.once('message', (target: Target) => {
    const publisher = createPublisher(target.url, target.token)
    let published = 0
    const batch = async () => {
      const end = published + BATCH
      const connection = async () => {
        while (published < end) {
          const message = published++
          await publisher.publish(target.appId, `cpu-${message}`, payload(message))
        }
      }
      await Promise.all(Array.from({ length: CONNECTIONS }, connection))
      process.send?.('done')
    }
    process.on('message', () => void batch())
    process.once('disconnect', () => void publisher.close())
    process.send?.('ready')
  })
}

async function measure(): Promise<void> {
  const database = await createTestDatabase()
  const pool = createPool(database.url, 10)
  const log = pino({ level: 'silent' })
  const config = { ...readConfig({}), jwtSecret: SECRET }
  const cipher = createCipher(SECRET)
  const deps = {
    config,
    pool,
    cipher,
    log,
    history: createReadsOfPrimary(pool),
    configCache: createConfigCache({ pool, cipher, log }),
    configuration: createOwnConfiguration(pool),
    revocations: createRevocations(pool),
    guard: createGuard(config),
    launchTask: () => Promise.resolve(),
    findFanOut: () => Promise.resolve(undefined),
    wakeMailbox: () => undefined,
    readiness: {},
  }
  const intake = createIntake({ pool, messages: createMessageCache(), groupLeaseMs: 10_000 })
  const server = createServer(createApi({ ...deps, intake })).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const token = await createToken({ secret: SECRET, subject: newId('org') })
  const publisher = createPublisher(url, token)
  const target = { url, token, appId: (await publisher.createApplication('cpu', [])).id }
  await publisher.close()
  await measureHandler(deps, target)
  await measureWhole(target)
  server.closeAllConnections()
  server.close()
  await intake.drained()
  await pool.end()
  await database.drop()
}

if (process.argv[2] === 'load') generate()
else await measure()
