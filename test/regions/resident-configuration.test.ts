import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createToken } from '../../api/token.ts'
import { findApplication, listApplications } from '../../storage/applications.ts'
import { createCipher } from '../../storage/cipher.ts'
import { createConfigCopy } from '../../storage/config-copy.ts'
import { createConfigLeader } from '../../storage/config-leader.ts'
import { createSharedConfiguration } from '../../storage/configuration.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { renewEncryption } from '../../storage/renew-encryption.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { freePorts, writeRegions, type RegionsOnDisk } from '../support/regions.ts'
import { TEST_SECRET } from '../support/service.ts'
import {
  newOrganisation,
  startRegion,
  startTestServer,
  type Organisation,
  type Reply,
  type TestRegion,
  type TestServer,
} from '../support/shared-configuration.ts'
import { rowsWith, textsOnDisk } from './scan.ts'

const VISIBLE_WITHIN_MS = 1000
const UID = 'canary-in-a-uid'
const NAME = 'canary-in-a-name'
const PAYLOAD = 'canary-in-a-payload'
const PATH = '/canary-in-a-path'
const TYPE = 'happened'

const started: { stop(): Promise<void> }[] = []
let onDisk: RegionsOnDisk
let leader: TestServer
let westServer: TestServer
let cluster: Pool
let organisation: Organisation
let west: TestRegion
let eu: TestRegion
let receiver: Receiver

before(async () => {
  organisation = await newOrganisation()
  const servers = await Promise.all(['leader', 'west', 'eu'].map(startTestServer))
  for (const server of servers) started.unshift({ stop: () => server.remove() })
  ;[leader, westServer] = servers as [TestServer, TestServer]
  cluster = createPool(leader.url, 2)
  started.unshift({ stop: () => cluster.end() })
  const [westPort, euPort] = (await freePorts(2)) as [number, number]
  onDisk = writeRegions({ west: { port: westPort }, eu: { port: euPort, zone: 'eu' } })
  const envOf = (name: string) => ({ ...onDisk.envOf(name), TIDINGS_REGION_FORWARDING: 'true' })
  const options = { configUrls: [leader.url], organisation }
  west = await startRegion({ ...options, name: 'west', databaseUrl: westServer.url, env: envOf('west') })
  started.unshift(west)
  eu = await startRegion({ ...options, name: 'eu', databaseUrl: servers[2]!.url, env: envOf('eu'), zone: 'eu' })
  started.unshift(eu)
  receiver = await startReceiver(({ path }) => ({ status: path.startsWith('/gone') ? 410 : 200 }))
  assert.equal((await west.call('POST', '/event-type', { name: TYPE, description: 'of all regions' })).status, 201)
})

after(async () => {
  await receiver.close()
  for (const one of started) await one.stop()
  onDisk.remove()
})

const ok = async (asked: Promise<Reply>, status = 200): Promise<Reply['json']> => {
  const { status: answered, json } = await asked
  assert.equal(answered, status, JSON.stringify(json))
  return json
}

const count = async (pool: Pool, text: string, ...values: unknown[]) => (await pool.query(text, values)).rowCount

let made = 0

/** An application with an endpoint that takes what the test publishes. */
async function make(
  region: TestRegion,
  fields: object,
  path = `/to/${++made}`,
): Promise<{ appId: string; endpointId: string; path: string }> {
  const { id: appId } = await ok(region.call('POST', '/app', { name: 'one', ...fields }), 201)
  const endpoint = { url: `${receiver.url}${path}`, filterTypes: [TYPE] }
  const { id: endpointId } = await ok(region.call('POST', `/app/${appId}/endpoint`, endpoint), 201)
  return { appId, endpointId, path }
}

const RESIDES = { residency: 'eu' }

const publish = (region: TestRegion, name: string) =>
  ok(region.call('POST', `/app/${name}/msg`, { eventType: TYPE, payload: { secret: PAYLOAD } }), 202)

/** Publishes until what is published arrives: a region may hear of an application a moment later. */
async function publishUntilDelivered(region: TestRegion, { appId, path }: { appId: string; path: string }): Promise<void> {
  await eventually(
    async () => {
      await region.call('POST', `/app/${appId}/msg`, { eventType: TYPE, payload: {} })
      return receiver.received.some((one) => one.path === path)
    },
    (arrived) => arrived,
  )
}

