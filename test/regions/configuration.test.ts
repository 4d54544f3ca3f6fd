import assert from 'node:assert/strict'
import { after, before, test, type TestContext } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { createToken } from '../../api/token.ts'
import { openBreaker, readEndpointState } from '../../storage/endpoint-state.ts'
import { listen } from '../../storage/listener.ts'
import { CONFIG_CHANNEL } from '../../storage/config-changes.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { TEST_SECRET } from '../support/service.ts'
import {
  newOrganisation,
  startRegion,
  startTestServer,
  type Organisation,
  type TestRegion,
  type TestServer,
} from '../support/shared-configuration.ts'

/** In which a change is to be seen in every region. */
const VISIBLE_WITHIN_MS = 1000

const started: { stop(): Promise<void> }[] = []
let leader: TestServer
let cluster: Pool
let organisation: Organisation
let a: TestRegion
let b: TestRegion
let receiver: Receiver

before(async () => {
  organisation = await newOrganisation()
  const servers = await Promise.all(['leader', 'region-a', 'region-b'].map(startTestServer))
  for (const server of servers) started.unshift({ stop: () => server.remove() })
  leader = servers[0]!
  cluster = createPool(leader.url, 2)
  started.unshift({ stop: () => cluster.end() })
  const options = { configUrls: [leader.url], organisation }
  a = await startRegion({ ...options, name: 'region-a', databaseUrl: servers[1]!.url })
  started.unshift(a)
  b = await startRegion({ ...options, name: 'region-b', databaseUrl: servers[2]!.url })
  started.unshift(b)
  receiver = await startReceiver(({ path }) => ({ status: path.startsWith('/gone') ? 410 : 200 }))
})

after(async () => {
  await receiver.close()
  for (const one of started) await one.stop()
})

interface Made {
  readonly appId: string
  readonly endpointId: string
  readonly path: string
}

let made = 0

/** An application and its endpoint, made in one region. */
async function make(region: TestRegion, folder = 'to'): Promise<Made> {
  const path = `/${folder}/${++made}`
  const application = await region.call('POST', '/app', { name: 'one' })
  assert.equal(application.status, 201)
  const endpoint = await region.call('POST', `/app/${application.json.id}/endpoint`, { url: `${receiver.url}${path}` })
  assert.equal(endpoint.status, 201)
  return { appId: application.json.id, endpointId: endpoint.json.id, path }
}

const publish = (region: TestRegion, appId: string) =>
  region.call('POST', `/app/${appId}/msg`, { eventType: 'happened', payload: { by: region.name } })

/** Publishes until what is published reaches the path; a region that has the application alone sends it nowhere. */
async function publishUntilDelivered(region: TestRegion, { appId, path }: Made): Promise<number> {
  const beganMs = Date.now()
  for (;;) {
    await publish(region, appId)
    await pause(20)
    const first = receiver.received.find((one) => one.path === path)
    if (first !== undefined) return first.atMs - beganMs
    assert.ok(Date.now() - beganMs < 10_000, `${region.name} does not deliver to ${path}`)
  }
}

const count = async (pool: Pool, text: string, ...values: unknown[]) => (await pool.query(text, values)).rowCount

test('a notification of a change that is applied by replication reaches who listens in that region at once', async () => {
  const heard: string[] = []
  const ready = Promise.withResolvers<void>()
  const channels = { [CONFIG_CHANNEL]: (appId: string) => void heard.push(appId) }
  const server = b.pool.options.connectionString!
  const listener = listen(server, channels, ready.resolve)
  await ready.promise
  await cluster.query(`INSERT INTO application (id, org_id, name) VALUES ('app_heard', 'org_other', 'heard')`)
  await eventually(
    () => Promise.resolve(heard.includes('app_heard')),
    (yes) => yes,
    VISIBLE_WITHIN_MS,
  )
  await listener.stop()
})

test('what is made in one region is delivered to from another within a second', async (context: TestContext) => {
  // The first delivery of a service takes longer than any other.
  await publishUntilDelivered(b, await make(b))
  const times: number[] = []
  for (let i = 0; i < 5; i++) times.push(await publishUntilDelivered(b, await make(a)))
  context.diagnostic(`ms from the answer in one region to the delivery from the other: ${times.join(', ')}`)
  assert.ok(Math.max(...times) < VISIBLE_WITHIN_MS)
})

test('who changes something reads it in the same region at once', async (context: TestContext) => {
  const { appId, endpointId } = await make(a)
  const beganMs = Date.now()
  const rounds = 20
  for (let i = 0; i < rounds; i++) {
    const url = `${receiver.url}/moved/${i}`
    assert.equal((await a.call('PATCH', `/app/${appId}/endpoint/${endpointId}`, { url })).status, 200)
    assert.equal((await a.call('GET', `/app/${appId}/endpoint/${endpointId}`)).json.url, url)
    // Also from the copy itself, which deliveries are made of.
    assert.equal(await count(a.pool, 'SELECT FROM endpoint WHERE id = $1 AND url = $2', endpointId, url), 1)
  }
  context.diagnostic(`ms of a change and a read: ${Math.round((Date.now() - beganMs) / rounds)}`)
})

