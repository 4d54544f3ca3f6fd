import assert from 'node:assert/strict'
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net'
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import { test, type TestContext } from 'node:test'
import { LIMITS } from '../../domain/limits.ts'
import type { AttemptOutcome } from '../../domain/outcome.ts'
import { createAddressGuard, type AddressGuardOptions } from '../../http/address-guard.ts'
import { createHttpClient, type OutgoingClient, type OutgoingRequest } from '../../http/client.ts'

const LOOPBACK = { allowSubnets: ['127.0.0.0/8'], requireHttps: false }

function startClient(t: TestContext, guard: AddressGuardOptions = LOOPBACK): OutgoingClient {
  const client = createHttpClient({ guard: createAddressGuard(guard), requestTimeoutMs: 30_000 })
  t.after(() => client.close())
  return client
}

async function startReceiver(t: TestContext, listener: RequestListener): Promise<{ server: Server; url: string; port: number }> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { server, port, url: `http://127.0.0.1:${port}/hook?token=hidden` }
}

/** A peer that speaks whatever `talk` writes. */
async function startPeer(t: TestContext, talk: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>()
  const server = createTcpServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    talk(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?token=hidden`
}

function post(client: OutgoingClient, url: string, more: Partial<OutgoingRequest> = {}): Promise<AttemptOutcome> {
  return client.post('fast', { url, headers: { 'content-type': 'application/json' }, body: '{"a":1}', timeoutMs: 5000, ...more })
}

test('a 2xx answer is delivered with its status and body, and the receiver gets path, query, headers in their case and body', async (t) => {
  let received: { url: string | undefined; rawHeaders: string[]; body: string } | undefined
  const { url } = await startReceiver(t, (request, response) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (text: string) => (body += text))
    request.on('end', () => {
      received = { url: request.url, rawHeaders: request.rawHeaders, body }
      response.writeHead(202).end('taken')
    })
  })
  const outcome = await post(startClient(t), url, { headers: { 'X-Custom-Case': 'yes', 'webhook-id': 'msg_1' }, body: '{"ü":1}' })
  assert.equal(outcome.kind, 'delivered')
  assert.equal(outcome.statusCode, 202)
  assert.equal(outcome.body, 'taken')
  assert.ok(outcome.durationMs >= 0 && Number.isInteger(outcome.durationMs))
  assert.equal(received?.url, '/hook?token=hidden')
  assert.ok(received.rawHeaders.includes('X-Custom-Case'))
  assert.equal(received.body, '{"ü":1}')
})

test('connections are kept and used again', async (t) => {
  const ports = new Set<number | undefined>()
  const { url } = await startReceiver(t, (request, response) => {
    ports.add(request.socket.remotePort)
    response.end()
  })
  const client = startClient(t)
  for (let i = 0; i < 20; i++) assert.equal((await post(client, url)).kind, 'delivered')
  assert.equal(ports.size, 1)
  assert.deepEqual(client.usage().fast, { requests: 20, opened: { none: 1, full: 0, resumed: 0 }, open: 1 })
})

test('senders that go on as soon as they have their answer need no more connections than they are', async (t) => {
  const { url } = await startReceiver(t, (_request, response) => response.end())
  const client = startClient(t)
  let left = 500
  const sender = async (): Promise<void> => {
    while (left-- > 0) assert.equal((await post(client, url)).kind, 'delivered')
  }
  await Promise.all(Array.from({ length: 10 }, sender))
  assert.partialDeepStrictEqual(client.usage().fast, { requests: 500, opened: { none: 10 } })
})

test('requests that hang keep no other request to their host waiting: each gets a connection', async (t) => {
  let open = 0
  let most = 0
  const waiting: (() => void)[] = []
  const { server, url } = await startReceiver(t, (_request, response) => {
    waiting.push(() => response.end())
    if (waiting.length >= 40) waiting.splice(0).forEach((answer) => answer())
  })
  server.on('connection', (socket) => {
    most = Math.max(most, ++open)
    socket.on('close', () => open--)
  })
  const client = startClient(t)
  const request = { url, headers: {}, body: '{}', timeoutMs: 5000 }
  const all = (['fast', 'slow'] as const).flatMap((lane) => Array.from({ length: 20 }, () => client.post(lane, request)))
  assert.ok((await Promise.all(all)).every((outcome) => outcome.kind === 'delivered'))
  assert.equal(most, 40)
})

for (const status of [301, 302, 303, 307, 308]) {
  test(`a ${status} redirect is rejected and not followed`, async (t) => {
    const paths: (string | undefined)[] = []
    const { url } = await startReceiver(t, (request, response) => {
      paths.push(request.url)
      response.writeHead(status, { location: '/elsewhere' }).end()
    })
    const outcome = await post(startClient(t), url)
    assert.equal(outcome.kind, 'rejected')
    assert.equal(outcome.statusCode, status)
    assert.deepEqual(paths, ['/hook?token=hidden'])
  })
}

for (const status of [400, 404, 410, 429, 500, 503]) {
  test(`a ${status} answer is rejected with its body`, async (t) => {
    const { url } = await startReceiver(t, (_request, response) => response.writeHead(status, { 'retry-after': '7' }).end('no'))
    assert.partialDeepStrictEqual(await post(startClient(t), url), { kind: 'rejected', statusCode: status, body: 'no', retryAfterMs: 7000 })
  })
}

test('Retry-After is also understood as a date, and ignored where it is neither', async (t) => {
  let header = new Date(Date.now() + 60_000).toUTCString()
  const { url } = await startReceiver(t, (_request, response) => response.writeHead(503, { 'retry-after': header }).end())
  const client = startClient(t)
  const { retryAfterMs } = await post(client, url)
  assert.ok(retryAfterMs !== undefined && retryAfterMs > 50_000 && retryAfterMs <= 60_000)
  header = 'soon'
  assert.equal((await post(client, url)).retryAfterMs, undefined)
})

test('an endpoint that never answers is unreachable after the timeout, and its connection is closed', async (t) => {
  let closed: Promise<unknown> | undefined
  const { url } = await startReceiver(t, (request) => (closed = once(request.socket, 'close')))
  const outcome = await post(startClient(t), url, { timeoutMs: 150 })
  assert.deepEqual({ ...outcome, durationMs: 0 }, { kind: 'unreachable', statusCode: 0, body: 'no answer within 150 ms', durationMs: 0 })
  assert.ok(outcome.durationMs >= 145 && outcome.durationMs < 2000)
  await closed
})

test('a body that trickles is bounded by the same timeout', async (t) => {
  const { url } = await startReceiver(t, (_request, response) => {
    response.writeHead(200)
    const timer = setInterval(() => response.write('.'), 20)
    response.on('close', () => clearInterval(timer))
  })
  const outcome = await post(startClient(t), url, { timeoutMs: 200 })
  assert.partialDeepStrictEqual(outcome, { kind: 'unreachable', statusCode: 0, body: 'no complete answer within 200 ms' })
})

test('headers that trickle are bounded by the same timeout', async (t) => {
  const url = await startPeer(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\n')
    const timer = setInterval(() => socket.write('x-more: 1\r\n'), 20)
    socket.on('close', () => clearInterval(timer))
  })
  assert.equal((await post(startClient(t), url, { timeoutMs: 200 })).body, 'no answer within 200 ms')
})

test('a long body is cut while reading, and the connection is kept', async (t) => {
  const ports = new Set<number | undefined>()
  const { url } = await startReceiver(t, (request, response) => {
    ports.add(request.socket.remotePort)
    response.end('ä'.repeat(30_000))
  })
  const client = startClient(t)
  for (let i = 0; i < 20; i++) {
    const outcome = await post(client, url)
    assert.equal(outcome.kind, 'delivered')
    assert.equal(outcome.body, 'ä'.repeat(LIMITS.responseBodyMaxBytes / 2))
  }
  assert.ok(ports.size < 10, `${ports.size} connections`)
})

test('an endless body ends the connection without waiting for its end', async (t) => {
  let sentBytes = 0
  let closed: Promise<unknown> | undefined
  const { url } = await startReceiver(t, (request, response) => {
    closed = new Promise((resolve) => request.socket.on('close', resolve))
    response.writeHead(200)
    const chunk = Buffer.alloc(65_536, 'x')
    const more = (): void => {
      while (!response.destroyed && (sentBytes += chunk.length) < 1e9 && response.write(chunk));
    }
    response.on('drain', more)
    more()
  })
  const outcome = await post(startClient(t), url)
  assert.partialDeepStrictEqual(outcome, { kind: 'delivered', statusCode: 200 })
  assert.equal(outcome.body.length, LIMITS.responseBodyMaxBytes)
  await closed
  assert.ok(sentBytes < 50e6, `${sentBytes} bytes were sent`)
})

test('a body that is not text becomes text that Postgres takes', async (t) => {
  const { url } = await startReceiver(t, (_request, response) => response.end(Buffer.from([65, 0, 66, 0xff, 67])))
  assert.equal((await post(startClient(t), url)).body, 'A\uFFFDB\uFFFDC')
})

test('a cut in the middle of a character leaves no half of it', async (t) => {
  const { url } = await startReceiver(t, (_request, response) => response.end(`a${'€'.repeat(10_000)}`))
  assert.match((await post(startClient(t), url)).body, /^a€+$/)
})

test('a closed port is unreachable', async (t) => {
  const { server, url } = await startReceiver(t, () => undefined)
  server.close()
  await once(server, 'close')
  assert.partialDeepStrictEqual(await post(startClient(t), url), { kind: 'unreachable', statusCode: 0, body: 'connection refused' })
})

const BROKEN: readonly (readonly [string, string, string])[] = [
  ['an answer that is not HTTP', 'SSH-2.0-OpenSSH_9.2\r\n', 'the answer is not valid HTTP/1.1'],
  ['no answer at all', '', 'the connection was closed before an answer came'],
  ['an answer cut short', 'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc', 'the connection was closed in the middle of the answer'],
]

for (const [title, bytes, reason] of BROKEN) {
  test(`${title} is unreachable`, async (t) => {
    const url = await startPeer(t, (socket) => socket.once('data', () => socket.end(bytes)))
    assert.partialDeepStrictEqual(await post(startClient(t), url), { kind: 'unreachable', statusCode: 0, body: reason })
  })
}

test('interim answers are passed over', async (t) => {
  const { url } = await startReceiver(t, (_request, response) => {
    response.writeEarlyHints({ link: '</a>; rel=preload' })
    response.writeHead(204).end()
  })
  assert.partialDeepStrictEqual(await post(startClient(t), url), { kind: 'delivered', statusCode: 204, body: '' })
})

test('TLS to a peer without it is unreachable', async (t) => {
  const { port } = await startReceiver(t, (_request, response) => response.end())
  const outcome = await post(startClient(t), `https://127.0.0.1:${port}/`)
  assert.partialDeepStrictEqual(outcome, { kind: 'unreachable', statusCode: 0, body: 'the TLS handshake failed' })
})

