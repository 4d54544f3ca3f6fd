import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { CipherError, createCipher } from '../../storage/cipher.ts'

const KEY = 'a key for tests, 32 characters or more'
const cipher = createCipher(KEY)

test('what was encrypted is read back, by every process that has the key', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (plain) => {
      assert.equal(cipher.decrypt(createCipher(KEY).encrypt(plain)), plain)
    }),
  )
})

test('the same secret is never stored as the same bytes, and does not show in them', () => {
  const plain = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  const stored = Array.from({ length: 100 }, () => cipher.encrypt(plain))
  assert.equal(new Set(stored.map((bytes) => bytes.toString('hex'))).size, 100)
  for (const bytes of stored) assert.ok(!bytes.includes(plain.slice(0, 8)))
})

test('another key is told from an alteration, and neither is read', () => {
  assert.throws(() => createCipher(`${KEY}!`).decrypt(cipher.encrypt('secret')), /another key: set TIDINGS_ENCRYPTION_KEY/)
})

test('a change of any bit, or a cut, is refused', () => {
  const stored = cipher.encrypt('whsec_secret')
  fc.assert(
    fc.property(fc.integer({ min: 0, max: stored.length * 8 - 1 }), (bit) => {
      const altered = Buffer.from(stored)
      altered[bit >> 3]! ^= 1 << (bit & 7)
      assert.throws(() => cipher.decrypt(altered), CipherError)
    }),
  )
  for (let length = 0; length < stored.length; length++)
    assert.throws(() => cipher.decrypt(stored.subarray(0, length)), CipherError, `${length}`)
})

test('what a previous key encrypted is read beside the current one, and new values carry the current key', () => {
  const rotated = createCipher(`${KEY} renewed`, ['a key in between, of 32 characters', KEY])
  assert.equal(rotated.decrypt(cipher.encrypt('old')), 'old')
  assert.equal(rotated.decrypt(rotated.encrypt('new')), 'new')
  assert.deepEqual(rotated.encrypt('new').subarray(0, 4), rotated.keyId)
  assert.throws(() => cipher.decrypt(rotated.encrypt('new')), CipherError)
})