test('a changed URL resets the breaker in every region', async () => {
  const { appId, endpointId } = await make(a)
  await publishUntilDelivered(b, { appId, endpointId, path: `/to/${made}` })
  for (const { pool } of [a, b]) assert.equal(await openBreaker(pool, endpointId, 60_000, { successRate: 0 }), true)
  await a.call('PATCH', `/app/${appId}/endpoint/${endpointId}`, { url: `${receiver.url}/elsewhere` })
  // The region that was asked has done it before it answered.
  assert.notEqual((await readEndpointState(a.pool, endpointId))?.breaker, 'open')
  await eventually(
    async () => (await readEndpointState(b.pool, endpointId))?.breaker,
    (breaker) => breaker !== 'open',
    VISIBLE_WITHIN_MS,
  )
})

test('owners hear of a change once, from the region that made it', async () => {
  const url = `${receiver.url}/operational`
  const made201 = await a.call('POST', '/operational-webhook/endpoint', { url, filterTypes: ['endpoint.created'] })
  assert.equal(made201.status, 201)
  const { endpointId } = await make(b)
  const ofEndpoint = (one: { path: string; body: string }) => one.path === '/operational' && one.body.includes(endpointId)
  await receiver.waitFor(1, { matches: ofEndpoint })
  await pause(2000)
  assert.equal(receiver.received.filter(ofEndpoint).length, 1)
})

test('an endpoint that says that it is gone is disabled in every region', async () => {
  const gone = await make(a, 'gone')
  await publishUntilDelivered(b, gone)
  for (const pool of [cluster, a.pool, b.pool]) {
    await eventually(
      () => count(pool, 'SELECT FROM endpoint WHERE id = $1 AND disabled', gone.endpointId),
      (disabled) => disabled === 1,
    )
  }
  assert.equal(await count(cluster, `SELECT FROM audit_log WHERE object_id = $1 AND operation = 'endpoint.disabled'`, gone.endpointId), 1)
  await eventually(
    () => count(b.pool, 'SELECT FROM endpoint_disabling'),
    (left) => left === 0,
  )
})

test('a token that is refused in one region is refused in every region', async () => {
  const token = await createToken({ secret: TEST_SECRET, subject: organisation.id })
  const { jti } = JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()) as { jti: string }
  assert.equal((await b.call('GET', '/app', undefined, token)).status, 200)
  assert.equal((await a.call('POST', `/auth/token/${jti}/expire`, {})).status, 204)
  await eventually(
    async () => (await b.call('GET', '/app', undefined, token)).status,
    (status) => status === 401,
    VISIBLE_WITHIN_MS,
  )
})

test('nothing but replication changes a copy', async () => {
  await assert.rejects(a.pool.query(`INSERT INTO application (id, org_id, name) VALUES ('app_x', 'org_x', 'x')`), /is a copy/)
})

test('an erased application is erased with what each region has of it', async () => {
  const one = await make(a)
  await publishUntilDelivered(a, one)
  await publishUntilDelivered(b, one)
  assert.equal((await publish(b, one.appId)).status, 202)
  assert.equal((await a.call('POST', `/app/${one.appId}/erase`)).status, 202)
  for (const { pool } of [a, b]) {
    await eventually(
      () => count(pool, 'SELECT FROM message WHERE app_id = $1', one.appId),
      (messages) => messages === 0,
    )
  }
  await eventually(
    () => count(cluster, 'SELECT FROM application WHERE id = $1', one.appId),
    (applications) => applications === 0,
  )
})

test('while the leader is away changes and reads are refused and publishing goes on; when it is back all goes on', async () => {
  const known = await make(a)
  await publishUntilDelivered(b, known)
  await leader.kill()
  const refused = await a.call('POST', '/app', { name: 'two' })
  assert.deepEqual([refused.status, refused.json.code], [503, 'configuration_unavailable'])
  await eventually(
    async () => (await a.call('GET', '/app')).status,
    (status) => status === 503,
    3000,
  )
  for (const region of [a, b]) {
    const before = receiver.received.filter((one) => one.path === known.path).length
    assert.equal((await publish(region, known.appId)).status, 202)
    await receiver.waitFor(before + 1, { matches: (one) => one.path === known.path })
  }
  const ready = await fetch(`${a.url}/readyz`)
  assert.equal(ready.status, 200)
  assert.match(await ready.text(), /age of the copy: .*, read where it is written/)
  await leader.start()
  await eventually(
    async () => (await a.call('POST', '/app', { name: 'three' })).status,
    (status) => status === 201,
  )
  await publishUntilDelivered(b, await make(a))
  await eventually(
    async () => (await fetch(`${a.url}/readyz`)).text(),
    (text) => /age of the copy: \d+ ms"/.test(text),
  )
})

test('a database that is promoted under running processes has its copy compared', async () => {
  const timelineOf = async () => (await b.pool.query<{ timeline: string }>('SELECT timeline FROM config_copy')).rows[0]!.timeline
  const own = await timelineOf()
  // Another than it has: as after a promotion, which ends all connections.
  await b.pool.query(`UPDATE config_copy SET timeline = 'another'`)
  await b.pool.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`)
  await eventually(timelineOf, (timeline) => timeline === own)
  const later = await make(a)
  await publishUntilDelivered(b, later)
})
