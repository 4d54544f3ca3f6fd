import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BlockedAddressError } from '../../http/address-guard.ts'
import { describeFailure } from '../../http/failure.ts'

const coded = (code: string) => Object.assign(new Error(`getaddrinfo ${code} secret.example/path?token=1`), { code })

const REASONS: readonly (readonly [string, string])[] = [
  ['ECONNREFUSED', 'connection refused'],
  ['ECONNRESET', 'the connection was closed before an answer came'],
  ['UND_ERR_SOCKET', 'the connection was closed before an answer came'],
  ['ENOTFOUND', 'the host name does not resolve'],
  ['EAI_AGAIN', 'the host name could not be resolved (EAI_AGAIN)'],
  ['ESERVFAIL', 'the host name could not be resolved (ESERVFAIL)'],
  ['EHOSTUNREACH', 'the host is unreachable'],
  ['UND_ERR_CONNECT_TIMEOUT', 'no connection within 5000 ms'],
  ['CERT_HAS_EXPIRED', 'certificate has expired'],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'the certificate is self-signed'],
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'the certificate is for another host name'],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'the certificate cannot be verified: its issuer is unknown or the chain is incomplete'],
  ['CERT_REVOKED', 'the certificate was refused (CERT_REVOKED)'],
  ['ERR_SSL_WRONG_VERSION_NUMBER', 'the TLS handshake failed'],
  ['EMFILE', 'the request failed (EMFILE)'],
  ['what /is ?this', 'the request failed'],
]

for (const [code, reason] of REASONS) {
  test(`${code} is unreachable: ${reason}`, () => assert.deepEqual(describeFailure(coded(code), false), { kind: 'unreachable', reason }))
}

test('a connection closed after the status line is named as such', () => {
  assert.equal(describeFailure(coded('ECONNRESET'), true).reason, 'the connection was closed in the middle of the answer')
})

test('a refusal by the guard is blocked, the end of the client is interrupted', () => {
  assert.deepEqual(describeFailure(new BlockedAddressError('no'), false), { kind: 'blocked', reason: 'no' })
  assert.equal(describeFailure(coded('UND_ERR_DESTROYED'), false).kind, 'interrupted')
})

test('what is not an error with a code is told without its text', () => {
  for (const thrown of [new Error('secret'), 'secret', undefined]) assert.equal(describeFailure(thrown, false).reason, 'the request failed')
})
