import assert from 'node:assert/strict'
import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { after, before, test } from 'node:test'
import { createCipher } from '../../storage/cipher.ts'
import { createConfigCache } from '../../storage/config-cache.ts'
import { makeCertificate } from '../support/certificates.ts'
import { ENCRYPTION_KEY, startApi, type Harness } from './harness.ts'
import pino from 'pino'

const URL = 'https://example.com/hook'
const authority = makeCertificate('Test authority', { isAuthority: true })
const client = makeCertificate('tidings.example', { issuer: authority })
const other = makeCertificate('other.example')
const MTLS = { certificate: client.certificate + authority.certificate, privateKey: client.privateKey }
const SECRET = 'hunter2-of-the-client'
const OAUTH2 = { tokenUrl: 'https://login.example.com/token', clientId: 'tidings', clientSecret: SECRET, scopes: ['hooks', 'write'] }

let api: Harness
let app: string

before(async () => {
  api = await startApi()
  app = (await api.svix.application.create({ name: 'Access' })).id
})
after(() => api.close())

const create = (fields: object) => api.call('POST', `/app/${app}/endpoint`, { url: URL, ...fields })

/** What deliveries would use, read anew. */
async function accessOf(id: string) {
  const cipher = createCipher(ENCRYPTION_KEY)
  const { byId } = await createConfigCache({ pool: api.pool, cipher, log: pino({ level: 'silent' }) }).endpoints(app)
  return byId.get(id)?.access
}

test('a client certificate, authorities and an OAuth2 client are kept, and shown without their secrets', async () => {
  const { status, json } = await create({ mtls: MTLS, caCertificate: authority.certificate, oauth2: OAUTH2, handshake: true })
  assert.equal(status, 201)
  const shown = { tokenUrl: OAUTH2.tokenUrl, clientId: OAUTH2.clientId, scopes: OAUTH2.scopes }
  const expected = {
    mtls: { subject: 'CN=tidings.example', expiresAt: (json['mtls'] as { expiresAt: string }).expiresAt },
    caCertificate: authority.certificate,
    oauth2: { ...shown, audience: null, authMethod: 'client_secret_basic' },
    handshake: true,
  }
  assert.ok(Date.parse(expected.mtls.expiresAt) > Date.now())
  const path = `/app/${app}/endpoint/${json.id}`
  for (const answer of [json, (await api.call('GET', path)).json, (await api.call('GET', `/app/${app}/endpoint`)).json.data[0]!]) {
    assert.partialDeepStrictEqual(answer, expected)
    assert.doesNotMatch(JSON.stringify(answer), /PRIVATE KEY|hunter2|sealed/)
  }
  assert.partialDeepStrictEqual(await accessOf(json.id), {
    endpointId: json.id,
    tls: { certificate: MTLS.certificate, privateKey: MTLS.privateKey, caCertificate: authority.certificate },
    oauth2: { ...OAUTH2, audience: null },
    handshake: true,
  })
})

test('the database holds neither private key nor client secret in clear', async () => {
  const { json } = await create({ mtls: MTLS, oauth2: OAUTH2 })
  const { rows } = await api.pool.query<{ row: string }>('SELECT endpoint::text AS row FROM endpoint WHERE id = $1', [json.id])
  const bytes = [SECRET, 'PRIVATE KEY', MTLS.privateKey.split('\n')[1]!].flatMap((text) => [text, Buffer.from(text).toString('hex')])
  for (const text of bytes) assert.ok(!rows[0]!.row.includes(text))
  const audit = await api.pool.query<{ row: string }>('SELECT audit_log::text AS row FROM audit_log WHERE object_id = $1', [json.id])
  assert.match(audit.rows[0]!.row, /mtls/)
})

test('an endpoint without them has nothing to look after', async () => {
  const { json } = await create({})
  assert.partialDeepStrictEqual(json, { mtls: null, caCertificate: null, oauth2: null, handshake: false })
  assert.equal(await accessOf(json.id), null)
})

test('a patch keeps what is absent and clears what is null, and a PUT resets', async () => {
  const { json } = await create({ mtls: MTLS, caCertificate: authority.certificate, oauth2: OAUTH2, handshake: true })
  const path = `/app/${app}/endpoint/${json.id}`
  const first = await accessOf(json.id)
  await api.call('PATCH', path, { description: 'other' })
  assert.deepEqual(await accessOf(json.id), first)
  const cleared = await api.call('PATCH', path, {
    mtls: null,
    oauth2: { ...OAUTH2, clientSecret: 'another', authMethod: 'client_secret_post' },
  })
  assert.partialDeepStrictEqual(cleared.json, { mtls: null, oauth2: { authMethod: 'client_secret_post' }, handshake: true })
  assert.partialDeepStrictEqual(await accessOf(json.id), { tls: { certificate: null }, oauth2: { clientSecret: 'another' } })
  const entries = await api.pool.query<{ fields: string[] }>('SELECT fields FROM audit_log WHERE object_id = $1 ORDER BY id', [json.id])
  assert.deepEqual(entries.rows.at(-1)?.fields, ['mtls', 'oauth2'])
  await api.call('PATCH', path, { caCertificate: null, oauth2: null, handshake: false })
  assert.equal(await accessOf(json.id), null)
  await api.call('PATCH', path, { mtls: MTLS })
  assert.equal((await api.call('PUT', path, { url: URL, oauth2: OAUTH2 })).status, 200)
  assert.partialDeepStrictEqual(await accessOf(json.id), { tls: null, oauth2: { clientSecret: SECRET }, handshake: false })
})

