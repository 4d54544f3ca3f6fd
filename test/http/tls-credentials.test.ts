import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { SecureVersion, TLSSocket } from 'node:tls'
import { test, type TestContext } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { EndpointAccess } from '../../domain/endpoint-access.ts'
import { LIMITS } from '../../domain/limits.ts'
import { createAddressGuard, type AddressGuardOptions } from '../../http/address-guard.ts'
import { createHttpClient } from '../../http/client.ts'
import { makeCertificate, type Certificate } from '../support/certificates.ts'
import { startEgressProxy } from '../support/egress-proxy.ts'

const authority = makeCertificate('Authority', { isAuthority: true })
const serverCertificate = makeCertificate('receiver.test', { issuer: authority, hosts: ['127.0.0.1', 'receiver.test'] })
const clientOne = makeCertificate('client one', { issuer: authority })
const clientTwo = makeCertificate('client two', { issuer: authority })
const stranger = makeCertificate('stranger')

interface Secured {
  readonly server: Server
  readonly port: number
  /** The subject of each request's client certificate, and the port it came from. */
  readonly requests: { subject: string | undefined; port: number | undefined }[]
}

/** Takes only clients with a certificate of the authority. */
async function startSecured(
  t: TestContext,
  options: { requestCert: boolean; maxVersion?: SecureVersion } = { requestCert: true },
): Promise<Secured> {
  const requests: Secured['requests'] = []
  const tls = {
    cert: serverCertificate.certificate,
    key: serverCertificate.privateKey,
    ca: authority.certificate,
    rejectUnauthorized: true,
  }
  const server = createServer({ ...tls, ...options }, (request, response) => {
    const subject = (request.socket as TLSSocket).getPeerCertificate().subject?.CN
    requests.push({ subject: subject === undefined ? undefined : String(subject), port: request.socket.remotePort })
    response.end('ok')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { server, port: (server.address() as AddressInfo).port, requests }
}

function accessWith(client: Certificate | null, caCertificate: string | null = authority.certificate): EndpointAccess {
  const certificate = client?.certificate ?? null
  const privateKey = client?.privateKey ?? null
  const key = JSON.stringify([certificate, caCertificate])
  return { endpointId: 'ep_1', tls: { key, certificate, privateKey, caCertificate }, oauth2: null, handshake: false }
}

function startClient(t: TestContext, options: Partial<AddressGuardOptions> = {}, egressProxy?: URL) {
  const guard = createAddressGuard({ allowSubnets: ['127.0.0.1'], requireHttps: false, ...options })
  const client = createHttpClient({ guard, requestTimeoutMs: 5000, egressProxy })
  t.after(() => client.close())
  const send = (url: string, access: EndpointAccess | null) =>
    client.post('fast', { url, headers: {}, body: '{}', timeoutMs: 5000, access })
  return Object.assign(send, { usage: () => client.usage().fast })
}

test('the client certificate is shown, and the certificate of the server held against the authorities of the endpoint', async (t) => {
  const { port, requests } = await startSecured(t)
  const send = startClient(t)
  assert.equal((await send(`https://127.0.0.1:${port}/`, accessWith(clientOne))).kind, 'delivered')
  assert.equal(requests[0]?.subject, 'client one')
})

test('a server of an authority that is not the endpoint’s is refused, with and without authorities of its own', async (t) => {
  const { port, requests } = await startSecured(t, { requestCert: false })
  const send = startClient(t)
  const url = `https://127.0.0.1:${port}/`
  // The server sends its authority along.
  const reason = 'the certificate is self-signed'
  assert.partialDeepStrictEqual(await send(url, null), { kind: 'unreachable', body: reason })
  assert.partialDeepStrictEqual(await send(url, accessWith(null, stranger.certificate)), { kind: 'unreachable', body: reason })
  assert.deepEqual(requests, [])
  assert.equal((await send(url, accessWith(null))).kind, 'delivered')
})

test('a missing or unknown client certificate is a failed attempt, and nothing is delivered', async (t) => {
  const { port, requests } = await startSecured(t)
  const send = startClient(t)
  const url = `https://127.0.0.1:${port}/`
  for (const access of [accessWith(null), accessWith(stranger)]) {
    const outcome = await send(url, access)
    assert.partialDeepStrictEqual(outcome, { kind: 'unreachable', body: 'the connection was closed before an answer came' })
  }
  assert.deepEqual(requests, [])
})

test('connections are kept for equal credentials, and never change hands between others', async (t) => {
  const { port, requests } = await startSecured(t, { requestCert: true })
  const send = startClient(t)
  const url = `https://127.0.0.1:${port}/`
  for (let i = 0; i < 4; i++) {
    for (const certificate of [clientOne, clientTwo]) assert.equal((await send(url, accessWith(certificate))).kind, 'delivered')
  }
  const subjectsOf = Map.groupBy(requests, (request) => request.port)
  for (const group of subjectsOf.values()) assert.equal(new Set(group.map(({ subject }) => subject)).size, 1)
  assert.deepEqual(new Set(requests.map(({ subject }) => subject)), new Set(['client one', 'client two']))
  assert.ok(subjectsOf.size < requests.length, `${subjectsOf.size} connections for ${requests.length} requests`)
})

test('the address guard judges these endpoints as all others, and the address it checked is connected to', async (t) => {
  const { port, requests } = await startSecured(t)
  const answers = [['127.0.0.1'], ['10.0.0.1']]
  let lookups = 0
  const send = startClient(t, { resolve: () => Promise.resolve(answers[lookups++] ?? []) })
  assert.equal((await send(`https://receiver.test:${port}/`, accessWith(clientOne))).kind, 'delivered')
  assert.partialDeepStrictEqual(await send(`https://receiver.test:${port}/`, accessWith(clientTwo)), { kind: 'blocked' })
  assert.equal(requests.length, 1)
  assert.equal((await startClient(t, { allowSubnets: [] })(`https://127.0.0.1:${port}/`, accessWith(clientOne))).kind, 'blocked')
})

test('through the egress proxy TLS is between this process and the endpoint, its certificate included', async (t) => {
  const { port, requests } = await startSecured(t)
  const proxy = await startEgressProxy()
  t.after(() => proxy.close())
  const send = startClient(t, {}, new URL(`http://127.0.0.1:${proxy.port}`))
  assert.equal((await send(`https://127.0.0.1:${port}/`, accessWith(clientOne))).kind, 'delivered')
  assert.equal(requests[0]?.subject, 'client one')
})

for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`a later connection continues the ${maxVersion} session of an earlier one, also when memory was cleaned up between`, async (t) => {
    const { server, port } = await startSecured(t, { requestCert: false, maxVersion })
    server.prependListener('request', (_request, response) => void response.setHeader('connection', 'close'))
    setFlagsFromString('--expose-gc')
    const collectGarbage = runInNewContext('gc') as () => void
    const send = startClient(t)
    for (let i = 0; i < 3; i++) {
      assert.equal((await send(`https://127.0.0.1:${port}/`, accessWith(null))).kind, 'delivered')
      collectGarbage()
      await new Promise(setImmediate)
    }
    assert.deepEqual(send.usage().opened, { none: 0, full: 1, resumed: 2 })
  })
}

