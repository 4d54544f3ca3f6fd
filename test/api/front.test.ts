import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import { createApiServer } from '../../api/http-server.ts'
import { createToken } from '../../api/token.ts'
import { JWT_SECRET, startApi, type Harness } from './harness.ts'

const ORIGIN = 'https://app.example.com'

let api: Harness
let limited: Harness
before(async () => {
  api = await startApi({ corsOrigins: [ORIGIN], publicUrl: 'https://hooks.example.com' })
  limited = await startApi({ rateLimit: 5, corsOrigins: [] })
})
after(async () => {
  await api.close()
  await limited.close()
})

const request = (path: string, init: RequestInit = {}, of = api) => fetch(`${of.url}${path}`, init)
const authorized = (of = api, more: Record<string, string> = {}) => ({ headers: { authorization: `Bearer ${of.token}`, ...more } })

test('every answer carries the security headers, whatever its status', async () => {
  const answers = [
    await request('/api/v1/app', authorized()),
    await request('/api/v1/app'),
    await request('/api/v1/health'),
    await request('/nowhere'),
    await request('/api/v1/app', { ...authorized(), method: 'PUT' }),
  ]
  for (const { headers, status } of answers) {
    assert.equal(headers.get('x-content-type-options'), 'nosniff', String(status))
    assert.equal(headers.get('cache-control'), 'no-store')
    assert.equal(headers.get('strict-transport-security'), 'max-age=31536000')
    assert.match(headers.get('content-security-policy') ?? '', /default-src 'none'/)
    assert.equal(headers.get('x-powered-by'), null)
  }
})

test('without an https public URL there is no HSTS, and links lead to where the caller reached the API', async () => {
  assert.equal((await request('/api/v1/health', {}, limited)).headers.get('strict-transport-security'), null)
  const { id } = await limited.svix.application.create({ name: 'x' })
  const { url } = await limited.svix.authentication.appPortalAccess(id, {})
  assert.ok(url.startsWith(`${limited.url}/portal#`), url)
  const app = await api.svix.application.create({ name: 'x' })
  assert.ok((await api.svix.authentication.appPortalAccess(app.id, {})).url.startsWith('https://hooks.example.com/portal#'))
})

test('a page of an allowed origin may call, after a preflight that needs no token', async () => {
  const preflight = await request('/api/v1/app', {
    method: 'OPTIONS',
    headers: { origin: ORIGIN, 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' },
  })
  assert.equal(preflight.status, 204)
  assert.equal(preflight.headers.get('access-control-allow-origin'), ORIGIN)
  assert.match(preflight.headers.get('access-control-allow-methods') ?? '', /POST/)
  assert.match(preflight.headers.get('access-control-allow-headers') ?? '', /authorization/)
  const answer = await request('/api/v1/app', authorized(api, { origin: ORIGIN }))
  assert.equal(answer.status, 200)
  assert.equal(answer.headers.get('access-control-allow-origin'), ORIGIN)
  assert.equal(answer.headers.get('access-control-allow-credentials'), null)
  assert.equal(answer.headers.get('vary'), 'origin')
})

test('no other origin is told that it may', async () => {
  for (const origin of ['https://evil.example.com', 'http://app.example.com', 'https://app.example.com.evil.example', 'null']) {
    const headers = { origin, 'access-control-request-method': 'POST' }
    const preflight = await request('/api/v1/app', { method: 'OPTIONS', headers })
    assert.equal(preflight.headers.get('access-control-allow-origin'), null, origin)
    assert.notEqual(preflight.status, 204)
  }
  const answer = await request('/api/v1/app', authorized(limited, { origin: ORIGIN }), limited)
  assert.equal(answer.headers.get('access-control-allow-origin'), null)
})

test('a token over its rate is 429 with Retry-After, and the RateLimit fields say where every token stands', async () => {
  const token = await createToken({ secret: JWT_SECRET, subject: limited.orgId })
  const answers = []
  // More than refill even where the machine is slow: at most 5 come back in a second.
  for (let i = 0; i < 500 && answers.at(-1)?.status !== 429; i++) answers.push(await limited.call('GET', '/app', undefined, token))
  const [first, last] = [answers[0], answers.at(-1)]
  assert.equal(first?.status, 200)
  assert.equal(first.headers.get('ratelimit-policy'), '"token";q=5;w=1')
  assert.equal(first.headers.get('ratelimit'), '"token";r=4;t=1')
  assert.equal(last?.status, 429)
  assert.equal(last.json.code, 'too_many_requests')
  assert.equal(last.headers.get('retry-after'), '1')
  assert.equal(last.headers.get('ratelimit'), '"token";r=0;t=1')
  const another = await createToken({ secret: JWT_SECRET, subject: limited.orgId })
  assert.equal((await limited.call('GET', '/app', undefined, another)).status, 200)
})

test('too many or too large headers are 431, a too long path 414', async () => {
  const many = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`x-${i}`, 'y']))
  assert.equal((await request('/api/v1/health', { headers: many })).status, 431)
  assert.equal((await request('/api/v1/health', { headers: { 'x-large': 'y'.repeat(17_000) } })).status, 431)
  assert.equal((await request(`/api/v1/app?x=${'y'.repeat(8192)}`, authorized())).status, 414)
})

test('JSON deeper than 64 levels is 422, brackets in strings do not count', async () => {
  const publish = async (payload: string) => {
    const { id } = await api.svix.application.create({ name: 'Deep' })
    const { status } = await api.call('POST', `/app/${id}/msg`, `{"eventType":"deep","payload":${payload}}`)
    return status
  }
  const nested = (levels: number) => `{"a":${'['.repeat(levels - 2)}${']'.repeat(levels - 2)}}`
  assert.equal(await publish(nested(64)), 202)
  assert.equal(await publish(nested(65)), 422)
  assert.equal(await publish(nested(100_000)), 422)
  assert.equal(await publish(`{"a":"${'['.repeat(1000)}","b":"\\"${'{'.repeat(1000)}\\\\"}`), 202)
})

test('a client that sends its headers or its body drop by drop is answered 408 and cut off', async () => {
  const timeouts = { headersMs: 200, requestMs: 300, idleMs: 1000, checkMs: 50 }
  const server = createApiServer((incoming, response) => incoming.resume().on('end', () => response.end()), timeouts)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    for (const start of ['GET / HTTP/1.1\r\nHost: x\r\n', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n']) {
      const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
      socket.on('error', () => undefined)
      let answer = ''
      socket.setEncoding('utf8').on('data', (text: string) => (answer += text))
      socket.write(start)
      // Both ends share one event loop, and a write to a connection that was cut off throws unread answers away: read first.
      const drip = setInterval(() => setImmediate(() => socket.destroyed || socket.write('x')), 20)
      await new Promise((resolve) => socket.once('close', resolve))
      clearInterval(drip)
      assert.match(answer, /^HTTP\/1\.1 408 /)
    }
  } finally {
    server.closeAllConnections()
    server.close()
  }
})
