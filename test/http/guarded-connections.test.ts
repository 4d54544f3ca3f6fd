import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { createAddressGuard, type AddressGuardOptions } from '../../http/address-guard.ts'
import { createHttpClient } from '../../http/client.ts'

interface Receiver {
  readonly port: number
  readonly paths: string[]
}

async function startReceiver(t: TestContext): Promise<Receiver> {
  const paths: string[] = []
  const server = createServer((request, response) => {
    paths.push(request.url ?? '')
    response.end('ok')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, paths }
}

function startClient(t: TestContext, options: Partial<AddressGuardOptions>) {
  const guard = createAddressGuard({ allowSubnets: [], requireHttps: false, ...options })
  const client = createHttpClient({ guard, requestTimeoutMs: 2000 })
  t.after(() => client.close())
  return (url: string) => client.post('fast', { url, headers: {}, body: '{}', timeoutMs: 2000 })
}

test('a numeric address that is not public is blocked and nothing is sent', async (t) => {
  const { port, paths } = await startReceiver(t)
  const outcome = await startClient(t, {})(`http://127.0.0.1:${port}/`)
  const reason = 'the address 127.0.0.1 is loopback; TIDINGS_ALLOW_SUBNETS opens ranges'
  assert.deepEqual(outcome, { kind: 'blocked', statusCode: 0, body: reason, durationMs: 0 })
  assert.deepEqual(paths, [])
})

test('a name that leads to this machine is blocked and nothing is sent', async (t) => {
  const { port, paths } = await startReceiver(t)
  const send = startClient(t, {})
  for (const name of ['localhost', 'anything.localhost', 'LOCALHOST', 'localhost.']) {
    assert.equal((await send(`http://${name}:${port}/`)).kind === 'delivered', false, name)
  }
  assert.deepEqual(paths, [])
})

test('a name whose address changes between look-ups is checked at each connection', async (t) => {
  const { port, paths } = await startReceiver(t)
  const answers = [['127.0.0.2'], ['127.0.0.1'], ['127.0.0.2']]
  let lookups = 0
  // 127.0.0.2 plays the public address: it is opened, 127.0.0.1 is not.
  const send = startClient(t, { allowSubnets: ['127.0.0.2/32'], resolve: () => Promise.resolve(answers[lookups++] ?? []) })
  const url = `http://rebinding.example:${port}/`
  // The receiver listens on 127.0.0.1 only, so a connection to the checked address fails, and none to the other is made.
  assert.equal((await send(url)).body, 'connection refused')
  assert.match((await send(url)).body, /leads to an address that is loopback/)
  assert.equal((await send(url)).body, 'connection refused')
  assert.equal(lookups, 3)
  assert.deepEqual(paths, [])
})

test('the name is resolved once for a connection and not again while it is kept', async (t) => {
  const { port, paths } = await startReceiver(t)
  let lookups = 0
  const resolve = () => Promise.resolve(lookups++ === 0 ? ['127.0.0.1'] : ['10.0.0.1'])
  const send = startClient(t, { allowSubnets: ['127.0.0.1'], resolve })
  for (let i = 0; i < 3; i++) {
    assert.equal((await send(`http://kept.example:${port}/${i}`)).kind, 'delivered')
  }
  assert.equal(lookups, 1)
  assert.deepEqual(paths, ['/0', '/1', '/2'])
})

test('private addresses beside public ones are never tried', async (t) => {
  const { port, paths } = await startReceiver(t)
  const send = startClient(t, { allowSubnets: ['127.0.0.2/32'], resolve: () => Promise.resolve(['127.0.0.1', '127.0.0.2']) })
  assert.equal((await send(`http://mixed.example:${port}/`)).kind, 'unreachable')
  assert.deepEqual(paths, [])
})

test('a failing name service is unreachable, not blocked', async (t) => {
  const resolve = () => Promise.reject(Object.assign(new Error('queryA ETIMEOUT hidden.example'), { code: 'ETIMEOUT' }))
  const outcome = await startClient(t, { resolve })('http://hidden.example/')
  assert.partialDeepStrictEqual(outcome, { kind: 'unreachable', body: 'the host name could not be resolved (ETIMEOUT)' })
})

test('an exempt origin is reached, and its open connection serves no other path of the same origin', async (t) => {
  const { port, paths } = await startReceiver(t)
  const named = `http://inbox.example:${port}`
  const send = startClient(t, {
    allowedOrigins: [`http://127.0.0.1:${port}/inbox/`, `${named}/inbox/`],
    resolve: () => Promise.resolve(['127.0.0.1']),
  })
  assert.equal((await send(`http://127.0.0.1:${port}/inbox/a`)).kind, 'delivered')
  assert.equal((await send(`http://127.0.0.1:${port}/api`)).kind, 'blocked')
  assert.equal((await send(`${named}/api`)).kind, 'blocked')
  assert.deepEqual(paths, ['/inbox/a'])
})
