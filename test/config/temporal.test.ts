import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createSecureServer } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, before, test, type TestContext } from 'node:test'
import { prepareNamespace } from '../../cli/embedded/namespace.ts'
import { ConfigError, readConfig } from '../../config/index.ts'
import { makeCertificate } from '../support/certificates.ts'
import { createScratch } from '../support/scratch.ts'
import { startReceiver } from '../support/receiver.ts'
import { startTestService } from '../support/service.ts'
import { startTestTemporal, type TestTemporal } from '../support/temporal.ts'
import { startTlsFront } from '../support/tls-front.ts'

const authority = makeCertificate('Authority', { isAuthority: true })
const own = makeCertificate('temporal', { issuer: authority, hosts: ['temporal.test'] })
const client = makeCertificate('tidings', { issuer: authority })
const SERVER = { cert: own.certificate, key: own.privateKey }

const scratch = createScratch('temporal-tls')
function file(name: string, content: string): string {
  const path = join(scratch.path, name)
  writeFileSync(path, content)
  return path
}

const TLS = {
  TEMPORAL_TLS_SERVER_CA_CERT_PATH: file('authority.pem', authority.certificate),
  TEMPORAL_TLS_SERVER_NAME: 'temporal.test',
}
const CLIENT = {
  TEMPORAL_TLS_CLIENT_CERT_PATH: file('client.pem', client.certificate),
  TEMPORAL_TLS_CLIENT_KEY_PATH: file('client.key', client.privateKey),
}

let temporal: TestTemporal
before(async () => {
  temporal = await startTestTemporal()
})
after(() => scratch.remove())

const prepare = (address: string, env: Record<string, string>) =>
  prepareNamespace(address, temporal.namespace, { access: readConfig(env).temporalAccess })

async function startFront(t: TestContext) {
  const front = await startTlsFront(temporal.address, SERVER)
  t.after(() => front.close())
  return front
}

test('without settings there is no TLS, and any of them turns it on', () => {
  assert.deepEqual(readConfig({}).temporalAccess, { tls: false })
  assert.deepEqual(readConfig({ TEMPORAL_TLS: 'true' }).temporalAccess, { tls: {} })
  assert.deepEqual(readConfig({ TEMPORAL_API_KEY: 'key' }).temporalAccess, { tls: {}, apiKey: 'key' })
  assert.notEqual(readConfig(CLIENT).temporalAccess.tls, false)
})

test('workers have a version where a build is named', () => {
  assert.equal(readConfig({ TIDINGS_DEPLOYMENT_NAME: 'hooks' }).workerVersion, undefined)
  assert.deepEqual(readConfig({ TIDINGS_BUILD_ID: 'v41' }).workerVersion, { deploymentName: 'tidings', buildId: 'v41' })
})

test('the namespace is prepared through TLS, against the authorities and the name that are set', async (t) => {
  const front = await startFront(t)
  await prepare(front.address, TLS)
  assert.ok(front.subjects.length > 0)
  await assert.rejects(prepare(front.address, { ...TLS, TEMPORAL_TLS_SERVER_NAME: 'other.test' }), { code: 'temporal_failed' })
})

test('the whole service delivers with a Temporal server that asks for a client certificate', async (t) => {
  const mutual = { ca: authority.certificate, requestCert: true, rejectUnauthorized: true }
  const front = await startTlsFront(temporal.address, { ...SERVER, ...mutual })
  const receiver = await startReceiver()
  const env = { ...TLS, ...CLIENT, TEMPORAL_ADDRESS: front.address, TEMPORAL_NAMESPACE: temporal.namespace }
  const service = await startTestService({ env })
  // In this order: workers that cannot reach their server do not end.
  t.after(async () => {
    await service.stop()
    await receiver.close()
    front.close()
  })
  const app = await service.svix.application.create({ name: 'TLS' })
  await service.svix.endpoint.create(app.id, { url: receiver.url })
  await service.svix.message.create(app.id, { eventType: 'a.b', payload: {} })
  await receiver.waitFor(1)
  assert.deepEqual(new Set(front.subjects), new Set(['tidings']))
})

test('an API key is sent as a bearer token, with TLS alone', async (t) => {
  const seen: (string | undefined)[] = []
  const server = createSecureServer(SERVER, (request, response) => {
    seen.push(request.headers['authorization'])
    response.stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '16' }, { endStream: true })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  // A connection that was refused is left open by the SDK.
  const sessions = new Set<{ destroy(): void }>()
  server.on('session', (session) => sessions.add(session))
  t.after(() => {
    for (const session of sessions) session.destroy()
    server.close()
  })
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
  await assert.rejects(prepare(address, { ...TLS, TEMPORAL_API_KEY: 'key-of-the-cloud' }), { code: 'temporal_failed' })
  assert.ok(seen.length > 0 && seen.every((authorization) => authorization === 'Bearer key-of-the-cloud'))
})

function problemsOf(env: Record<string, string>): string {
  try {
    readConfig(env)
    return ''
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.message
  }
}

test('files that are missing, wrong or no pair are named, never their content', () => {
  const other = file('other.key', makeCertificate('other').privateKey)
  const cases: [Record<string, string>, RegExp][] = [
    [{ TEMPORAL_TLS_SERVER_CA_CERT_PATH: join(scratch.path, 'none') }, /^TEMPORAL_TLS_SERVER_CA_CERT_PATH: cannot be read \(ENOENT\)$/],
    [{ ...CLIENT, TEMPORAL_TLS_CLIENT_CERT_PATH: other }, /^TEMPORAL_TLS_CLIENT_CERT_PATH: must name a file with a certificate in PEM$/],
    [{ ...CLIENT, TEMPORAL_TLS_CLIENT_KEY_PATH: CLIENT.TEMPORAL_TLS_CLIENT_CERT_PATH }, /^TEMPORAL_TLS_CLIENT_KEY_PATH: must name a file/],
    [{ ...CLIENT, TEMPORAL_TLS_CLIENT_KEY_PATH: other }, /^TEMPORAL_TLS_CLIENT_KEY_PATH: does not belong/],
    [{ ...CLIENT, TEMPORAL_TLS_CLIENT_KEY_PATH: '' }, /^TEMPORAL_TLS_CLIENT_KEY_PATH: required/],
    [{ ...CLIENT, TEMPORAL_TLS_CLIENT_CERT_PATH: '' }, /^TEMPORAL_TLS_CLIENT_CERT_PATH: required/],
    [{ TEMPORAL_API_KEY: 'with space' }, /^TEMPORAL_API_KEY: must be printable ASCII$/],
    [{ TIDINGS_BUILD_ID: 'v1.2' }, /^TIDINGS_BUILD_ID: may have letters, digits, hyphens and underscores, 100 at most$/],
  ]
  for (const [env, problem] of cases) assert.match(problemsOf(env), problem)
})