test('the connections of credentials that others have displaced are closed, and a request under way on them is answered', async (t) => {
  const { server, port, requests } = await startSecured(t)
  const send = startClient(t)
  const url = `https://127.0.0.1:${port}/`
  let answer: () => void = () => undefined
  server.prependOnceListener('request', (_request, response) => {
    const end = response.end.bind(response)
    response.end = () => response
    answer = () => end('late')
  })
  const arrived = once(server, 'request')
  const first = send(url, accessWith(clientOne))
  await arrived
  const unused = Array.from({ length: LIMITS.credentialPoolsPerLane }, (_, i) => {
    const { tls, ...rest } = accessWith(clientTwo)
    return { ...rest, tls: { ...tls!, key: String(i) } }
  })
  // Nobody listens there: these cost a refused connection each.
  for (const access of unused) await send('https://127.0.0.1:1/', access)
  answer()
  assert.partialDeepStrictEqual(await first, { kind: 'delivered', body: 'late' })
  assert.equal((await send(url, accessWith(clientOne))).kind, 'delivered')
  assert.equal(new Set(requests.map((request) => request.port)).size, 2)
})

test('certificates that OpenSSL does not take are a blocked attempt, not a fault', async (t) => {
  const { tls, ...rest } = accessWith(clientOne)
  const outcome = await startClient(t)('https://127.0.0.1:1/', { ...rest, tls: { ...tls!, key: 'broken', privateKey: 'nonsense' } })
  assert.partialDeepStrictEqual(outcome, { kind: 'blocked', body: 'the certificates of the endpoint cannot be used' })
})
