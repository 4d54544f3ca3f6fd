import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { SignJWT } from 'jose'
import { freePort } from '../../cli/embedded/ports.ts'
import { createToken } from '../../api/token.ts'
import { createRegionToken } from '../../http/region-token.ts'
import { JWT_SECRET, startApi } from '../api/harness.ts'
import { startRegionApis, type RegionApis } from './apis.ts'

let regions: RegionApis<'west' | 'eu' | 'asia' | 'spare' | 'gone'>
before(async () => {
  regions = await startRegionApis({
    west: { config: {} },
    eu: { zone: 'eu', config: { allowSubnets: ['127.0.0.1/32'] } },
    asia: { config: { allowSubnets: ['127.0.0.1/32'] } },
    spare: { role: 'standby' },
    gone: {},
  })
})
after(() => regions.close())

const internal = (region: 'west' | 'eu', path: string, token: string, body: unknown = {}) =>
  fetch(`${regions.urlOf(region)}/internal/v1${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
    body: JSON.stringify(body),
  })

async function listener() {
  const server = createServer((socket) => socket.on('error', () => undefined).end())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { port: (server.address() as AddressInfo).port, close: () => new Promise((resolve) => server.close(resolve)) }
}

test('without a regions file neither a residency nor a region is taken', async () => {
  const alone = await startApi()
  const refused = await alone.call('POST', '/app', { name: 'a', residency: 'eu' })
  assert.deepEqual(refused.json.detail[0], {
    loc: ['body', 'residency'],
    msg: 'This server knows of no regions (TIDINGS_REGIONS_FILE)',
    type: 'value_error',
  })
  const { json: app } = await alone.call('POST', '/app', { name: 'a', residency: null })
  assert.ok(!('residency' in app))
  for (const region of ['west', 'nearest']) {
    const { status, json } = await alone.call('POST', `/app/${app.id}/endpoint`, { url: 'https://example.com', region })
    assert.deepEqual([status, json.detail[0]?.loc], [422, ['body', 'region']])
  }
  const { json: endpoint } = await alone.call('POST', `/app/${app.id}/endpoint`, { url: 'https://example.com', region: null })
  assert.ok(!('region' in endpoint))
  assert.deepEqual((await alone.call('GET', '/region')).json, {
    name: 'local',
    zone: null,
    role: 'active',
    takesTraffic: true,
    regions: [],
  })
  assert.equal((await fetch(`${alone.url}/internal/v1/connect-time`, { method: 'POST' })).status, 404)
  await alone.close()
})

test('a residency is one of the zones of the file, is given once, and is shown', async () => {
  const eu = regions.api('eu')
  const unknown = await eu.call('POST', '/app', { name: 'a', residency: 'mars' })
  assert.equal(unknown.status, 422)
  assert.equal(unknown.json.detail[0]?.msg, 'There is no zone "mars": there are eu')
  const { status, json: app } = await eu.call('POST', '/app', { name: 'a', uid: 'stays', residency: 'eu' })
  assert.deepEqual([status, app['residency']], [201, 'eu'])
  for (const [method, body] of [
    ['PUT', { name: 'b', uid: 'stays' }],
    ['PUT', { name: 'b', uid: 'stays', residency: 'eu' }],
    ['PATCH', { name: 'c', residency: 'eu' }],
  ] as const) {
    const { status: answered, json } = await eu.call(method, `/app/${app.id}`, body)
    assert.deepEqual([answered, json['residency']], [200, 'eu'], method)
  }
  for (const [method, residency] of [
    ['PUT', null],
    ['PATCH', null],
    ['PATCH', 'mars'],
  ] as const) {
    const { status: answered, json } = await eu.call(method, `/app/${app.id}`, { name: 'd', uid: 'stays', residency })
    assert.equal(answered, 422)
    assert.deepEqual(json.detail[0]?.loc, ['body', 'residency'])
  }
  const { json: plain } = await eu.call('POST', '/app', { name: 'plain' })
  assert.equal((await eu.call('PATCH', `/app/${plain.id}`, { residency: 'eu' })).status, 422)
})

test('an endpoint is given a region that may have it and takes traffic', async () => {
  const [west, eu] = [regions.api('west'), regions.api('eu')]
  const { json: app } = await west.call('POST', '/app', { name: 'a' })
  const { json: resident } = await eu.call('POST', '/app', { name: 'r', residency: 'eu' })
  const create = (api: typeof west, appId: string, region: string) =>
    api.call('POST', `/app/${appId}/endpoint`, { url: 'https://example.com', region })
  const { status, json: endpoint } = await create(west, app.id, 'asia')
  assert.deepEqual([status, endpoint['region']], [201, 'asia'])
  for (const [api, appId, region, why] of [
    [west, app.id, 'moon', /^There is no region "moon": there are west, eu, asia, spare, gone$/],
    [west, app.id, 'spare', /standby/],
    [eu, resident.id, 'west', /^The region west is not in the zone eu/],
    [west, app.id, 'No Region', /lower-case/],
  ] as const) {
    const refused = await create(api, appId, region)
    assert.equal(refused.status, 422)
    assert.deepEqual(refused.json.detail[0]?.loc, ['body', 'region'])
    assert.match(refused.json.detail[0].msg, why)
  }
  const path = `/app/${app.id}/endpoint/${endpoint.id}`
  assert.equal((await west.call('PATCH', path, { description: 'x' })).json['region'], 'asia')
  assert.equal((await west.call('PATCH', path, { region: 'eu' })).json['region'], 'eu')
  assert.equal((await west.call('PATCH', path, { region: 'spare' })).status, 422)
  assert.ok(!('region' in (await west.call('PATCH', path, { region: null })).json))
  await west.call('PATCH', path, { region: 'asia' })
  assert.ok(!('region' in (await west.call('PUT', path, { url: 'https://example.com' })).json))
})

test('the nearest region is the one that connects fastest, of those that may have the endpoint', async () => {
  const [west, eu] = [regions.api('west'), regions.api('eu')]
  const server = await listener()
  const { json: app } = await west.call('POST', '/app', { name: 'a' })
  // Others than west may not go to this address, and two do not answer.
  const only = await west.call('POST', `/app/${app.id}/endpoint`, { url: `http://127.0.0.2:${await freePort()}/`, region: 'nearest' })
  assert.deepEqual([only.status, only.json['region']], [201, 'west'])
  const path = `/app/${app.id}/endpoint/${only.json.id}`
  const url = `http://127.0.0.1:${server.port}/`
  const { json: measured } = await west.call('PATCH', path, { url, region: 'nearest' })
  assert.ok(['west', 'eu', 'asia'].includes(String(measured['region'])))
  assert.equal((await west.call('PATCH', path, { description: 'measured before' })).json['region'], measured['region'])
  const { json: resident } = await eu.call('POST', '/app', { name: 'r', residency: 'eu' })
  const { json: stays } = await eu.call('POST', `/app/${resident.id}/endpoint`, { url, region: 'nearest' })
  assert.equal(stays['region'], 'eu')
  await server.close()
})

