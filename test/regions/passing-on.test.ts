import assert from 'node:assert/strict'
import { createServer, request as httpRequest, type Server } from 'node:http'
import { after, before, test } from 'node:test'
import pino from 'pino'
import { createApplicationZones } from '../../api/application-zones.ts'
import { createToken } from '../../api/token.ts'
import { createRegions } from '../../domain/regions.ts'
import { createRegionClient } from '../../http/region-client.ts'
import { createRegionToken } from '../../http/region-token.ts'
import { JWT_SECRET, type Harness } from '../api/harness.ts'
import { eventually } from '../support/eventually.ts'
import { startRegionApis, type RegionApis } from './apis.ts'

let regions: RegionApis<'west' | 'strict' | 'eu' | 'asia'>
let west: Harness
let strict: Harness
let eu: Harness
before(async () => {
  regions = await startRegionApis({
    west: { config: {} },
    strict: { config: { regionForwarding: false } },
    eu: { zone: 'eu', config: {} },
    asia: { zone: 'asia' },
  })
  west = regions.api('west')
  strict = regions.api('strict')
  eu = regions.api('eu')
})
after(() => regions.close())

/** An application in the zone eu, created through west by west's organisation. */
async function resident(uid: string): Promise<string> {
  const { status, json } = await west.call('POST', '/app', { name: uid, uid, residency: 'eu' })
  assert.equal(status, 201)
  return json.id
}

const count = async ({ pool }: Harness, table: string, where: string, ...values: unknown[]): Promise<number> =>
  (await pool.query<{ n: number }>(`SELECT count(*)::int AS n FROM ${table} WHERE ${where}`, values)).rows[0]!.n

test('an application is created in its zone, wherever it is asked for, and every region knows where it is, by id and by uid', async () => {
  const id = await resident('created')
  assert.equal(await count(eu, 'application', 'id = $1', id), 1)
  assert.equal(await count(west, 'application', 'id = $1', id), 0)
  for (const api of [west, strict, eu]) {
    const { rows } = await api.pool.query<Record<string, unknown>>('SELECT * FROM application_zone WHERE id = $1', [id])
    assert.deepEqual([rows[0]?.['org_id'], rows[0]?.['zone']], [west.orgId, 'eu'])
    assert.ok(!JSON.stringify(rows).includes('created'))
  }
  for (const name of [id, 'created']) {
    const { status, json } = await west.call('GET', `/app/${name}`)
    assert.deepEqual([status, json.id, json['residency']], [200, id, 'eu'])
  }
})

test('publishing and everything else is passed on, with query, headers and body, and the answer is passed back', async () => {
  const id = await resident('used')
  const { status, json: message } = await west.call('POST', `/app/used/msg?with_content=false`, { eventType: 'a.b', payload: { n: 1 } })
  assert.deepEqual([status, message.payload], [202, {}])
  assert.equal(await count(eu, 'message', 'app_id = $1', id), 1)
  assert.equal(await count(west, 'message', 'app_id = $1', id), 0)
  const { json: endpoint, status: created } = await west.call('POST', `/app/${id}/endpoint`, { url: 'https://example.com/' })
  assert.equal(created, 201)
  const deleted = await west.call('DELETE', `/app/used/endpoint/${endpoint.id}`)
  assert.equal(deleted.status, 204)
  const repeated = { method: 'POST', headers: { authorization: `Bearer ${west.token}`, 'idempotency-key': 'once' } }
  const answers = await Promise.all(
    [1, 2].map(async (n) => {
      const body = JSON.stringify({ eventType: 'a.b', payload: { n } })
      return (await (await fetch(`${west.url}/api/v1/app/used/msg`, { ...repeated, body })).json()) as { id: string }
    }),
  )
  assert.equal(answers[0]!.id, answers[1]!.id)
  assert.equal(await count(west, 'idempotency_key', 'true'), 0)
  const wrong = await west.call('POST', '/app/used/msg', '{')
  assert.equal(wrong.status, 422)
  const batch = await west.call('POST', '/app/used/msg/batch', { messages: [{ eventType: 'a.b', payload: {} }] })
  assert.equal(batch.status, 202)
  assert.equal((await west.call('POST', '/auth/app-portal-access/used', {})).status, 200)
  assert.equal((await fetch(`${west.url}/api/v1/app/used`, { method: 'HEAD', headers: repeated.headers })).status, 200)
})

