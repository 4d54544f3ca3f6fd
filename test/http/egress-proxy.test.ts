import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { test, type TestContext } from 'node:test'
import { createServer as createTlsServer } from 'node:tls'
import type { AddressInfo } from 'node:net'
import { createAddressGuard, type AddressGuardOptions } from '../../http/address-guard.ts'
import { createHttpClient } from '../../http/client.ts'
import { startEgressProxy } from '../support/egress-proxy.ts'
import { startReceiver } from '../support/receiver.ts'

function startSender(t: TestContext, proxyUrl: string, guard: Partial<AddressGuardOptions> = {}) {
  const client = createHttpClient({
    guard: createAddressGuard({
      allowSubnets: ['127.0.0.1'],
      requireHttps: false,
      resolve: () => Promise.resolve(['127.0.0.1']),
      ...guard,
    }),
    requestTimeoutMs: 5000,
    egressProxy: new URL(proxyUrl),
  })
  t.after(() => client.close())
  return (url: string) => client.post('fast', { url, headers: { 'x-own': 'yes' }, body: '{"a":1}', timeoutMs: 5000 })
}

async function startBoth(t: TestContext, refuse?: number) {
  const [proxy, receiver] = await Promise.all([startEgressProxy(refuse), startReceiver()])
  t.after(async () => {
    proxy.close()
    await receiver.close()
  })
  return { proxy, receiver, port: new URL(receiver.url).port }
}

test('deliveries go through the proxy, which is asked for the checked address and never for the name', async (t) => {
  const { proxy, receiver, port } = await startBoth(t)
  const send = startSender(t, `http://127.0.0.1:${proxy.port}`)
  assert.equal((await send(`http://proxied.example:${port}/hook?a=b`)).kind, 'delivered')
  assert.equal((await send(`http://127.0.0.1:${port}/hook`)).kind, 'delivered')
  assert.deepEqual(proxy.asked, [`127.0.0.1:${port}`, `127.0.0.1:${port}`])
  const [first] = receiver.received
  assert.deepEqual([first?.path, first?.body, first?.headers['host']], ['/hook?a=b', '{"a":1}', `proxied.example:${port}`])
})

test('what the guard refuses is refused before the proxy hears of it', async (t) => {
  const { proxy, receiver, port } = await startBoth(t)
  const closed = startSender(t, `http://127.0.0.1:${proxy.port}`, { allowSubnets: [] })
  for (const url of [`http://proxied.example:${port}/`, `http://127.0.0.1:${port}/`]) assert.equal((await closed(url)).kind, 'blocked')
  const resolve = () => Promise.resolve(['10.0.0.1', '127.0.0.1'])
  const open = startSender(t, `http://127.0.0.1:${proxy.port}`, { resolve })
  assert.equal((await open(`http://mixed.example:${port}/`)).kind, 'delivered')
  assert.deepEqual(proxy.asked, [`127.0.0.1:${port}`])
  assert.equal(receiver.received.length, 1)
})

test("a user name and password of the proxy's URL are sent to the proxy, and not to the endpoint", async (t) => {
  const { proxy, receiver, port } = await startBoth(t)
  await startSender(t, `http://us%3Aer:p%40ss@127.0.0.1:${proxy.port}`)(`http://127.0.0.1:${port}/`)
  await startSender(t, `http://127.0.0.1:${proxy.port}`)(`http://127.0.0.1:${port}/`)
  assert.deepEqual(proxy.authorizations, [`Basic ${Buffer.from('us:er:p@ss').toString('base64')}`, undefined])
  assert.equal(receiver.received[0]?.headers['proxy-authorization'], undefined)
})

test('a proxy that refuses, answers nonsense or is gone is told to the owner without its address', async (t) => {
  const { proxy, port } = await startBoth(t, 403)
  const target = `http://127.0.0.1:${port}/`
  assert.partialDeepStrictEqual(await startSender(t, `http://127.0.0.1:${proxy.port}`)(target), {
    kind: 'unreachable',
    body: 'the egress proxy answered 403',
  })
  const nonsense = createServer((socket) =>
    socket
      .on('error', () => undefined)
      .resume()
      .end('SSH-2.0-OpenSSH_9.9\r\n'),
  ).listen(0, '127.0.0.1')
  await once(nonsense, 'listening')
  const { port: nonsensePort } = nonsense.address() as AddressInfo
  const unreached = { kind: 'unreachable', body: 'the egress proxy could not be reached' }
  assert.partialDeepStrictEqual(await startSender(t, `http://127.0.0.1:${nonsensePort}`)(target), unreached)
  nonsense.close()
  await once(nonsense, 'close')
  assert.partialDeepStrictEqual(await startSender(t, `http://127.0.0.1:${nonsensePort}`)(target), unreached)
})

test('TLS is spoken with the endpoint through the tunnel, under the name of its URL', async (t) => {
  const { proxy } = await startBoth(t)
  const names: string[] = []
  const server = createTlsServer({
    SNICallback: (name, done) => {
      names.push(name)
      done(new Error('this server has no certificate'))
    },
  }).listen(0, '127.0.0.1')
  server.on('tlsClientError', () => undefined)
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo
  const outcome = await startSender(t, `http://127.0.0.1:${proxy.port}`)(`https://proxied.example:${port}/`)
  assert.equal(outcome.kind, 'unreachable')
  assert.deepEqual(names, ['proxied.example'])
  assert.deepEqual(proxy.asked, [`127.0.0.1:${port}`])
})

test('the development inbox is reached directly', async (t) => {
  const { proxy, receiver } = await startBoth(t)
  const send = startSender(t, `http://127.0.0.1:${proxy.port}`, { allowedOrigins: [`${receiver.url}/inbox/`] })
  assert.equal((await send(`${receiver.url}/inbox/a`)).kind, 'delivered')
  assert.deepEqual(proxy.asked, [])
})
