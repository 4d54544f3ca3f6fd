import assert from 'node:assert/strict'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { after, before, test } from 'node:test'
import { SignJWT } from 'jose'
import { createAuthenticator } from '../../api/auth.ts'
import { createToken } from '../../api/token.ts'
import { newId } from '../../domain/ids.ts'
import { createRevocations, type Revocations } from '../../storage/revocations.ts'
import { eventually } from '../support/eventually.ts'
import { JWT_SECRET, startApi, type Harness } from './harness.ts'

const OLD_SECRET = 'the secret before, of at least 32 characters'

let api: Harness
before(async () => {
  api = await startApi({ previousJwtSecrets: [OLD_SECRET] })
})
after(() => api.close())

const statusWith = async (token: string, path = '/event-type'): Promise<number> => (await api.call('GET', path, undefined, token)).status
const claimsOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as Record<string, unknown>

async function application(): Promise<{ id: string; newPortalToken: () => Promise<string> }> {
  const { id } = await api.svix.application.create({ name: 'Tokens' })
  return { id, newPortalToken: async () => (await api.svix.authentication.appPortalAccess(id, {})).token }
}

test('a token signed with a previous secret is accepted, one signed with any other is not', async () => {
  assert.equal(await statusWith(await createToken({ secret: OLD_SECRET, subject: api.orgId })), 200)
  assert.equal(await statusWith(await createToken({ secret: `${OLD_SECRET}!`, subject: api.orgId })), 401)
  const { newPortalToken } = await application()
  const [header = '', payload = ''] = (await newPortalToken()).split('.')
  assert.equal(await statusWith(`${header}.${payload}.${Buffer.alloc(32).toString('base64url')}`), 401)
})

test('expire-all ends every token that the application had, and none that it is given later', async () => {
  const { id, newPortalToken } = await application()
  const other = await application()
  const [first, second, others] = [await newPortalToken(), await newPortalToken(), await other.newPortalToken()]
  assert.equal(await statusWith(first), 200)
  assert.equal((await api.call('POST', `/auth/app/${id}/expire-all`, {})).status, 204)
  assert.deepEqual(await Promise.all([first, second, others].map((token) => statusWith(token))), [401, 401, 200])
  assert.equal(await statusWith(await newPortalToken()), 200)
  assert.equal(await statusWith(api.token), 200)
})

test('expire-all with an expiry leaves the tokens until then, and a later one does not lengthen that', async () => {
  const { id, newPortalToken } = await application()
  const token = await newPortalToken()
  await api.call('POST', `/auth/app/${id}/expire-all`, { expiry: 1 })
  await api.call('POST', `/auth/app/${id}/expire-all`, { expiry: 3600 })
  assert.equal(await statusWith(token), 200)
  const fresh = await newPortalToken()
  await eventually(
    () => statusWith(token),
    (status) => status === 401,
  )
  assert.equal(await statusWith(fresh), 200)
})

test('one token is ended by its jti, in its own organisation only', async () => {
  const { newPortalToken } = await application()
  const [token, sibling] = [await newPortalToken(), await newPortalToken()]
  const { jti } = claimsOf(token)
  const stranger = await createToken({ secret: JWT_SECRET, subject: newId('org') })
  assert.equal((await api.call('POST', `/auth/token/${String(jti)}/expire`, {}, stranger)).status, 204)
  assert.equal(await statusWith(token), 200)
  assert.equal((await api.call('POST', `/auth/token/${String(jti)}/expire`, {})).status, 204)
  assert.deepEqual([await statusWith(token), await statusWith(sibling)], [401, 200])
})

test('the token of an organisation is ended by its jti too, before it was ever used', async () => {
  const token = await createToken({ secret: JWT_SECRET, subject: api.orgId })
  await api.call('POST', `/auth/token/${String(claimsOf(token)['jti'])}/expire`, {})
  assert.equal(await statusWith(token), 401)
})

test('ending tokens takes an expiry of 0 to 7 days, and the token of an organisation', async () => {
  const { id, newPortalToken } = await application()
  for (const expiry of [-1, 604_801, 1.5, '1']) {
    assert.equal((await api.call('POST', `/auth/app/${id}/expire-all`, { expiry })).status, 422, String(expiry))
  }
  assert.equal((await api.call('POST', `/auth/app/${id}/expire-all`, {}, await newPortalToken())).status, 403)
  const stranger = await createToken({ secret: JWT_SECRET, subject: newId('org') })
  assert.equal((await api.call('POST', `/auth/app/${id}/expire-all`, {}, stranger)).status, 404)
  assert.equal((await api.call('POST', '/auth/token/%2F/expire', {})).status, 404)
})

test('a token without a time of issue counts as issued before everything', async () => {
  const { id } = await application()
  const token = await new SignJWT({ sub: id, org: api.orgId })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(new TextEncoder().encode(JWT_SECRET))
  assert.equal(await statusWith(token), 200)
  await api.call('POST', `/auth/app/${id}/expire-all`, {})
  assert.equal(await statusWith(token), 401)
})

test('a remembered token asks nothing of Postgres until something is revoked', async () => {
  const real = createRevocations(api.pool)
  let asked = 0
  const revocations: Revocations = Object.assign(Object.create(real) as Revocations, {
    endOf: (...given: Parameters<Revocations['endOf']>) => {
      asked++
      return real.endOf(...given)
    },
  })
  const authenticate = createAuthenticator({ secret: JWT_SECRET, previousSecrets: [], rateLimit: 0, revocations })
  const request = { headers: { authorization: `Bearer ${api.token}` } } as IncomingMessage
  for (let i = 0; i < 100; i++) await authenticate(request, {} as ServerResponse)
  assert.equal(asked, 1)
  real.changed()
  for (let i = 0; i < 100; i++) await authenticate(request, {} as ServerResponse)
  assert.equal(asked, 2)
})