/** All that is known of the resident, and may be nowhere else. */
const forbidden = new Set([UID, NAME, PAYLOAD, PATH])
let residentId: string
let endpointId: string

test('a resident is made and used by way of another region, and delivered from its zone', async () => {
  const { id } = await ok(west.call('POST', '/app', { name: NAME, uid: UID, ...RESIDES }), 201)
  residentId = id
  const endpoint = await ok(west.call('POST', `/app/${UID}/endpoint`, { url: `${receiver.url}${PATH}`, filterTypes: [TYPE] }), 201)
  endpointId = endpoint.id
  await ok(west.call('PATCH', `/app/${UID}`, { metadata: { k: `${NAME}, too` } }))
  await ok(west.call('PUT', `/app/${UID}/endpoint/${endpointId}/headers`, { headers: { 'x-canary': 'yes' } }), 204)
  await ok(west.call('POST', `/app/${UID}/endpoint/${endpointId}/secret/rotate`, {}))
  const { key } = (await ok(west.call('GET', `/app/${UID}/endpoint/${endpointId}/secret`))) as unknown as { key: string }
  const sent = [await publish(west, UID), await publish(eu, id)]
  await receiver.waitFor(2, { matches: ({ path }) => path === PATH })
  for (const text of [endpointId, key.slice(6), ...sent.map((one) => one.id)]) forbidden.add(text)
  // Described by the publish that is for it.
  const described = { eventType: TYPE, payload: {}, application: { name: NAME, uid: `${UID}-2`, ...RESIDES } }
  await ok(eu.call('POST', `/app/${UID}-2/msg`, described), 202)
  assert.equal(await count(eu.pool, `SELECT FROM application WHERE residency = 'eu'`), 2)
  const existing = await ok(eu.call('POST', '/app?get_if_exists=true', { name: 'other', uid: UID }))
  assert.equal(existing.id, id)
  for (const region of [west, eu]) {
    const refused = await region.call('POST', '/app', { name: 'other', uid: UID })
    assert.deepEqual([refused.status, refused.json.code], [409, 'conflict'])
  }
  assert.equal((await eu.call('POST', '/app', { name: 'other', uid: UID, ...RESIDES })).status, 409)
})

test('its event types, operational endpoints and its neighbours without a zone are configured at the cluster', async () => {
  const neighbour = await make(eu, { uid: 'neighbour' })
  for (const pool of [cluster, eu.pool]) assert.equal(await count(pool, 'SELECT FROM endpoint WHERE id = $1', neighbour.endpointId), 1)
  await publishUntilDelivered(west, neighbour)
  const gone = await make(eu, {}, '/gone/neighbour')
  await publishUntilDelivered(eu, gone)
  for (const pool of [cluster, eu.pool, west.pool]) {
    await eventually(
      () => count(pool, 'SELECT FROM endpoint WHERE id = $1 AND disabled', gone.endpointId),
      (disabled) => disabled === 1,
    )
  }
  const refused = await eu.call('PATCH', `/app/neighbour`, { uid: UID })
  assert.equal(refused.status, 409)
  assert.equal((await eu.call('PATCH', `/app/${UID}`, { uid: 'neighbour' })).status, 409)
  assert.equal((await eu.call('PATCH', `/app/neighbour`, RESIDES)).status, 422)
  assert.equal((await eu.call('PUT', `/app/neighbour`, { name: 'n', uid: 'neighbour', ...RESIDES })).status, 422)
  await assert.rejects(eu.pool.query(`UPDATE application SET name = 'x' WHERE uid = 'neighbour'`), /is a copy/)
  await assert.rejects(eu.pool.query(`UPDATE application SET residency = 'eu' WHERE uid = 'neighbour'`), /is a copy/)
  await assert.rejects(eu.pool.query(`UPDATE endpoint SET url = 'x' WHERE id = $1`, [neighbour.endpointId]), /is a copy/)
  await assert.rejects(eu.pool.query('DELETE FROM endpoint_secret WHERE endpoint_id = $1', [neighbour.endpointId]), /is a copy/)
  await assert.rejects(eu.pool.query(`INSERT INTO event_type (org_id, name, description) VALUES ('o', 'n', 'd')`), /is a copy/)
  const insert = `INSERT INTO application (id, org_id, name, residency) VALUES ('app_x', 'org_x', 'x', 'eu')`
  await assert.rejects(cluster.query(insert), /are not configured here/)
  await assert.rejects(west.pool.query(insert), /is a copy/)
  const stray = `INSERT INTO endpoint (id, app_id, url) VALUES ('ep_x', $1, 'http://x')`
  await assert.rejects(cluster.query(stray, [residentId]), /are not configured here/)
})