test('an application that a publish describes is created in its zone too', async () => {
  const application = { name: 'described', uid: 'described', residency: 'eu' }
  const { status } = await west.call('POST', '/app/described/msg', { eventType: 'a.b', payload: {}, application })
  assert.equal(status, 202)
  const put = await west.call('PUT', '/app/put', { name: 'put', uid: 'put', residency: 'eu' })
  assert.equal(put.status, 201)
  const batch = { messages: [{ eventType: 'a.b', payload: {}, application: { name: 'batch', uid: 'batch', residency: 'eu' } }] }
  assert.equal((await west.call('POST', '/app/batch/msg/batch', batch)).status, 202)
  assert.equal(await count(west, 'application', 'org_id = $1', west.orgId), 0)
  assert.equal(await count(west, 'audit_log', 'org_id = $1', west.orgId), 0)
})

test('where nothing is passed on it is refused, before anything is stored, and told where to go', async () => {
  const id = await resident('refused')
  for (const [method, path, body] of [
    ['POST', '/app/refused/msg', { eventType: 'a.b', payload: {} }],
    ['GET', `/app/${id}/endpoint`, undefined],
    ['POST', '/app', { name: 'x', residency: 'eu' }],
    ['PUT', '/app/new', { name: 'x', uid: 'new', residency: 'eu' }],
  ] as const) {
    const { status, json } = await strict.call(method, path, body, west.token)
    assert.deepEqual([status, json.code, json['home']], [421, 'misdirected', regions.urlOf('eu')], path)
  }
  const nobody = await strict.call('POST', '/app', { name: 'x', residency: 'asia' })
  assert.deepEqual([nobody.status, nobody.json['home']], [421, regions.urlOf('asia')])
  for (const table of ['application', 'message', 'audit_log', 'idempotency_key']) assert.equal(await count(strict, table, 'true'), 0, table)
})

test('a uid is one in all zones: it is neither given twice nor taken over', async () => {
  const id = await resident('one')
  assert.equal((await west.call('POST', '/app', { name: 'x', uid: 'one' })).status, 409)
  const got = await west.call('POST', '/app?get_if_exists=true', { name: 'x', uid: 'one' })
  assert.deepEqual([got.status, got.json.id], [200, id])
  const { json: other } = await west.call('POST', '/app', { name: 'x' })
  assert.equal((await west.call('PATCH', `/app/${other.id}`, { uid: 'one' })).status, 409)
  assert.equal((await west.call('PATCH', '/app/one', { uid: 'two' })).status, 200)
  assert.equal((await west.call('PATCH', `/app/${other.id}`, { uid: 'one' })).status, 200)
  assert.equal((await west.call('GET', '/app/two')).json.id, id)
  assert.equal((await west.call('DELETE', '/app/two')).status, 204)
  assert.equal((await west.call('POST', '/app', { name: 'x', uid: 'two' })).status, 201)
})

test('what another organisation or another application names is as if it were not there', async () => {
  const id = await resident('hidden')
  const stranger = await createToken({ secret: JWT_SECRET, subject: 'org_stranger' })
  assert.equal((await west.call('GET', `/app/${id}`, undefined, stranger)).status, 404)
  const own = await createToken({ secret: JWT_SECRET, subject: id, org: west.orgId })
  const other = await createToken({ secret: JWT_SECRET, subject: 'app_other', org: west.orgId })
  assert.equal((await west.call('GET', `/app/${id}/endpoint`, undefined, own)).status, 200)
  assert.equal((await strict.call('GET', `/app/${id}/endpoint`, undefined, other)).status, 404)
  assert.equal((await west.call('GET', '/app/unknown')).status, 404)
})

