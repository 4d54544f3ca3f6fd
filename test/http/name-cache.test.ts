import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { LIMITS } from '../../domain/limits.ts'
import { createAddressGuard } from '../../http/address-guard.ts'
import { createHttpClient } from '../../http/client.ts'
import { createResolve } from '../../http/resolve.ts'
import { startDnsServer } from '../support/dns-server.ts'

/** Of this machine, opened: they play public ones. */
const OPENED = '127.0.0.2'
const OTHER = '127.0.0.3'
const DEAF = '127.0.0.4'
const INSIDE = '127.0.0.1'

type Answer = Parameters<typeof startDnsServer>[0]

/** A name server, and look-ups of which it is asked, by a clock that the test moves. */
async function startNames(t: TestContext, answer: Answer, ttlS?: number) {
  const dns = await startDnsServer(answer, ttlS)
  t.after(() => dns.close())
  let nowMs = 0
  const resolve = createResolve([dns.address], () => nowMs)
  return { dns, resolve, pass: (ms: number) => void (nowMs += ms) }
}

/** Sends over a new connection each time, to a receiver that listens on all addresses but one. */
async function startSender(t: TestContext, answer: Answer, ttlS?: number) {
  const names = await startNames(t, answer, ttlS)
  const reached: string[] = []
  const listen = async (host: string, port: number): Promise<number> => {
    const server = createServer((request, response) => {
      reached.push(request.socket.localAddress ?? '')
      response.setHeader('connection', 'close').end('ok')
    }).listen(port, host)
    await once(server, 'listening')
    t.after(() => {
      server.closeAllConnections()
      server.close()
    })
    return (server.address() as AddressInfo).port
  }
  const port = await listen(OPENED, 0)
  for (const host of [OTHER, INSIDE]) await listen(host, port)
  const guard = createAddressGuard({ allowSubnets: [OPENED, OTHER, DEAF], requireHttps: false, resolve: names.resolve })
  const client = createHttpClient({ guard, requestTimeoutMs: 5000 })
  t.after(() => client.close())
  const send = (name = 'hook.test') => client.post('fast', { url: `http://${name}:${port}/`, headers: {}, body: '{}', timeoutMs: 5000 })
  return { ...names, reached, send }
}

test('connections within the time to live of an answer share it, and the first one after it asks anew', async (t) => {
  const { dns, reached, send, pass } = await startSender(t, () => [OPENED], 30)
  for (let i = 0; i < 3; i++) assert.equal((await send()).kind, 'delivered')
  assert.equal(dns.asked.length, 1)
  pass(29_999)
  assert.equal((await send()).kind, 'delivered')
  assert.equal(dns.asked.length, 1)
  pass(1)
  assert.equal((await send()).kind, 'delivered')
  assert.equal(dns.asked.length, 2)
  assert.equal(reached.length, 5)
})

test('an answer with a time to live of 0 is never kept', async (t) => {
  const { dns, send } = await startSender(t, () => [OPENED], 0)
  for (let i = 0; i < 3; i++) assert.equal((await send()).kind, 'delivered')
  assert.equal(dns.asked.length, 3)
})

test('the longest time to live is five minutes', async (t) => {
  const { dns, resolve, pass } = await startNames(t, () => [OPENED], 86_400)
  await resolve('long.test')
  pass(LIMITS.dnsKeptMaxMs - 1)
  await resolve('long.test')
  assert.equal(dns.asked.length, 1)
  pass(1)
  await resolve('long.test')
  assert.equal(dns.asked.length, 2)
})

test('look-ups of one name at a time are one question, also where the answer is not kept', async (t) => {
  const { dns, resolve } = await startNames(t, () => [OPENED], 0)
  const answers = await Promise.all(Array.from({ length: 20 }, () => resolve('shared.test')))
  assert.ok(answers.every(([address]) => address === OPENED))
  assert.equal(dns.asked.length, 1)
})

test('a name that is led inside when its answer has run out is refused', async (t) => {
  const { reached, send, pass } = await startSender(t, (_name, earlier) => (earlier === 0 ? [OPENED] : [INSIDE]), 1)
  assert.equal((await send()).kind, 'delivered')
  pass(1000)
  const second = await send()
  assert.partialDeepStrictEqual(second, { kind: 'blocked' })
  assert.match(second.body, /leads to an address that is loopback/)
  assert.deepEqual(reached, [OPENED])
})

test('an answer that is kept is checked at each connection', async (t) => {
  const { dns, reached, send } = await startSender(t, () => [INSIDE, OPENED], 300)
  for (let i = 0; i < 4; i++) assert.equal((await send()).kind, 'delivered')
  assert.deepEqual(reached, [OPENED, OPENED, OPENED, OPENED])
  const refused = await startSender(t, () => [INSIDE], 300)
  for (let i = 0; i < 3; i++) assert.equal((await refused.send()).kind, 'blocked')
  assert.deepEqual([dns.asked.length, refused.dns.asked.length, refused.reached.length], [1, 1, 0])
})

test('connections take turns through the addresses of a name', async (t) => {
  const { reached, send } = await startSender(t, () => [OPENED, OTHER], 300)
  for (let i = 0; i < 4; i++) assert.equal((await send()).kind, 'delivered')
  assert.deepEqual(reached, [OPENED, OTHER, OPENED, OTHER])
})

test('where nothing listens at an address of a name the next one is tried', async (t) => {
  const { reached, send } = await startSender(t, () => [DEAF, OPENED], 300)
  for (let i = 0; i < 2; i++) assert.equal((await send()).kind, 'delivered')
  assert.deepEqual(reached, [OPENED, OPENED])
})

test('a name without addresses is asked for again when half a second is over', async (t) => {
  const { dns, resolve, pass } = await startNames(t, (_name, earlier) => (earlier === 0 ? [] : [OPENED]), 300)
  await assert.rejects(resolve('new.test'), { code: 'ENOTFOUND' })
  await assert.rejects(resolve('new.test'), { code: 'ENOTFOUND' })
  assert.equal(dns.asked.length, 1)
  pass(LIMITS.dnsFailureKeptMs)
  assert.deepEqual(await resolve('new.test'), [OPENED])
})

test('where the name server is silent the last answer serves for a minute beyond its time', async (t) => {
  const { dns, resolve, pass } = await startNames(t, () => [OPENED], 30)
  await resolve('kept.test')
  dns.silence(true)
  pass(30_000 + LIMITS.dnsStaleMs - 1)
  assert.deepEqual(await resolve('kept.test'), [OPENED])
  pass(1)
  await assert.rejects(resolve('kept.test'), { code: 'ETIMEOUT' })
  dns.silence(false)
  pass(LIMITS.dnsFailureKeptMs)
  assert.deepEqual(await resolve('kept.test'), [OPENED])
})

test('where the name server says that a name is gone its last answer does not serve', async (t) => {
  const { resolve, pass } = await startNames(t, (_name, earlier) => (earlier === 0 ? [OPENED] : []), 30)
  await resolve('gone.test')
  pass(30_000)
  await assert.rejects(resolve('gone.test'), { code: 'ENOTFOUND' })
  await assert.rejects(resolve('gone.test'), { code: 'ENOTFOUND' })
})
