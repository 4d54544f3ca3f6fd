import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { after, before, test } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { makeCertificate } from '../support/certificates.ts'
import { eventually } from '../support/eventually.ts'
import { startTestService, type TestService } from '../support/service.ts'
import { startTokenServer } from '../support/token-server.ts'

const authority = makeCertificate('Authority', { isAuthority: true })
const own = makeCertificate('receiver', { issuer: authority, hosts: ['127.0.0.1'] })
const client = makeCertificate('tidings', { issuer: authority })

let service: TestService
before(async () => {
  service = await startTestService({
    env: { TIDINGS_RETRY_SCHEDULE: '1,1', TIDINGS_RETRY_TIME_SCALE: '0.1', TIDINGS_PUBLIC_URL: 'https://hooks.example.com' },
  })
})
after(() => service.stop())

interface Request {
  readonly method: string | undefined
  readonly subject: string | undefined
  readonly headers: Record<string, string>
  readonly body: string
}

async function call(method: string, path: string, body: object): Promise<{ id: string }> {
  const response = await fetch(`${service.url}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${service.token}` },
    body: JSON.stringify(body),
  })
  assert.ok(response.ok, `${response.status} ${path}`)
  return (await response.json()) as { id: string }
}

/** Takes clients of the authority alone, permits `hooks.example.com`, and wants the token that is valid. */
async function startEndpoint(isValid: (authorization: string | undefined) => boolean) {
  const requests: Request[] = []
  const tls = { cert: own.certificate, key: own.privateKey, ca: authority.certificate, requestCert: true, rejectUnauthorized: true }
  const server = createServer(tls, (request, response) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (text: string) => (body += text))
    request.on('end', () => {
      const subject = String((request.socket as TLSSocket).getPeerCertificate().subject.CN)
      requests.push({ method: request.method, subject, headers: request.headers as Record<string, string>, body })
      if (request.method === 'OPTIONS') response.writeHead(200, { 'webhook-allowed-origin': 'hooks.example.com' }).end()
      else response.writeHead(isValid(request.headers.authorization) ? 200 : 401).end()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, requests }
}

test('an endpoint is asked for permission, shown a certificate, and sent a token, which is fetched anew when it is refused', async () => {
  const tokens = await startTokenServer()
  after(() => tokens.close())
  let valid = 'Bearer token-1'
  const endpoint = await startEndpoint((authorization) => authorization === valid)
  const app = await service.svix.application.create({ name: 'access' })
  const { id } = await call('POST', `/app/${app.id}/endpoint`, {
    url: endpoint.url,
    mtls: client,
    caCertificate: authority.certificate,
    oauth2: { tokenUrl: `${tokens.url}/token`, clientId: 'tidings', clientSecret: 'secret-of-the-client' },
    handshake: true,
  })
  const publish = () => service.svix.message.create(app.id, { eventType: 'a.b', payload: { n: 1 } })
  const delivered = async (count: number) => {
    const isDelivered = (list: { data: { status: number }[] }) => list.data.filter(({ status }) => status === 0).length === count
    await eventually(() => service.svix.messageAttempt.listByEndpoint(app.id, id), isDelivered)
  }
  await publish()
  await delivered(1)
  assert.deepEqual(
    endpoint.requests.map(({ method, subject }) => [method, subject]),
    [
      ['OPTIONS', 'tidings'],
      ['POST', 'tidings'],
    ],
  )
  const { body, headers } = endpoint.requests[1]!
  const { key } = await service.svix.endpoint.getSecret(app.id, id)
  assert.deepEqual(new Webhook(key).verify(body, headers), { n: 1 })
  valid = 'Bearer token-2'
  await publish()
  await delivered(2)
  assert.deepEqual(
    endpoint.requests.map((one) => one.headers['authorization']),
    [undefined, 'Bearer token-1', 'Bearer token-1', 'Bearer token-2'],
  )
})

test('a change of the endpoint counts from the next delivery on, and a token server that refuses is in its attempts', async () => {
  const tokens = await startTokenServer(() => ({ status: 401, body: '{"error":"invalid_client"}' }))
  after(() => tokens.close())
  const endpoint = await startEndpoint(() => true)
  const app = await service.svix.application.create({ name: 'access' })
  const oauth2 = { tokenUrl: `${tokens.url}/token`, clientId: 'tidings', clientSecret: 'wrong' }
  const fields = { url: endpoint.url, mtls: client, caCertificate: authority.certificate }
  const { id } = await call('POST', `/app/${app.id}/endpoint`, { ...fields, oauth2 })
  const message = await service.svix.message.create(app.id, { eventType: 'a.b', payload: {} })
  const failed = await eventually(
    () => service.svix.messageAttempt.listByMsg(app.id, message.id, { withContent: true }),
    (list) => list.data.length === 3,
  )
  for (const { response, responseStatusCode } of failed.data)
    assert.deepEqual([response, responseStatusCode], ['no OAuth2 token: the token server answered 401 (invalid_client)', 0])
  assert.equal(endpoint.requests.length, 0)
  await call('PATCH', `/app/${app.id}/endpoint/${id}`, { oauth2: null })
  const next = await service.svix.message.create(app.id, { eventType: 'a.b', payload: {} })
  await eventually(
    () => service.svix.messageAttempt.listByMsg(app.id, next.id),
    (list) => list.data.some((attempt) => Number(attempt.status) === 0),
  )
  assert.deepEqual(
    endpoint.requests.map(({ method }) => method),
    ['POST'],
  )
})
