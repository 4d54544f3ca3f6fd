import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { SignJWT } from 'jose'
import { createToken } from '../../api/token.ts'
import { newId } from '../../domain/ids.ts'
import { JWT_SECRET, startApi, type Harness } from './harness.ts'

let api: Harness
before(async () => {
  api = await startApi()
})
after(() => api.close())

const key = new TextEncoder().encode(JWT_SECRET)

test('a missing, malformed, foreign, expired or early token is 401 authentication_failed', async () => {
  const nowS = Math.floor(Date.now() / 1000)
  const sign = (claims: Record<string, unknown>, alg = 'HS256') => new SignJWT(claims).setProtectedHeader({ alg }).sign(key)
  const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(JSON.stringify({ sub: api.orgId })).toString('base64url')}.`
  const tokens = [
    'nonsense',
    unsigned,
    await createToken({ secret: 'another secret of at least 32 chars', subject: api.orgId }),
    await sign({ sub: api.orgId, exp: nowS - 10 }),
    await sign({ sub: api.orgId, nbf: nowS + 100 }),
    await sign({ sub: api.orgId }, 'HS512'),
    await sign({ sub: 'user_x' }),
    await sign({}),
  ]
  for (const token of tokens) {
    const { status, json } = await api.call('GET', '/app', undefined, token)
    assert.deepEqual([status, json.code], [401, 'authentication_failed'])
  }
  assert.equal((await fetch(`${api.url}/api/v1/app`)).status, 401)
  assert.equal((await fetch(`${api.url}/api/v1/app`, { headers: { authorization: 'Basic eDp5' } })).status, 401)
})

test('a remembered token ends with its expiry', async () => {
  const nowS = Math.floor(Date.now() / 1000)
  const token = await new SignJWT({ sub: api.orgId, exp: nowS + 2 }).setProtectedHeader({ alg: 'HS256' }).sign(key)
  assert.equal((await api.call('GET', '/app', undefined, token)).status, 200)
  while ((await api.call('GET', '/app', undefined, token)).status === 200) assert.ok(Date.now() / 1000 < nowS + 5)
  assert.ok(Date.now() / 1000 >= nowS + 2)
})

test('a token of an application without its organisation is 400 bad_token', async () => {
  const token = await createToken({ secret: JWT_SECRET, subject: newId('app') })
  const { status, json } = await api.call('GET', '/app/x', undefined, token)
  assert.deepEqual([status, json.code], [400, 'bad_token'])
})

test('a portal token reaches its own application and nothing that belongs to the organisation', async () => {
  const app = await api.svix.application.create({ name: 'Portal', uid: 'portal' })
  const other = await api.svix.application.create({ name: 'Other' })
  const { token, url } = await api.svix.authentication.appPortalAccess(app.id, {})
  assert.match(url, /#key=/)
  assert.equal((await api.call('GET', '/app/portal', undefined, token)).status, 200)
  const endpoint = await api.call('POST', `/app/${app.id}/endpoint`, { url: 'https://example.com/' }, token)
  assert.equal(endpoint.status, 201)
  assert.equal((await api.call('GET', '/event-type', undefined, token)).status, 200)
  assert.equal((await api.call('GET', `/app/${other.id}`, undefined, token)).status, 404)
  assert.equal((await api.call('GET', `/app/${other.id}/endpoint`, undefined, token)).status, 404)
  const message = await api.svix.message.create(app.id, { eventType: 'x', payload: {} })
  const refused: [string, string][] = [
    ['GET', '/app'],
    ['POST', '/app'],
    ['PUT', `/app/${app.id}`],
    ['PATCH', `/app/${app.id}`],
    ['DELETE', `/app/${app.id}`],
    ['POST', `/app/${app.id}/msg`],
    ['POST', '/event-type'],
    ['PUT', '/event-type/x'],
    ['PATCH', '/event-type/x'],
    ['DELETE', '/event-type/x'],
    ['POST', `/app/${app.id}/endpoint/${endpoint.json.id}/send-example`],
    ['DELETE', `/app/${app.id}/msg/${message.id}/content`],
    ['DELETE', `/app/${app.id}/msg/${message.id}/attempt/${newId('atmpt')}/content`],
    ['POST', `/auth/app-portal-access/${app.id}`],
  ]
  for (const [method, path] of refused) {
    const { status, json } = await api.call(method, path, method === 'GET' ? undefined : { name: 'x' }, token)
    assert.deepEqual([status, json.code], [403, 'insufficient access'], `${method} ${path}`)
  }
})

test('a portal token sees event types behind a feature flag only when it carries the flag', async () => {
  await api.svix.eventType.create({ name: 'beta.thing', description: 'd', featureFlags: ['beta'] })
  const app = await api.svix.application.create({ name: 'Flags' })
  const plain = await api.svix.authentication.appPortalAccess(app.id, {})
  const beta = await api.svix.authentication.appPortalAccess(app.id, { featureFlags: ['beta'] })
  assert.equal((await api.call('GET', '/event-type/beta.thing', undefined, plain.token)).status, 404)
  assert.equal((await api.call('GET', '/event-type/beta.thing', undefined, beta.token)).status, 200)
})

test('logout is 501', async () => {
  assert.equal((await api.call('POST', '/auth/logout')).status, 501)
})