test('a header that HTTP does not allow is an outcome, and its value is not repeated', async (t) => {
  const { url } = await startReceiver(t, (_request, response) => response.end())
  const outcome = await post(startClient(t), url, { headers: { 'x-a': 'secret\r\ninjected: 1' } })
  assert.equal(outcome.kind, 'unreachable')
  assert.doesNotMatch(outcome.body, /secret/)
})

test('an aborted signal interrupts the requests in flight and those to come', async (t) => {
  let arrived = 0
  const stop = new AbortController()
  const { url } = await startReceiver(t, () => {
    if (++arrived === 5) stop.abort()
  })
  const client = startClient(t)
  const outcomes = await Promise.all(Array.from({ length: 5 }, () => post(client, url, { signal: stop.signal })))
  assert.ok(outcomes.every((outcome) => outcome.kind === 'interrupted' && outcome.statusCode === 0))
  assert.equal((await post(client, url, { signal: stop.signal })).kind, 'interrupted')
  assert.equal(arrived, 5)
})

test('a request that waits for a connection when it is interrupted is never sent', async (t) => {
  let arrived = 0
  const answers: (() => void)[] = []
  const { url } = await startReceiver(t, (_request, response) => {
    arrived++
    answers.push(() => response.end())
  })
  const client = startClient(t)
  const first = Array.from({ length: LIMITS.connectionsPerHost }, () => post(client, url))
  const stop = new AbortController()
  const waiting = post(client, url, { signal: stop.signal })
  stop.abort()
  assert.equal((await waiting).kind, 'interrupted')
  while (answers.length < LIMITS.connectionsPerHost) await new Promise(setImmediate)
  answers.splice(0).forEach((answer) => answer())
  await Promise.all(first)
  await Promise.all([post(client, url), answerNext(answers)])
  assert.equal(arrived, LIMITS.connectionsPerHost + 1)
})

async function answerNext(answers: (() => void)[]): Promise<void> {
  while (answers.length === 0) await new Promise(setImmediate)
  answers.splice(0).forEach((answer) => answer())
}

test('close interrupts what is in flight', async (t) => {
  const client = startClient(t)
  const { url } = await startReceiver(t, () => void client.close())
  assert.equal((await post(client, url)).kind, 'interrupted')
  assert.equal((await post(client, url)).kind, 'interrupted')
})