test('lists and the audit log have residents and the others', async () => {
  const { data } = await ok(eu.call('GET', '/app'))
  assert.equal(data.length, 4)
  assert.deepEqual((await ok(eu.call('GET', `/app?limit=1&iterator=${data[0]!.id}`))).data, [data[1]])
  type Entry = { readonly operation: string; readonly objectId: string }
  const entries = (await ok(eu.call('GET', '/audit-log'))).data as unknown as Entry[]
  const ofResident = (await ok(eu.call('GET', `/audit-log?application=${UID}`))).data as unknown as Entry[]
  assert.equal(ofResident.filter(({ operation }) => operation === 'application.created').length, 1)
  assert.ok(entries.some(({ operation }) => operation === 'event-type.created'))
  assert.ok(entries.some(({ objectId }) => objectId === residentId))
})

test('while the cluster is away residents are configured, used and read, and nobody else; then replication goes on', async () => {
  await leader.kill()
  await eventually(
    async () => (await eu.call('GET', '/app')).status,
    (status) => status === 503,
    5000,
  )
  for (const region of [eu, west]) {
    await ok(region.call('GET', `/app/${UID}`))
    await ok(region.call('PATCH', `/app/${UID}/endpoint/${endpointId}`, { description: `while it was away, by ${region.name}` }))
    await ok(region.call('GET', `/app/${UID}/endpoint/${endpointId}`))
    await ok(region.call('POST', `/app/${UID}/endpoint/${endpointId}/secret/rotate`, {}))
  }
  for (const name of [UID, residentId]) assert.ok((await ok(eu.call('GET', `/audit-log?application=${name}`))).data.length > 5)
  await ok(eu.call('PUT', `/app/${UID}`, { name: NAME, uid: UID }))
  await ok(eu.call('POST', `/app/${UID}/endpoint/${endpointId}/breaker/close`))
  await ok(eu.call('POST', `/app/${UID}/endpoint/${endpointId}/queue/drain`))
  const { id: second } = await ok(eu.call('PUT', `/app/${UID}/endpoint/second`, { url: receiver.url, uid: 'second', region: 'eu' }), 201)
  await ok(west.call('DELETE', `/app/${UID}/endpoint/${second}`), 204)
  const meanwhile = await make(eu, { uid: 'meanwhile', ...RESIDES })
  await ok(eu.call('PUT', '/app/put', { name: 'put', uid: 'put', ...RESIDES }), 201)
  await publishUntilDelivered(west, meanwhile)
  const gone = await make(eu, RESIDES, '/gone/resident')
  await publish(eu, gone.appId)
  await eventually(
    () => count(eu.pool, 'SELECT FROM endpoint WHERE id = $1 AND disabled', gone.endpointId),
    (disabled) => disabled === 1,
  )
  assert.equal(await count(eu.pool, 'SELECT FROM endpoint_disabling'), 0)
  for (const [method, path, body] of [
    ['POST', '/app', { name: 'two' }],
    ['PATCH', '/app/neighbour', { name: 'two' }],
    ['POST', '/event-type', { name: 'two', description: '' }],
  ] as const) {
    const refused = await eu.call(method, path, body)
    assert.deepEqual([refused.status, refused.json.code], [503, 'configuration_unavailable'], path)
  }
  await ok(eu.call('POST', `/app/${meanwhile.appId}/erase`), 202)
  await leader.start()
  await eventually(
    async () => (await eu.call('PATCH', '/app/neighbour', { name: 'two' })).status,
    (status) => status === 200,
  )
  await publishUntilDelivered(west, await make(eu, {}))
})

test('an erased resident is erased, and other regions forget it', async () => {
  const one = await make(eu, { uid: 'erased', ...RESIDES })
  await publishUntilDelivered(west, one)
  await ok(west.call('POST', `/app/erased/erase`), 202)
  for (const pool of [eu.pool, west.pool]) {
    await eventually(
      () => rowsWith(pool, [one.endpointId]),
      // Counts of requests, written two seconds after them, go by age.
      (rows) => rows.every((row) => ['audit_log', 'background_task', 'attempt', 'endpoint_health'].some((table) => row.startsWith(table))),
    )
  }
  await eventually(
    () => count(eu.pool, 'SELECT FROM application WHERE id = $1', one.appId),
    (rows) => rows === 0,
  )
  assert.equal(await count(west.pool, 'SELECT FROM application_zone WHERE id = $1', one.appId), 0)
})

