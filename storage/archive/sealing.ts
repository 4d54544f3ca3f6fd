/**
 * Objects at rest: AES-256-GCM in chunks, so that a range is decrypted without the rest. Layout: a header of 32 bytes (magic,
 * version, id of the key, bytes of a chunk, salt), then chunks, each with its tag behind it.
 *
 * The key of an object is derived from the encryption key and the object's salt; a chunk's nonce is its number and whether it
 * is the last, so chunks cannot be exchanged, repeated or cut off. Header and name of the object are authenticated with each.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { CipherError, KEY_ID_BYTES, type Cipher } from '../cipher.ts'
import { ArchiveError } from './object-store.ts'

const MAGIC = Buffer.from('TDAR')
const VERSION = 1
const SALT_BYTES = 16
const KEY_ID_AT = 8
const CHUNK_BYTES_AT = 12
const SALT_AT = 16
export const SEAL_HEADER_BYTES = SALT_AT + SALT_BYTES
const TAG_BYTES = 16
const NONCE_BYTES = 12
const CHUNK_BYTES = 65_536
const CHUNK_MAX_BYTES = 16_777_216
const PURPOSE = 'tidings archive object'

export interface Sealed {
  /** As it is stored. */
  readonly bytes: Buffer
  readonly keyId: string
}

/** @param name the object's key, without which it does not decrypt */
export function seal(plain: Uint8Array, name: string, cipher: Cipher): Sealed {
  const header = Buffer.alloc(SEAL_HEADER_BYTES)
  MAGIC.copy(header)
  header[MAGIC.length] = VERSION
  cipher.keyId.copy(header, KEY_ID_AT)
  header.writeUInt32BE(CHUNK_BYTES, CHUNK_BYTES_AT)
  randomBytes(SALT_BYTES).copy(header, SALT_AT)
  const key = cipher.derive(PURPOSE, header.subarray(SALT_AT), cipher.keyId)
  const chunks = chunksOf(plain.length, CHUNK_BYTES)
  const parts: Buffer[] = [header]
  for (let index = 0; index < chunks; index++) {
    const gcm = createCipheriv('aes-256-gcm', key, nonceOf(index, index === chunks - 1))
    gcm.setAAD(associated(header, name))
    parts.push(gcm.update(plain.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES)), gcm.final(), gcm.getAuthTag())
  }
  return { bytes: Buffer.concat(parts), keyId: cipher.keyId.toString('hex') }
}

/** Reads ranges of what was sealed. */
export interface Unsealing {
  /** Of the plain text. */
  readonly plainBytes: number
  /** Which bytes of the object hold this range of the plain text. */
  sealedRange(start: number, end: number): { readonly start: number; readonly end: number }
  /** @param sealed exactly the bytes of `sealedRange` @throws {ArchiveError} `object_corrupt` */
  open(sealed: Uint8Array, start: number, end: number): Buffer
}

/**
 * @param header the first `SEAL_HEADER_BYTES` of the object
 * @param sealedBytes of the whole object
 * @throws {ArchiveError} `object_corrupt`, `key_unknown`
 */
export function unseal(header: Buffer, sealedBytes: number, name: string, cipher: Cipher): Unsealing {
  if (header.length < SEAL_HEADER_BYTES || !header.subarray(0, MAGIC.length).equals(MAGIC) || header[MAGIC.length] !== VERSION) {
    throw new ArchiveError('object_corrupt', `${name} is no object of an archive`)
  }
  const chunkBytes = header.readUInt32BE(CHUNK_BYTES_AT)
  if (chunkBytes < 1 || chunkBytes > CHUNK_MAX_BYTES) throw new ArchiveError('object_corrupt', `${name} has a header that was altered`)
  const stored = chunkBytes + TAG_BYTES
  const chunks = Math.ceil((sealedBytes - SEAL_HEADER_BYTES) / stored)
  const plainBytes = sealedBytes - SEAL_HEADER_BYTES - chunks * TAG_BYTES
  const key = keyOf(header, name, cipher)
  const aad = associated(header, name)
  return {
    plainBytes,
    sealedRange: (start, end) => ({
      start: SEAL_HEADER_BYTES + Math.floor(start / chunkBytes) * stored,
      end: Math.min(sealedBytes, SEAL_HEADER_BYTES + Math.ceil(end / chunkBytes) * stored),
    }),
    open(sealed, start, end) {
      const first = Math.floor(start / chunkBytes)
      const parts: Buffer[] = []
      for (let at = 0; at < sealed.length; at += stored) {
        const index = first + at / stored
        const chunk = sealed.subarray(at, at + stored)
        const gcm = createDecipheriv('aes-256-gcm', key, nonceOf(index, index === chunks - 1))
        gcm.setAAD(aad)
        try {
          gcm.setAuthTag(chunk.subarray(-TAG_BYTES))
          parts.push(gcm.update(chunk.subarray(0, -TAG_BYTES)), gcm.final())
        } catch (cause) {
          throw new ArchiveError('object_corrupt', `${name} does not decrypt: it was altered, cut, or is another object's`, { cause })
        }
      }
      return Buffer.concat(parts).subarray(start - first * chunkBytes, end - first * chunkBytes)
    },
  }
}

/** The plain text of a whole object. @throws {ArchiveError} `object_corrupt`, `key_unknown` */
export function unsealAll(sealed: Buffer, name: string, cipher: Cipher): Buffer {
  const unsealing = unseal(sealed.subarray(0, SEAL_HEADER_BYTES), sealed.length, name, cipher)
  return unsealing.open(sealed.subarray(SEAL_HEADER_BYTES), 0, unsealing.plainBytes)
}

function keyOf(header: Buffer, name: string, cipher: Cipher): Buffer {
  try {
    return cipher.derive(PURPOSE, header.subarray(SALT_AT), header.subarray(KEY_ID_AT, KEY_ID_AT + KEY_ID_BYTES))
  } catch (cause) {
    if (!(cause instanceof CipherError)) throw cause
    const keyId = header.subarray(KEY_ID_AT, KEY_ID_AT + KEY_ID_BYTES).toString('hex')
    throw new ArchiveError(
      'key_unknown',
      `${name} was encrypted with the key ${keyId}, which is not known: name it in TIDINGS_ENCRYPTION_KEYS_PREVIOUS`,
      { cause },
    )
  }
}

const chunksOf = (plainBytes: number, chunkBytes: number) => Math.max(1, Math.ceil(plainBytes / chunkBytes))

const associated = (header: Buffer, name: string) => Buffer.concat([header, Buffer.from(name)])

function nonceOf(index: number, last: boolean): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES)
  nonce[0] = last ? 1 : 0
  nonce.writeUInt32BE(index, NONCE_BYTES - 4)
  return nonce
}
