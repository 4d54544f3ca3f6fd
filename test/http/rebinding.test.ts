import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { createAddressGuard } from '../../http/address-guard.ts'
import { createHttpClient } from '../../http/client.ts'
import { createResolve } from '../../http/resolve.ts'
import { startDnsServer } from '../support/dns-server.ts'

/** Of this machine, opened: it plays the public one. */
const OPENED = '127.0.0.2'
const INSIDE = '127.0.0.1'

/** A receiver that answers on both addresses, on one port, and tells which one each request came to. */
async function startReceiver(t: TestContext): Promise<{ port: number; reached: string[] }> {
  const reached: string[] = []
  const server = createServer((request, response) => {
    reached.push(request.socket.localAddress ?? '')
    // Every delivery needs a new connection.
    response.setHeader('connection', 'close').end('ok')
  }).listen(0, '0.0.0.0')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, reached }
}

async function startSender(t: TestContext, answer: (name: string, earlier: number) => readonly string[]) {
  const dns = await startDnsServer(answer)
  t.after(() => dns.close())
  const resolve = createResolve([dns.address])
  const client = createHttpClient({
    guard: createAddressGuard({ allowSubnets: [OPENED], allowPorts: [443], requireHttps: false, resolve }),
    requestTimeoutMs: 5000,
  })
  t.after(() => client.close())
  return { dns, send: (url: string) => client.post('fast', { url, headers: {}, body: '{}', timeoutMs: 5000 }) }
}

test('a name that changes its answer after the check is connected to at the address that was checked', async (t) => {
  const { port, reached } = await startReceiver(t)
  // The first question is the check's; a second one, for the connection, would be led inside.
  const { dns, send } = await startSender(t, (_name, earlier) => (earlier === 0 ? [OPENED] : [INSIDE]))
  assert.equal((await send(`http://rebinding.test:${port}/`)).kind, 'delivered')
  assert.deepEqual(reached, [OPENED])
  assert.deepEqual(dns.asked, ['rebinding.test'])
  const second = await send(`http://rebinding.test:${port}/`)
  assert.equal(second.kind, 'blocked')
  assert.match(second.body, /leads to an address that is loopback/)
  assert.deepEqual(reached, [OPENED])
})

test('a name that alternates between answers never leads inside', async (t) => {
  const { port, reached } = await startReceiver(t)
  const answers = [[INSIDE], [OPENED], [INSIDE, OPENED], ['10.0.0.1'], [OPENED, INSIDE], ['169.254.169.254'], ['0.0.0.0'], [OPENED]]
  const { send } = await startSender(t, (_name, earlier) => answers[earlier] ?? [])
  const kinds: string[] = []
  while (kinds.length < answers.length) kinds.push((await send(`http://flipping.test:${port}/`)).kind)
  assert.deepEqual(kinds, ['blocked', 'delivered', 'delivered', 'blocked', 'delivered', 'blocked', 'blocked', 'delivered'])
  assert.deepEqual(new Set(reached), new Set([OPENED]))
})

test('chosen name servers are asked and nobody else: a name that they do not have does not resolve', async (t) => {
  const { send, dns } = await startSender(t, () => [])
  const outcome = await send('http://unknown.test/')
  assert.deepEqual([outcome.kind, outcome.body], ['unreachable', 'the host name does not resolve'])
  assert.deepEqual(dns.asked, ['unknown.test'])
})