test("tokens of a resident end in its zone, an organisation's everywhere", async () => {
  const token = await createToken({ secret: TEST_SECRET, subject: residentId, org: organisation.id })
  await ok(eu.call('GET', `/app/${residentId}`, undefined, token))
  await new Promise((resolve) => setTimeout(resolve, 1000))
  await ok(eu.call('POST', `/auth/app/${residentId}/expire-all`, {}), 204)
  assert.equal((await eu.call('GET', `/app/${residentId}`, undefined, token)).status, 401)
  assert.equal((await west.call('GET', `/app/${residentId}`, undefined, token)).status, 401)
  assert.equal(await count(cluster, 'SELECT FROM application_tokens_expired'), 0)
})

test('two applications that get one uid at the same time do not stop replication: the resident has it, the other its id', async () => {
  const both = 'given-twice'
  const { id: resident } = await ok(eu.call('POST', '/app', { name: 'r', uid: both, ...RESIDES }), 201)
  // As a change that another region has made before it heard of the resident.
  const insert = `INSERT INTO application (id, org_id, uid, name) VALUES ('app_twice', $1, $2, 'w')`
  await cluster.query(insert, [organisation.id, both])
  await eventually(
    () => count(eu.pool, `SELECT FROM application WHERE id = 'app_twice'`),
    (rows) => rows === 1,
    VISIBLE_WITHIN_MS,
  )
  for (const region of [eu, west]) {
    assert.equal((await ok(region.call('GET', `/app/${both}`))).id, resident)
    assert.equal((await ok(region.call('GET', '/app/app_twice'))).id, 'app_twice')
    await ok(region.call('PATCH', '/app/app_twice', { metadata: { by: region.name } }))
  }
  assert.equal((await ok(eu.call('PATCH', `/app/${both}`, { name: 'renamed' }))).id, resident)
  // Nothing that is meant for the resident is taken elsewhere.
  for (const region of [eu, west]) await publish(region, both)
  for (const [name, pool, messages] of [
    [resident, eu.pool, 2],
    ['app_twice', eu.pool, 0],
    ['app_twice', west.pool, 0],
  ] as const) {
    assert.equal(await count(pool, 'SELECT FROM message WHERE app_id = $1', name), messages)
  }
  await ok(eu.call('DELETE', `/app/${both}`), 204)
  assert.equal((await ok(eu.call('GET', `/app/${both}`))).id, 'app_twice')
  await publishUntilDelivered(west, await make(eu, {}))
})

test("numbers of residents' secrets are below all that are copied", async () => {
  const residents = `endpoint_id IN (SELECT e.id FROM endpoint e JOIN application a ON a.id = e.app_id WHERE a.residency = 'eu')`
  const { rows } = await eu.pool.query<{ resides: boolean; least: number; most: number }>(
    `SELECT ${residents} AS resides, min(id) AS least, max(id) AS most FROM endpoint_secret GROUP BY 1 ORDER BY 1`,
  )
  assert.deepEqual(
    rows.map(({ resides }) => resides),
    [false, true],
  )
  assert.ok(rows[0]!.least > 0 && rows[1]!.most < 0, JSON.stringify(rows))
  await assert.rejects(
    cluster.query(`INSERT INTO endpoint_secret (id, endpoint_id, secret_cipher) OVERRIDING SYSTEM VALUE SELECT -5, id, 'x' FROM endpoint`),
    /are not configured here/,
  )
})

/** The configuration as a process of eu sees it that has not heard how old its copy is. */
function unknownAge() {
  const configLeader = createConfigLeader([leader.url])
  const shared = { pool: eu.pool, leader: configLeader, copy: createConfigCopy(eu.pool), region: 'eu', zone: 'eu' }
  return { configuration: createSharedConfiguration({ ...shared, onFailure: assert.fail }), stop: () => configLeader.stop() }
}