test('a task is found in the zone where it runs, and an erased application is forgotten everywhere', async () => {
  const id = await resident('erased')
  const { json: task } = await west.call('POST', '/app/erased/erase')
  const found = await west.call('GET', `/background-task/${task.id}`)
  assert.deepEqual([found.status, found.json['task']], [200, 'application.erase'])
  assert.equal((await west.call('GET', `/background-task/${task.id.slice(0, -1)}0`)).status, 404)
  for (const api of [west, strict, eu]) assert.equal(await count(api, 'application_zone', 'id = $1', id), 0)
})

test('a request that was passed on is not passed on again', async () => {
  const id = await resident('loop')
  const headers = { authorization: `Bearer ${west.token}`, 'tidings-passed-on-by': 'eu' }
  const answer = await fetch(`${west.url}/api/v1/app/${id}`, { headers })
  assert.equal(answer.status, 421)
})

test('a body is streamed, and one that is too large is refused', async () => {
  const id = await resident('large')
  const send = (bytes: number, chunked: boolean) => {
    const body = JSON.stringify({ msgIds: ['x'.repeat(bytes)] })
    return new Promise<number>((resolve, reject) => {
      const headers = { authorization: `Bearer ${west.token}`, ...(chunked ? {} : { 'content-length': Buffer.byteLength(body) }) }
      const request = httpRequest(`${west.url}/api/v1/app/${id}/msg/cancel`, { method: 'POST', headers }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode ?? 0))
      })
      request.on('error', reject).write(body.slice(0, 10))
      request.end(body.slice(10))
    })
  }
  assert.deepEqual([await send(1_000_000, false), await send(1_000_000, true)], [200, 200])
  assert.deepEqual([await send(2_200_000, false), await send(2_200_000, true)], [413, 413])
})

