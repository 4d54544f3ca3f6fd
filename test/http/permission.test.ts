import assert from 'node:assert/strict'
import { createServer, type RequestListener } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { createAddressGuard } from '../../http/address-guard.ts'
import { createHttpClient, type OutgoingRequest } from '../../http/client.ts'
import { createEndpointClient } from '../../http/endpoint-client.ts'

const ORIGIN = 'hooks.example.com'

/** An endpoint that answers OPTIONS as told, and takes deliveries. */
async function start(t: TestContext, permission: RequestListener) {
  const methods: string[] = []
  const server = createServer((request, response) => {
    methods.push(`${request.method} ${request.url}`)
    if (request.method === 'OPTIONS') permission(request, response)
    else response.end('taken')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const http = createHttpClient({
    guard: createAddressGuard({ allowSubnets: ['127.0.0.0/8'], requireHttps: false }),
    requestTimeoutMs: 5000,
  })
  t.after(async () => {
    await http.close()
    server.closeAllConnections()
    server.close()
  })
  const client = createEndpointClient(http, ORIGIN)
  const post = (path: string, more: Partial<OutgoingRequest> = {}, endpointId = 'ep_1') =>
    client.post('fast', {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`,
      headers: { 'x-api-key': 'hidden' },
      body: '{}',
      timeoutMs: 5000,
      access: { endpointId, tls: null, oauth2: null, handshake: true },
      ...more,
    })
  return { methods, post }
}

test('an endpoint is asked once by OPTIONS at its own URL, without its headers, and then sent to', async (t) => {
  const { methods, post } = await start(t, (request, response) => {
    assert.equal(request.headers['webhook-request-origin'], ORIGIN)
    assert.equal(request.headers['x-api-key'], undefined)
    response.writeHead(200, { allow: 'POST', 'webhook-allowed-origin': ORIGIN, 'webhook-allowed-rate': '100' }).end()
  })
  const outcomes = await Promise.all([post('/hook?a=1'), post('/hook?a=1'), post('/hook?a=1')])
  assert.ok(outcomes.every(({ kind, body }) => kind === 'delivered' && body === 'taken'))
  await post('/hook?a=1')
  assert.deepEqual(methods, ['OPTIONS /hook?a=1', ...Array<string>(4).fill('POST /hook?a=1')])
})

test('another URL and another endpoint are asked anew', async (t) => {
  const { methods, post } = await start(t, (_request, response) => response.writeHead(204, { 'webhook-allowed-origin': '*' }).end())
  await post('/one')
  await post('/two')
  await post('/one', {}, 'ep_2')
  assert.deepEqual(methods, ['OPTIONS /one', 'POST /one', 'OPTIONS /two', 'POST /two', 'OPTIONS /one', 'POST /one'])
})

test('an endpoint that is not asked gets no OPTIONS', async (t) => {
  const { methods, post } = await start(t, (_request, response) => response.end())
  await post('/', { access: null })
  assert.deepEqual(methods, ['POST /'])
})

const refusals: readonly [string, number, Record<string, string>, string][] = [
  ['says nothing', 200, { allow: 'POST' }, `without WebHook-Allowed-Origin: ${ORIGIN}`],
  ['allows another', 200, { 'webhook-allowed-origin': 'other.example.com' }, `without WebHook-Allowed-Origin: ${ORIGIN}`],
  ['knows no OPTIONS', 405, { 'webhook-allowed-origin': '*' }, '405'],
  ['redirects', 302, { location: '/elsewhere', 'webhook-allowed-origin': '*' }, '302'],
  ['is gone', 410, {}, '410'],
]

for (const [what, status, headers, reason] of refusals) {
  test(`an endpoint that ${what} is not sent to, and asked again at the next attempt`, async (t) => {
    const { methods, post } = await start(t, (_request, response) => response.writeHead(status, headers).end())
    const expected = { kind: 'unreachable', statusCode: 0, body: `no permission to deliver: the endpoint answered OPTIONS ${reason}` }
    assert.partialDeepStrictEqual(await post('/'), expected)
    assert.partialDeepStrictEqual(await post('/'), expected)
    assert.deepEqual(methods, ['OPTIONS /', 'OPTIONS /'])
  })
}

test('the address guard and the time limit hold for OPTIONS too', async (t) => {
  const { methods, post } = await start(t, () => undefined)
  assert.match((await post('/', { timeoutMs: 150 })).body, /^no permission to deliver: no answer within 1\d\d ms$/)
  const blocked = await post('/', { url: 'http://10.0.0.1/' })
  assert.partialDeepStrictEqual(blocked, { kind: 'blocked' })
  assert.deepEqual(methods, ['OPTIONS /'])
})
