import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { Webhook } from 'standardwebhooks'
import { createSigner, readableSecret, SecretError, signMessage } from '../../http/signing.ts'

// The vectors of Standard Webhooks 1.0.
const VECTORS = [
  {
    secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
    id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    timestampS: 1614265330,
    body: '{"test": 2432232314}',
    signature: 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  },
  {
    secret: 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD',
    id: 'msg_27UH4WbU6Z5A5EzD8u03UvzRbpk',
    timestampS: 1649367553,
    body: '{"email":"test@example.com","username":"test_user"}',
    signature: 'v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=',
  },
  {
    secret: 'whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==',
    id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    timestampS: 1614265330,
    body: '{"test": 2432232314}',
    signature: 'v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==',
  },
]

const newSecret = () => `whsec_${randomBytes(24).toString('base64')}`
const nowS = () => Math.floor(Date.now() / 1000)

for (const { secret, id, timestampS, body, signature } of VECTORS) {
  test(`the vector ${signature.slice(0, 12)}… of Standard Webhooks is met`, () => {
    assert.deepEqual(signMessage([createSigner(secret)], id, timestampS, body), {
      'webhook-id': id,
      'webhook-timestamp': String(timestampS),
      'webhook-signature': signature,
    })
  })
}

test('the seed of an ed25519 key alone signs as the whole key does', () => {
  const { secret, id, timestampS, body, signature } = VECTORS[2]!
  const seed = Buffer.from(secret.slice('whsk_'.length), 'base64').subarray(0, 32).toString('base64')
  assert.equal(signMessage([createSigner(`whsk_${seed}`)], id, timestampS, body)['webhook-signature'], signature)
})

test('of an ed25519 key only the public half is readable, an HMAC secret is its own', () => {
  assert.equal(readableSecret(VECTORS[2]!.secret), 'whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=')
  assert.equal(readableSecret(VECTORS[0]!.secret), VECTORS[0]!.secret)
})

test('whatever the body, the verifier of Standard Webhooks accepts it, and no other body', () => {
  const secret = newSecret()
  fc.assert(
    fc.property(fc.json(), (body) => {
      const headers = { ...signMessage([createSigner(secret)], 'msg_1', nowS(), body) }
      assert.deepEqual(new Webhook(secret).verify(body, headers), JSON.parse(body))
      assert.throws(() => new Webhook(secret).verify(`${body} `, headers))
    }),
  )
})

test('bytes outside ASCII are signed as UTF-8', () => {
  const secret = newSecret()
  const body = '{"name":"Zoë ☃ 𝒳"}'
  const headers = { ...signMessage([createSigner(secret)], 'msg_1', nowS(), body) }
  assert.deepEqual(new Webhook(secret).verify(Buffer.from(body, 'utf8'), headers), { name: 'Zoë ☃ 𝒳' })
})

test('while a secret is rotated both the new and the old one verify, and a third does not', () => {
  const [fresh, old] = [newSecret(), newSecret()]
  const headers = { ...signMessage([createSigner(fresh), createSigner(old)], 'msg_1', nowS(), '{}') }
  new Webhook(fresh).verify('{}', headers)
  new Webhook(old).verify('{}', headers)
  assert.throws(() => new Webhook(newSecret()).verify('{}', headers))
})

test('what is not a secret of the standard is refused without being repeated', () => {
  const short = `whsec_${randomBytes(23).toString('base64')}`
  const long = `whsec_${randomBytes(76).toString('base64')}`
  for (const secret of [
    '',
    'whsec_',
    'secret',
    short,
    long,
    'whsec_not base64!',
    'whsk_AAAA',
    `whpk_${randomBytes(32).toString('base64')}`,
  ]) {
    assert.throws(
      () => createSigner(secret),
      (error) => error instanceof SecretError && (secret.length < 8 || !error.message.includes(secret.slice(6))),
      secret,
    )
  }
})