test('keys of every common kind are taken', async () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const ed25519 = generateKeyPairSync('ed25519')
  for (const keys of [rsa, ed25519]) {
    const { certificate, privateKey } = makeCertificate('kinds.example', { issuer: authority, keys })
    assert.equal((await create({ mtls: { certificate, privateKey } })).status, 201)
  }
  const pkcs1 = rsa.privateKey.export({ type: 'pkcs1', format: 'pem' }) as string
  const { certificate } = makeCertificate('kinds.example', { issuer: authority, keys: rsa })
  assert.equal((await create({ mtls: { certificate, privateKey: pkcs1 } })).status, 201)
})

const expired = makeCertificate('expired.example', { issuer: authority, expiresAt: new Date('2020-01-31T00:00:00Z') })
const locked = createPrivateKey(client.privateKey).export({
  type: 'pkcs8',
  format: 'pem',
  cipher: 'aes-256-cbc',
  passphrase: 'x',
}) as string
const weak = generateKeyPairSync('rsa', { modulusLength: 512 })
const weakest = makeCertificate('weak.example', { issuer: authority, keys: weak })
const CERTIFICATE = ['body', 'mtls', 'certificate']
const KEY = ['body', 'mtls', 'private_key']
const EXPIRED_MESSAGE = /^The certificate expired on 2020-01-31T00:00:00\.000Z$/

const refused: readonly [string, object, readonly string[], RegExp][] = [
  ['an expired certificate', { mtls: { ...expired } }, CERTIFICATE, EXPIRED_MESSAGE],
  [
    'an expired one in the chain',
    { mtls: { ...MTLS, certificate: client.certificate + expired.certificate } },
    CERTIFICATE,
    /^Certificate 2 exp/,
  ],
  ['the key of another certificate', { mtls: { ...MTLS, privateKey: other.privateKey } }, KEY, /^The private key does not belong/],
  ['a key with a passphrase', { mtls: { ...MTLS, privateKey: locked } }, KEY, /must not have a passphrase/],
  ['no key', { mtls: { ...MTLS, privateKey: 'secret' } }, KEY, /^Takes a private key in PEM$/],
  ['a public key', { mtls: { ...MTLS, privateKey: client.certificate } }, KEY, /^Takes a private key in PEM$/],
  ['no certificate', { mtls: { ...MTLS, certificate: client.privateKey } }, CERTIFICATE, /^Takes certificates in PEM/],
  ['a cut certificate', { mtls: { ...MTLS, certificate: client.certificate.replace(/\n.{64}/, '\n') } }, CERTIFICATE, /cannot be read$/],
  ['a certificate too weak for TLS', { mtls: { ...weakest } }, CERTIFICATE, /too weak/],
  ['too much', { caCertificate: 'x'.repeat(16_385) }, ['body', 'ca_certificate'], /16384/],
  ['too many', { caCertificate: authority.certificate.repeat(11) }, ['body', 'ca_certificate'], /^Takes at most 10 certificates$/],
  ['an expired authority', { caCertificate: expired.certificate }, ['body', 'ca_certificate'], EXPIRED_MESSAGE],
  ['certificates without TLS', { url: 'http://example.com', mtls: MTLS }, ['body', 'url'], /must be https/],
  ['authorities without TLS', { url: 'http://example.com', caCertificate: authority.certificate }, ['body', 'url'], /must be https/],
  ['a token URL that is none', { oauth2: { ...OAUTH2, tokenUrl: 'login' } }, ['body', 'oauth2', 'token_url'], /must be valid/],
  [
    'a token URL inside',
    { oauth2: { ...OAUTH2, tokenUrl: 'http://169.254.169.254/' } },
    ['body', 'oauth2', 'token_url'],
    /metadata service/,
  ],
  ['an empty client id', { oauth2: { ...OAUTH2, clientId: '' } }, ['body', 'oauth2', 'client_id'], /printable/],
  ['a client secret with a line break', { oauth2: { ...OAUTH2, clientSecret: 'a\nb' } }, ['body', 'oauth2', 'client_secret'], /printable/],
  ['a scope with a space', { oauth2: { ...OAUTH2, scopes: ['a b'] } }, ['body', 'oauth2', 'scopes', '[0]'], /^Not a scope$/],
]

for (const [what, fields, loc, message] of refused) {
  test(`${what} is refused at its field, without a word of its secrets`, async () => {
    const { status, json } = await create(fields)
    assert.equal(status, 422)
    assert.deepEqual(json.detail[0]?.loc, loc)
    assert.match(json.detail[0]?.msg ?? '', message)
    assert.doesNotMatch(JSON.stringify(json), /PRIVATE KEY|hunter2/)
  })
}

test('shapes that are none are refused', async () => {
  for (const fields of [
    { mtls: {} },
    { mtls: 'x' },
    { oauth2: { clientId: 'a' } },
    { handshake: null },
    { handshake: 'yes' },
    { oauth2: { ...OAUTH2, authMethod: 'none' } },
  ])
    assert.equal((await create(fields)).status, 422, JSON.stringify(fields))
})

test('a patch may not take TLS away from a certificate, whichever of them comes first', async () => {
  const { json } = await create({ mtls: MTLS })
  const path = `/app/${app}/endpoint/${json.id}`
  assert.equal((await api.call('PATCH', path, { url: 'http://example.com' })).status, 422)
  assert.equal((await api.call('PATCH', path, { url: 'http://example.com', mtls: null })).status, 200)
  assert.equal((await api.call('PATCH', path, { mtls: MTLS })).status, 422)
})
