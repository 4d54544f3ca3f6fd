import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { LANES } from '../../domain/names.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { startService, type Service } from '../../workers/service.ts'
import { createCalls, type Calls } from '../support/calls.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Received, type Receiver } from '../support/receiver.ts'
import { copyConfiguration, freePorts, writeRegions, type RegionsOnDisk } from '../support/regions.ts'
import { startTestService, type TestService } from '../support/service.ts'
import { temporalJson } from '../support/temporal-cli.ts'

/** A region of the test: a database, a namespace and a service of its own. */
export interface TestRegion {
  readonly service: TestService
  readonly pool: Pool
  /** Ends its service, and starts it again where it was. */
  leave(): Promise<void>
  comeBack(): Promise<void>
  stop(): Promise<void>
}

export const RETRIES = { TIDINGS_RETRY_SCHEDULE: '0.2,0.2' }
/** Fields of an endpoint of the other region. */
export const WEST = { region: 'west' }

interface Subscribed {
  readonly app: string
  readonly endpoints: readonly string[]
}

interface Pending {
  readonly activityId: string
  readonly attempt?: number
}

/** Two regions, `east` that is published to and `west`, and an endpoint's server that they share. */
export interface Pair {
  readonly east: TestRegion
  readonly west: TestRegion
  /** In front of west: it can hold answers back. */
  readonly front: Front
  readonly receiver: Receiver
  readonly onDisk: RegionsOnDisk
  /** Of east's API. */
  readonly calls: Calls
  /** An application with an endpoint at each path, known to both regions unless told. */
  subscribe(endpoints: Readonly<Record<string, object>>, options?: { copied?: boolean }): Promise<Subscribed>
  arrivals(path: string, messageId?: string): number
  /** What east knows of a message that it hands over. */
  statesOf(messageId: string): Promise<string[]>
  /** Waits until nothing of it waits. */
  settled(messageId: string): Promise<string[]>
  /** Activities of a fan-out in east. */
  pendingOf(messageId: string): Promise<Pending[]>
  stop(): Promise<void>
}

export const at =
  (path: string, messageId?: string) =>
  (one: Received): boolean =>
    one.path === path && (messageId === undefined || one.headers['webhook-id'] === messageId)

export async function attempts({ pool }: TestRegion, messageId: string): Promise<string[]> {
  const { rows } = await pool.query<{ endpoint_id: string }>('SELECT endpoint_id FROM attempt WHERE message_id = $1 ORDER BY id', [
    messageId,
  ])
  return rows.map((row) => row.endpoint_id)
}

/** Waits until so many attempts of a message have been recorded in a region. */
export const recorded = (region: TestRegion, messageId: string, count: number) =>
  eventually(
    () => attempts(region, messageId),
    (ids) => ids.length === count,
  )

export async function setPair(): Promise<Pair> {
  const receiver = await startReceiver((one, earlier) => ({ status: one.path.startsWith('/fail-once') && earlier === 0 ? 500 : 200 }))
  const [eastPort, westPort] = (await freePorts(2)) as [number, number]
  const front = await startFront(westPort)
  const onDisk = writeRegions({
    east: { port: eastPort },
    west: { port: westPort, apiUrl: front.url, zone: 'eu' },
    spare: { port: 1, role: 'standby' },
  })
  const west = await startRegion(onDisk, 'west')
  const east = await startRegion(onDisk, 'east')
  const calls = createCalls(east.service)
  const statesOf = async (messageId: string) => {
    const { rows } = await east.pool.query<{ state: string }>('SELECT state FROM handed_over WHERE message_id = $1', [messageId])
    return rows.map((row) => row.state)
  }
  return {
    ...{ east, west, front, receiver, onDisk, calls, statesOf },
    async subscribe(endpoints, { copied = true } = {}) {
      const { json } = await calls.call('POST', '/app', { name: 'handed over' })
      const app = String(json['id'])
      const ids: string[] = []
      for (const [path, fields] of Object.entries(endpoints)) {
        const created = await calls.call('POST', `/app/${app}/endpoint`, { url: `${receiver.url}${path}`, ...fields })
        assert.equal(created.status, 201, JSON.stringify(created.json))
        ids.push(String(created.json['id']))
      }
      if (copied) await copyConfiguration(east.pool, west.pool)
      return { app, endpoints: ids }
    },
    arrivals: (path, messageId) => receiver.received.filter(at(path, messageId)).length,
    settled: (messageId) =>
      eventually(
        () => statesOf(messageId),
        (states) => states.length > 0 && !states.includes('waiting'),
        30_000,
      ),
    async pendingOf(messageId) {
      const asked = ['workflow', 'describe', '-w', `fan-out/${messageId}`]
      const shown = await temporalJson<{ pendingActivities?: Pending[] }>(east.service.temporal, ...asked).catch(() => undefined)
      return shown?.pendingActivities ?? []
    },
    async stop() {
      await east.stop()
      await west.stop()
      await front.close()
      await receiver.close()
      onDisk.remove()
    },
  }
}

async function startRegion(onDisk: RegionsOnDisk, name: string): Promise<TestRegion> {
  const service = await startTestService({ env: { ...RETRIES, ...onDisk.envOf(name) } })
  const pool = createPool(service.database.url, 2)
  let running: Service | undefined = service.service
  return {
    service,
    pool,
    async leave() {
      await running?.stop()
      running = undefined
    },
    async comeBack() {
      const all = { roles: ['api', 'dispatcher', 'delivery'], lanes: LANES, partitions: 'all', drainMs: 1000 } as const
      running = await startService(service.config, { ...all, log: service.log })
    },
    async stop() {
      await running?.stop()
      await pool.end()
      await service.database.drop()
    },
  }
}

/** Passes requests to a port of this machine. */
export interface Front {
  readonly url: string
  /** From now on what is answered is not passed on. */
  hold(): void
  /** What was held is cut off; from now on answers are passed on. */
  letGo(): void
  /** Requests that were passed on. */
  readonly passed: () => number
  close(): Promise<void>
}

async function startFront(port: number): Promise<Front> {
  let held: (() => void)[] | undefined
  let passed = 0
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const headers = Object.fromEntries(Object.entries(request.headers).filter(([header]) => header !== 'host')) as Record<string, string>
      const body = Buffer.concat(chunks)
      fetch(`http://127.0.0.1:${port}${request.url ?? ''}`, { method: request.method ?? 'GET', headers, body }).then(
        async (answer) => {
          const bytes = Buffer.from(await answer.arrayBuffer())
          passed++
          if (held === undefined) response.writeHead(answer.status, { 'content-type': 'application/json' }).end(bytes)
          else held.push(() => response.destroy())
        },
        () => response.destroy(),
      )
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    hold() {
      held = []
    },
    letGo() {
      const cut = held ?? []
      held = undefined
      for (const one of cut) one()
    },
    passed: () => passed,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