test('a region says how long connecting takes, under the address guard of deliveries', async () => {
  const server = await listener()
  const token = await createRegionToken(JWT_SECRET, 'west')
  const ask = async (host: string, port: number) => (await internal('eu', '/connect-time', token, { host, port })).json()
  const { ms } = (await ask('127.0.0.1', server.port)) as { ms: number }
  assert.ok(ms >= 0 && ms < 1500)
  await server.close()
  assert.deepEqual(await ask('127.0.0.1', server.port), { refusal: 'connection refused' })
  for (const [host, port, why] of [
    ['127.0.0.2', server.port, /^the address 127\.0\.0\.2 is loopback/],
    ['2130706434', server.port, /^the address 127\.0\.0\.2 is loopback/],
    ['[::1]', server.port, /loopback/],
    ['10.1.2.3', 443, /private/],
    ['169.254.169.254', 80, /; TIDINGS_ALLOW_SUBNETS/],
    ['localhost', server.port, /./],
    ['user@127.0.0.1', server.port, /must not hold a user name/],
    ['127.0.0.1/path?', server.port, /not valid/],
    ['93.184.215.14', 22, /the port 22 is not allowed/],
  ] as const) {
    const { refusal } = (await ask(host, port)) as { refusal?: string }
    assert.match(refusal ?? '', why, host)
  }
  assert.equal((await internal('eu', '/connect-time', token, { host: '127.0.0.1', port: 0 })).status, 422)
})

