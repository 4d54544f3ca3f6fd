import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'

/** Bytes of a key's id, at the front of everything that it encrypted. */
export const KEY_ID_BYTES = 4
const IV_BYTES = 12
const TAG_BYTES = 16

/** What was stored was encrypted with another key, or altered. */
export class CipherError extends Error {
  readonly code = 'cipher_mismatch'
  override readonly name = 'CipherError'
}

/** Encrypts secrets and headers at rest: AES-256-GCM, the key's id in front so that a key can be rotated. */
export interface Cipher {
  /** Of the key that encrypts. */
  readonly keyId: Buffer
  encrypt(plain: string): Buffer
  /** @throws {CipherError} */
  decrypt(stored: Buffer): string
  /**
   * A key of 32 bytes for one thing alone, which does not lead back to the key that it is derived from (HKDF-SHA256).
   * @param salt of the thing
   * @param keyId of the key that it is derived from
   * @throws {CipherError} where there is no such key
   */
  derive(purpose: string, salt: Buffer, keyId: Buffer): Buffer
}

interface Key {
  readonly id: Buffer
  readonly bytes: Buffer
}

/**
 * @param keyText at least 32 characters; the AES key is derived from it by HKDF-SHA256
 * @param previous keys whose ciphertexts are still read
 */
export function createCipher(keyText: string, previous: readonly string[] = []): Cipher {
  const current = deriveKey(keyText)
  const keys = [current, ...previous.map(deriveKey)]
  const keyOf = (keyId: Buffer) => {
    const key = keys.find(({ id }) => keyId.equals(id))
    if (key !== undefined) return key
    throw new CipherError(
      'a stored secret was encrypted with another key: set TIDINGS_ENCRYPTION_KEY or TIDINGS_ENCRYPTION_KEYS_PREVIOUS to the one used before',
    )
  }
  return {
    keyId: current.id,
    encrypt(plain) {
      const iv = randomBytes(IV_BYTES)
      const cipher = createCipheriv('aes-256-gcm', current.bytes, iv)
      const body = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()])
      return Buffer.concat([current.id, iv, cipher.getAuthTag(), body])
    },
    decrypt(stored) {
      const key = keyOf(stored.subarray(0, KEY_ID_BYTES))
      const ivEnd = KEY_ID_BYTES + IV_BYTES
      if (stored.length < ivEnd + TAG_BYTES) throw new CipherError('a stored secret does not decrypt: it was cut')
      const decipher = createDecipheriv('aes-256-gcm', key.bytes, stored.subarray(KEY_ID_BYTES, ivEnd))
      decipher.setAuthTag(stored.subarray(ivEnd, ivEnd + TAG_BYTES))
      try {
        return Buffer.concat([decipher.update(stored.subarray(ivEnd + TAG_BYTES)), decipher.final()]).toString('utf8')
      } catch (cause) {
        throw new CipherError('a stored secret does not decrypt: it was altered', { cause })
      }
    },
    derive: (purpose, salt, keyId) => Buffer.from(hkdfSync('sha256', keyOf(keyId).bytes, salt, purpose, 32)),
  }
}

function deriveKey(text: string): Key {
  const derived = Buffer.from(hkdfSync('sha256', text, '', 'tidings at rest', 32 + KEY_ID_BYTES))
  return { bytes: derived.subarray(0, 32), id: derived.subarray(32) }
}
