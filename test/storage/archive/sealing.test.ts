import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { SEAL_HEADER_BYTES, seal, unseal, unsealAll } from '../../../storage/archive/sealing.ts'
import { createCipher } from '../../../storage/cipher.ts'

const KEY = 'a key for tests, 32 characters or more'
const cipher = createCipher(KEY)
const NAME = 'data/message/2026-11-23/one.parquet.sealed'
const CHUNK = 65_536

for (const bytes of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 200_000]) {
  test(`${bytes} bytes come back, whole and in ranges`, () => {
    const plain = randomBytes(bytes)
    const { bytes: sealed } = seal(plain, NAME, cipher)
    assert.deepEqual(unsealAll(sealed, NAME, cipher), plain)
    const unsealing = unseal(sealed.subarray(0, SEAL_HEADER_BYTES), sealed.length, NAME, cipher)
    assert.equal(unsealing.plainBytes, bytes)
    for (const [start, end] of [
      [0, bytes],
      [bytes >> 1, bytes],
      [0, bytes >> 2],
      [Math.max(0, bytes - 8), bytes],
    ] as const) {
      const range = unsealing.sealedRange(start, end)
      assert.deepEqual(unsealing.open(sealed.subarray(range.start, range.end), start, end), plain.subarray(start, end))
    }
  })
}

test('nothing of the plain text is in the object, and equal texts are sealed differently', () => {
  const plain = Buffer.from('a payload that nobody may read '.repeat(10))
  const [one, other] = [seal(plain, NAME, cipher).bytes, seal(plain, NAME, cipher).bytes]
  assert.equal(one.includes('a payload'), false)
  assert.notDeepEqual(one.subarray(SEAL_HEADER_BYTES), other.subarray(SEAL_HEADER_BYTES))
})

test('what is altered, cut, exchanged or of another name does not decrypt', () => {
  const sealed = seal(randomBytes(3 * CHUNK), NAME, cipher).bytes
  const stored = CHUNK + 16
  const altered = (change: (copy: Buffer) => Buffer) => () => unsealAll(change(Buffer.from(sealed)), NAME, cipher)
  const corrupt = { code: 'object_corrupt' }
  assert.throws(
    altered((copy) => (copy.writeUInt8(copy[1000]! ^ 1, 1000), copy)),
    corrupt,
  )
  assert.throws(
    altered((copy) => (copy.writeUInt8(copy[20]! ^ 1, 20), copy)),
    corrupt,
  )
  assert.throws(
    altered((copy) => copy.subarray(0, SEAL_HEADER_BYTES + 2 * stored)),
    corrupt,
  )
  assert.throws(
    altered((copy) => copy.subarray(0, -1)),
    corrupt,
  )
  assert.throws(
    altered((copy) => {
      sealed.copy(copy, SEAL_HEADER_BYTES, SEAL_HEADER_BYTES + stored, SEAL_HEADER_BYTES + 2 * stored)
      return copy
    }),
    corrupt,
  )
  assert.throws(() => unsealAll(sealed, `${NAME}.other`, cipher), corrupt)
  assert.throws(() => unsealAll(Buffer.from('no object'), NAME, cipher), corrupt)
})

test('a key that was replaced still opens what it sealed, and one that is not known is named', () => {
  const { bytes: sealed, keyId } = seal(Buffer.from('x'), NAME, cipher)
  assert.equal(String(unsealAll(sealed, NAME, createCipher(`${KEY} renewed`, [KEY]))), 'x')
  const message = new RegExp(`the key ${keyId}, which is not known: name it in TIDINGS_ENCRYPTION_KEYS_PREVIOUS`)
  assert.throws(() => unsealAll(sealed, NAME, createCipher(`${KEY} renewed`)), { code: 'key_unknown', message })
})
