import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import type { EndpointAccess, OAuth2Client } from '../../domain/endpoint-access.ts'
import { createAddressGuard, type AddressGuardOptions } from '../../http/address-guard.ts'
import { createHttpClient, type OutgoingRequest } from '../../http/client.ts'
import { createEndpointClient } from '../../http/endpoint-client.ts'
import { startReceiver, type Answer, type Received } from '../support/receiver.ts'
import { grant, startTokenServer } from '../support/token-server.ts'

const SECRET = 'p&ss word:hidden'

async function start(t: TestContext, answers: Parameters<typeof startTokenServer>[0], guard: Partial<AddressGuardOptions> = {}) {
  const tokens = await startTokenServer(answers)
  t.after(() => tokens.close())
  const http = createHttpClient({
    guard: createAddressGuard({ allowSubnets: ['127.0.0.0/8'], requireHttps: false, ...guard }),
    requestTimeoutMs: 5000,
  })
  t.after(() => http.close())
  const client = createEndpointClient(http, 'hooks.example.com')
  const oauth2: OAuth2Client = {
    key: 'one',
    tokenUrl: `${tokens.url}/token`,
    clientId: 'tidings/1',
    clientSecret: SECRET,
    scopes: ['hooks', 'write'],
    audience: null,
    authMethod: 'client_secret_basic',
  }
  const post = (url: string, changes: Partial<OAuth2Client> = {}, more: Partial<OutgoingRequest> = {}, endpointId = 'ep_1') => {
    const access: EndpointAccess = { endpointId, tls: null, oauth2: { ...oauth2, ...changes }, handshake: false }
    return client.post('fast', { url, headers: { 'x-other': 'kept' }, body: '{}', timeoutMs: 5000, access, ...more })
  }
  return { tokens, post }
}

async function startEndpoint(t: TestContext, answer?: (one: Received, earlier: number) => Answer) {
  const receiver = await startReceiver(answer)
  t.after(() => receiver.close())
  return receiver
}

const authorizations = (received: readonly Received[]) => received.map(({ headers }) => headers['authorization'])

