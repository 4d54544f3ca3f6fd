import { createHmac, createPrivateKey, createPublicKey, createSecretKey, sign, type KeyObject } from 'node:crypto'
import { LRUCache } from 'lru-cache'

/** A secret is not of the forms that Standard Webhooks 1.0 knows. */
export class SecretError extends Error {
  readonly code = 'secret_invalid'
  override readonly name = 'SecretError'
}

const HMAC_PREFIX = 'whsec_'
const ED25519_PREFIX = 'whsk_'
const PKCS8_ED25519 = Buffer.from('302e020100300506032b657004220420', 'hex')

/** Signs `id.timestamp.` and the body with one secret; gives one entry of the `webhook-signature` list. */
export type Signer = (prefix: string, body: Buffer | string) => string

/**
 * Prepares a secret for signing (decoded once, used many times).
 * @param secret `whsec_<base64>` of 24 to 75 bytes (HMAC-SHA256, `v1`), or `whsk_<base64>` of 32 or 64 bytes (ed25519, `v1a`)
 * @throws {SecretError}
 */
export function createSigner(secret: string): Signer {
  if (secret.startsWith(HMAC_PREFIX)) {
    const bytes = decode(secret.slice(HMAC_PREFIX.length))
    if (bytes.length < 24 || bytes.length > 75) throw new SecretError('a whsec_ secret must have 24 to 75 bytes')
    // A key object made once costs a fifth of what the bytes cost at each signature.
    const key = createSecretKey(bytes)
    return (prefix, body) => `v1,${createHmac('sha256', key).update(prefix).update(body).digest('base64')}`
  }
  if (secret.startsWith(ED25519_PREFIX)) {
    const key = ed25519Key(secret)
    return (prefix, body) => `v1a,${sign(null, Buffer.concat([Buffer.from(prefix), Buffer.from(body)]), key).toString('base64')}`
  }
  throw new SecretError('a secret begins with whsec_ or whsk_')
}

/** What an owner may read back: an HMAC secret as it is, of an ed25519 secret the public half (`whpk_`). */
export function readableSecret(secret: string): string {
  if (!secret.startsWith(ED25519_PREFIX)) return secret
  const spki = createPublicKey(ed25519Key(secret)).export({ format: 'der', type: 'spki' })
  return `whpk_${spki.subarray(-32).toString('base64')}`
}

function ed25519Key(secret: string): KeyObject {
  const bytes = decode(secret.slice(ED25519_PREFIX.length))
  if (bytes.length !== 32 && bytes.length !== 64) throw new SecretError('a whsk_ secret must have 32 or 64 bytes')
  return createPrivateKey({ key: Buffer.concat([PKCS8_ED25519, bytes.subarray(0, 32)]), format: 'der', type: 'pkcs8' })
}

function decode(base64: string): Buffer {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) throw new SecretError('a secret is base64 after its prefix')
  return Buffer.from(base64, 'base64')
}

/** The headers of one attempt, re-signed for its own timestamp. */
export interface SignedHeaders {
  readonly 'webhook-id': string
  readonly 'webhook-timestamp': string
  readonly 'webhook-signature': string
}

/**
 * @param signers one per live secret; during a rotation the new and the old ones
 * @param timestampS Unix seconds of this attempt
 */
export function signMessage(signers: readonly Signer[], id: string, timestampS: number, body: string | Buffer): SignedHeaders {
  const prefix = `${id}.${timestampS}.`
  return {
    'webhook-id': id,
    'webhook-timestamp': String(timestampS),
    'webhook-signature': signers.map((signer) => signer(prefix, body)).join(' '),
  }
}

const signers = new LRUCache<string, Signer>({ max: 50_000 })

/** The signer of a secret, prepared once and remembered. */
export function signerFor(secret: string): Signer {
  const known = signers.get(secret)
  if (known !== undefined) return known
  const signer = createSigner(secret)
  signers.set(secret, signer)
  return signer
}