/** A region in place of asia's, which answers as it is told to. */
async function standIn(answer: (server: Server) => void): Promise<{ close(): Promise<void> }> {
  const server = createServer()
  answer(server)
  await new Promise<void>((resolve) => server.listen(Number(new URL(regions.urlOf('asia')).port), '127.0.0.1', resolve))
  return {
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

test('a home that is away, or cuts the answer off, is told as such', async () => {
  const create = () => west.call('POST', '/app', { name: 'x', residency: 'asia' })
  const away = await create()
  assert.deepEqual([away.status, away.json.code], [502, 'region_unreachable'])
  assert.match(JSON.stringify(away.json.detail), /^"The region asia cannot be reached/)
  const id = 'app_0000000000000000000000000AA'
  await west.pool.query('INSERT INTO application_zone (id, org_id, zone, version) VALUES ($1, $2, $3, 1)', [id, west.orgId, 'asia'])
  const streamed = await west.call('POST', `/app/${id}/endpoint`, { url: 'https://example.com' })
  assert.equal(streamed.status, 502)
  const cut = await standIn((server) =>
    server.on('request', (_request, response) => response.writeHead(200).write('{', () => response.destroy())),
  )
  await assert.rejects(create())
  await cut.close()
  const redirects = await standIn((server) =>
    server.on('request', (_request, response) => response.writeHead(302, { location: west.url }).end()),
  )
  assert.equal(
    (await fetch(`${west.url}/api/v1/app/${id}`, { redirect: 'manual', headers: { authorization: `Bearer ${west.token}` } })).status,
    302,
  )
  await redirects.close()
})

test('a client that goes away takes its request along', async () => {
  const gone = Promise.withResolvers<void>()
  const arrived = Promise.withResolvers<void>()
  const slow = await standIn((server) =>
    server.on('request', (request, response) => {
      arrived.resolve()
      response.once('close', () => gone.resolve())
      request.resume()
    }),
  )
  const stop = new AbortController()
  const asking = fetch(`${west.url}/api/v1/app`, {
    method: 'POST',
    headers: { authorization: `Bearer ${west.token}` },
    body: JSON.stringify({ name: 'x', residency: 'asia' }),
    signal: stop.signal,
  })
  await arrived.promise
  stop.abort()
  await assert.rejects(asking)
  await gone.promise
  await slow.close()
})

test('a region that was away is told when it is back', async () => {
  const some = await startRegionApis({ home: { zone: 'eu', config: {} }, late: {} })
  const home = some.api('home')
  const { json: app } = await home.call('POST', '/app', { name: 'x', uid: 'late', residency: 'eu' })
  assert.equal(await count(home, 'application_zone_untold', 'app_id = $1 AND region = $2', app.id, 'late'), 1)
  await some.start('late', {})
  await home.pool.query('UPDATE application_zone_untold SET next_at = now()')
  await eventually(
    () => count(home, 'application_zone_untold', 'true'),
    (left) => left === 0,
  )
  assert.equal((await some.api('late').call('GET', '/app/late', undefined, home.token)).json.id, app.id)
  await some.close()
})

test('a region tells of its own zone alone, and what is heard late changes nothing', async () => {
  const id = await resident('told')
  const tell = async (from: string, zone: string, version: number, forgotten: string[] = []) => {
    const token = await createRegionToken(JWT_SECRET, from)
    const applications = forgotten.length > 0 ? [] : [{ id, orgId: west.orgId, uidHash: null, zone, version }]
    return (
      await fetch(`${west.url}/internal/v1/application-zone`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}` },
        body: JSON.stringify({ applications, forgotten }),
      })
    ).status
  }
  assert.equal(await tell('asia', 'eu', 1), 403)
  assert.equal(await tell('strict', 'eu', 1), 403)
  assert.equal(await tell('asia', 'asia', Number.MAX_SAFE_INTEGER), 204)
  assert.equal(await tell('asia', 'asia', 1, [id]), 204)
  assert.equal(await tell('eu', 'eu', 1), 204)
  assert.equal((await west.call('GET', '/app/told')).json.id, id)
})

test('after a change of the secret the zone tells uids by the new one, and a region that is new is told of everything', async () => {
  const some = await startRegionApis({ home: { zone: 'eu', config: {} }, other: { config: {} } })
  const [home, other] = [some.api('home'), some.api('other')]
  const { json: app } = await home.call('POST', '/app', { name: 'x', uid: 'rotated', residency: 'eu' })
  const hash = async () => (await other.pool.query<{ uid_hash: Buffer }>('SELECT uid_hash FROM application_zone')).rows[0]!.uid_hash
  const old = await hash()
  const region = (name: string, zone: string | null, apiUrl: string) =>
    ({ name, zone, role: 'active', peers: [], apiUrl, temporalAddress: '127.0.0.1:1' }) as const
  const all = [
    region('home', 'eu', some.urlOf('home')),
    region('other', null, some.urlOf('other')),
    region('new', null, 'http://127.0.0.1:1'),
  ]
  const client = createRegionClient({ secret: JWT_SECRET, own: 'home' })
  const zones = createApplicationZones({
    pool: home.pool,
    regions: createRegions(all, 'home', {}),
    client,
    secrets: ['the next test secret of at least 32 characters', JWT_SECRET],
    log: pino({ level: 'silent' }),
  })
  await zones.begin()
  assert.equal(await count(home, 'application_zone_untold', 'region = $1 AND app_id = $2', 'new', app.id), 1)
  await zones.tellAll()
  assert.notDeepEqual(await hash(), old)
  await client.close()
  // It has not changed its own secret yet: it finds the id, and no uid.
  assert.equal((await other.call('GET', `/app/${app.id}`, undefined, home.token)).status, 200)
  assert.equal((await other.call('GET', '/app/rotated', undefined, home.token)).status, 404)
  await some.close()
})