test('deliveries carry a token that is fetched once, by the client credentials grant', async (t) => {
  const { tokens, post } = await start(t, undefined)
  const endpoint = await startEndpoint(t)
  for (let i = 0; i < 3; i++) assert.equal((await post(endpoint.url)).kind, 'delivered')
  assert.deepEqual(authorizations(endpoint.received), Array(3).fill('Bearer token-1'))
  assert.equal(endpoint.received[0]?.headers['x-other'], 'kept')
  assert.deepEqual(tokens.forms(), [{ grant_type: 'client_credentials', scope: 'hooks write' }])
  const [asked] = tokens.received
  assert.partialDeepStrictEqual(asked?.headers, { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' })
  const basic = Buffer.from(asked!.headers['authorization']!.replace('Basic ', ''), 'base64').toString()
  assert.equal(basic, 'tidings%2F1:p%26ss+word%3Ahidden')
})

test('the client shows itself in the body where that is asked for, and names its audience', async (t) => {
  const { tokens, post } = await start(t, undefined)
  const endpoint = await startEndpoint(t)
  await post(endpoint.url, { authMethod: 'client_secret_post', audience: 'https://api.example.com', scopes: [] })
  const audience = 'https://api.example.com'
  assert.deepEqual(tokens.forms(), [{ grant_type: 'client_credentials', audience, client_id: 'tidings/1', client_secret: SECRET }])
  assert.equal(tokens.received[0]?.headers['authorization'], undefined)
})

test('many requests at once fetch one token, other endpoints and other credentials one of their own', async (t) => {
  const { tokens, post } = await start(t, (earlier) => ({ ...grant(`token-${earlier + 1}`), afterMs: 50 }))
  const endpoint = await startEndpoint(t)
  await Promise.all(Array.from({ length: 10 }, () => post(endpoint.url)))
  assert.deepEqual(new Set(authorizations(endpoint.received)), new Set(['Bearer token-1']))
  await post(endpoint.url, {}, {}, 'ep_2')
  await post(endpoint.url, { key: 'changed' })
  assert.equal(tokens.received.length, 3)
})

test('a custom authorization header gives way to the token, in whatever case it is written', async (t) => {
  const { post } = await start(t, undefined)
  const endpoint = await startEndpoint(t)
  await post(endpoint.url, {}, { headers: { Authorization: 'Basic abc', authorization: 'x' } })
  assert.deepEqual(authorizations(endpoint.received), ['Bearer token-1'])
})

test('after a 401 the token is fetched once more, by all who hold the old one together', async (t) => {
  const { tokens, post } = await start(t, undefined)
  const revoked = new Set<string | undefined>()
  const endpoint = await startEndpoint(t, (one) => ({ status: revoked.has(one.headers['authorization']) ? 401 : 200, afterMs: 20 }))
  await post(endpoint.url)
  revoked.add('Bearer token-1')
  const outcomes = await Promise.all(Array.from({ length: 5 }, () => post(endpoint.url)))
  assert.ok(outcomes.every(({ kind }) => kind === 'delivered'))
  assert.equal(tokens.received.length, 2)
})

test('an endpoint that refuses every token is rejected with its 401 after two requests', async (t) => {
  const { tokens, post } = await start(t, undefined)
  const endpoint = await startEndpoint(t, () => ({ status: 401, body: 'who are you' }))
  assert.partialDeepStrictEqual(await post(endpoint.url), { kind: 'rejected', statusCode: 401, body: 'who are you' })
  assert.deepEqual(authorizations(endpoint.received), ['Bearer token-1', 'Bearer token-2'])
  assert.equal(tokens.received.length, 2)
})

test('a token is not used when it is about to expire, and kept for a while where it does not say', async (t) => {
  const { tokens, post } = await start(t, (earlier) =>
    grant(`token-${earlier + 1}`, [{ expires_in: 0 }, { expires_in: '-5' }, {}][earlier]),
  )
  const endpoint = await startEndpoint(t)
  for (let i = 0; i < 4; i++) await post(endpoint.url)
  assert.deepEqual(authorizations(endpoint.received), ['Bearer token-1', 'Bearer token-2', 'Bearer token-3', 'Bearer token-3'])
  assert.equal(tokens.received.length, 3)
})

const failures: readonly [string, Answer, string][] = [
  ['refuses', { status: 401, body: '{"error":"invalid_client"}' }, 'the token server answered 401 (invalid_client)'],
  [
    'repeats the secret',
    { status: 400, body: JSON.stringify({ error: SECRET, error_description: SECRET }) },
    'the token server answered 400',
  ],
  ['is gone', { status: 410 }, 'the token server answered 410'],
  ['redirects', { status: 302, headers: { location: '/elsewhere' } }, 'the token server answered 302'],
  ['speaks no JSON', { status: 200, body: '<html>' }, 'the answer of the token server has no bearer token'],
  ['answers a list', { status: 200, body: '[]' }, 'the answer of the token server has no bearer token'],
  ['gives a token of another kind', grant('a', { token_type: 'mac' }), 'the answer of the token server has no bearer token'],
  ['gives a token that breaks the header', grant('a\r\nx: y'), 'the answer of the token server has no bearer token'],
  ['gives a number', grant(7), 'the answer of the token server has no bearer token'],
  [
    'answers without end',
    { status: 200, body: `{"access_token":"${'a'.repeat(500_000)}"}` },
    'the answer of the token server has no bearer token',
  ],
]

for (const [what, answer, reason] of failures) {
  test(`a token server that ${what} is a failed attempt with a short reason, and nothing is sent to the endpoint`, async (t) => {
    const { tokens, post } = await start(t, () => answer)
    const endpoint = await startEndpoint(t)
    const outcome = await post(endpoint.url)
    assert.partialDeepStrictEqual(outcome, { kind: 'unreachable', statusCode: 0, body: `no OAuth2 token: ${reason}` })
    assert.equal(endpoint.received.length, 0)
    assert.equal(tokens.received.length, 1)
    await post(endpoint.url)
    assert.equal(tokens.received.length, 2)
  })
}

test('a token server that never answers ends with the time of the request', async (t) => {
  const { post } = await start(t, () => 'hang')
  const endpoint = await startEndpoint(t)
  const outcome = await post(endpoint.url, {}, { timeoutMs: 200 })
  assert.partialDeepStrictEqual(outcome, { kind: 'unreachable', body: 'no OAuth2 token: no answer within 200 ms' })
  assert.ok(outcome.durationMs >= 195)
})

test('a busy token server says when to come back', async (t) => {
  const { post } = await start(t, () => ({ status: 503, headers: { 'retry-after': '7' } }))
  assert.partialDeepStrictEqual(await post('http://127.0.0.1:1/'), { kind: 'unreachable', retryAfterMs: 7000 })
})

test('the address guard keeps requests for tokens away from what is not public', async (t) => {
  const { tokens, post } = await start(t, undefined, { resolve: () => Promise.resolve(['10.0.0.1']) })
  const endpoint = await startEndpoint(t)
  const numeric = await post(endpoint.url, { tokenUrl: 'http://169.254.169.254/token' })
  assert.partialDeepStrictEqual(numeric, { kind: 'blocked', statusCode: 0 })
  assert.match(numeric.body, /^no OAuth2 token: the address 169\.254\.169\.254 is a cloud metadata service/)
  const named = await post(endpoint.url, { tokenUrl: 'http://login.example/token' })
  assert.match(named.body, /^no OAuth2 token: the host name leads to an address that is private/)
  assert.equal(endpoint.received.length + tokens.received.length, 0)
})

test('the stop of the process interrupts a request for a token', async (t) => {
  const { tokens, post } = await start(t, () => 'hang')
  const stopping = new AbortController()
  const posting = post('http://127.0.0.1:1/', {}, { signal: stopping.signal })
  await tokens.waitFor(1)
  stopping.abort()
  assert.equal((await posting).kind, 'interrupted')
})