test("regions' tokens open the internal API and nothing else, and nothing else opens it", async () => {
  const west = regions.api('west')
  const place = { host: '127.0.0.1', port: 1 }
  const statusOf = async (token: string) => (await internal('west', '/connect-time', token, place)).status
  const signed = (claims: { sub: string; aud?: string; ageS?: number; lifeS?: number }, secret = JWT_SECRET) => {
    const nowS = Math.floor(Date.now() / 1000) - (claims.ageS ?? 0)
    const token = new SignJWT({}).setProtectedHeader({ alg: 'HS256' }).setSubject(claims.sub).setIssuedAt(nowS)
    if (claims.aud !== undefined) token.setAudience(claims.aud)
    return token.setExpirationTime(nowS + (claims.lifeS ?? 60)).sign(new TextEncoder().encode(secret))
  }
  const good = await createRegionToken(JWT_SECRET, 'eu')
  assert.equal(await statusOf(good), 200)
  const aud = 'tidings-internal'
  for (const [what, token] of Object.entries({
    'an organisation': west.token,
    'an application': await createToken({ secret: JWT_SECRET, subject: 'app_1', org: west.orgId }),
    'an organisation, for this audience': await signed({ sub: west.orgId, aud }),
    'a region, for no audience': await signed({ sub: 'region:eu' }),
    'a region, for another audience': await signed({ sub: 'region:eu', aud: 'other' }),
    'this region itself': await createRegionToken(JWT_SECRET, 'west'),
    'a region that there is not': await createRegionToken(JWT_SECRET, 'mars'),
    'another secret': await createRegionToken('another secret of at least 32 characters', 'eu'),
    'one that has ended': await signed({ sub: 'region:eu', aud, ageS: 120 }),
    'one that is old, whatever its end': await signed({ sub: 'region:eu', aud, ageS: 600, lifeS: 86_400 }),
    none: '',
  })) {
    assert.equal(await statusOf(token), 401, what)
  }
  assert.equal((await west.call('GET', '/app', undefined, good)).status, 401)
  assert.equal((await west.call('GET', '/app', undefined, await signed({ sub: west.orgId, aud }))).status, 401)
  assert.equal((await internal('west', '/unknown', good)).status, 404)
})

test('a region tells of itself and of the others, and whether it takes traffic', async () => {
  const west = regions.api('west')
  const told = (await (await fetch(`${west.url}/api/v1/region`)).json()) as Record<string, unknown>
  assert.deepEqual({ ...told, regions: 0 }, { name: 'west', zone: null, role: 'active', takesTraffic: true, regions: 0 })
  assert.deepEqual((told['regions'] as { name: string; url: string }[])[1], {
    name: 'eu',
    zone: 'eu',
    role: 'active',
    url: regions.urlOf('eu'),
  })
  assert.equal((await fetch(`${west.url}/health`)).status, 200)
  west.readiness['temporal'] = () => Promise.resolve('away')
  const sick = await fetch(`${west.url}/health`)
  assert.deepEqual([sick.status, await sick.json()], [503, { status: 'takes no traffic', region: 'west', role: 'active' }])
  delete west.readiness['temporal']
})

test('a standby takes no traffic', async () => {
  const some = await startRegionApis({ spare: { role: 'standby', config: {} }, west: {} })
  assert.equal((await fetch(`${some.urlOf('spare')}/health`)).status, 503)
  assert.equal((await some.api('spare').call('GET', '/region')).json['takesTraffic'], false)
  await some.close()
})