test('where the copy is old lists are read at the cluster and here, and residents here alone', async () => {
  const { configuration, stop } = unknownAge()
  const { id: orgId } = organisation
  const { rows: all } = await eu.pool.query<{ id: string }>(
    'SELECT id FROM application WHERE org_id = $1 AND deleted_at IS NULL ORDER BY id',
    [orgId],
  )
  const ids = all.map(({ id }) => id)
  assert.ok(ids.length > 5)
  for (const order of ['ascending', 'descending'] as const) {
    const found: string[] = []
    for (let from: string | undefined; ;) {
      const page = { limit: 2, order, from }
      const { rows, done } = await configuration.list(page, (db, zone) => listApplications(db, orgId, page, zone))
      found.push(...rows.map(({ id }) => id))
      if (done) break
      from = rows.at(-1)!.id
    }
    assert.deepEqual(found, order === 'ascending' ? ids : ids.toReversed())
  }
  const before = { limit: 2, order: 'ascending', from: ids.at(-1)!, backwards: true } as const
  const { rows } = await configuration.list(before, (db, zone) => listApplications(db, orgId, before, zone))
  assert.deepEqual(
    rows.map(({ id }) => id),
    ids.slice(-3, -1),
  )
  const resident = configuration.of(orgId, UID)
  assert.equal((await findApplication(resident.reads, orgId, UID))?.id, residentId)
  // Not even asked for there.
  assert.equal(await findApplication(configuration.reads, orgId, UID), undefined)
  const entry = { orgId, appId: residentId, actor: 'test', tokenId: null, operation: 'x', objectId: 'x', fields: [] }
  await assert.rejects(
    configuration.change((change) => change.audit(entry)),
    /is not configured at the cluster/,
  )
  await stop()
})

test('what another key has encrypted is encrypted anew in the region for residents, at the cluster for the others', async () => {
  const { configuration, stop } = unknownAge()
  const other = `${TEST_SECRET}, another`
  const renew = (key: string, previous: string) => renewEncryption(eu.pool, createCipher(key, [previous]), () => false, configuration)
  const keysOf = async (pool: Pool) => {
    const { rows } = await pool.query<{ id: string; key: string }>(
      `SELECT id::text, encode(substring(secret_cipher FROM 1 FOR 4), 'hex') AS key FROM endpoint_secret`,
    )
    return rows
  }
  const secrets = (await keysOf(eu.pool)).length
  // Custom headers of the resident's endpoint besides.
  assert.equal(await renew(other, TEST_SECRET), secrets + 1)
  const wanted = createCipher(other).keyId.toString('hex')
  assert.ok((await keysOf(cluster)).every(({ key }) => key === wanted))
  await eventually(
    () => keysOf(eu.pool),
    (rows) => rows.length === secrets && rows.every(({ key }) => key === wanted),
  )
  assert.equal(await renew(TEST_SECRET, other), secrets + 1)
  await stop()
})

test('nothing of the resident is anywhere but in its zone: not at the cluster, not in the other region', async (t) => {
  const { rows } = await eu.pool.query<{ id: string }>(
    `SELECT m.id FROM message m JOIN application a ON a.id = m.app_id WHERE a.residency = 'eu'
     UNION SELECT t.id FROM attempt t JOIN application a ON a.id = t.app_id WHERE a.residency = 'eu'
     UNION SELECT e.id FROM endpoint e JOIN application a ON a.id = e.app_id WHERE a.residency = 'eu'
     UNION SELECT l.id FROM audit_log l JOIN application a ON a.id = l.app_id WHERE a.residency = 'eu'`,
  )
  for (const { id } of rows) forbidden.add(id)
  assert.ok((await rowsWith(eu.pool, [UID, NAME, PAYLOAD, residentId])).length > 4, 'the scan finds what is there')
  assert.deepEqual(await rowsWith(cluster, [...forbidden, residentId]), [])
  assert.deepEqual(await rowsWith(west.pool, forbidden), [])
  assert.deepEqual(await rowsWith(west.pool, [residentId]), [`application_zone: ${residentId}`])
  // A row is on disk when it is in the log ahead of the tables.
  for (const server of [leader, westServer]) {
    assert.ok(textsOnDisk(server.folder, ['neighbour']).length > 0, 'the scan finds what is there')
    assert.deepEqual(textsOnDisk(server.folder, forbidden), [])
  }
  assert.deepEqual(textsOnDisk(leader.folder, [residentId]), [])
  t.diagnostic(`${forbidden.size} texts`)
})
