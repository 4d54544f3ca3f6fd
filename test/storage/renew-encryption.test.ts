import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import { CipherError, createCipher } from '../../storage/cipher.ts'
import { CIPHER_COLUMNS, renewEncryption } from '../../storage/renew-encryption.ts'
import { createStorage, type Storage } from './rows.ts'

const OLD = 'the key before, of 32 characters at least'
const NEW = 'the key from now on, of 32 characters at least'
const never = () => false

let storage: Storage
before(async () => {
  storage = await createStorage()
})
after(() => storage.drop())
beforeEach(() => storage.pool.query('TRUNCATE endpoint, endpoint_secret, idempotency_key'))

async function addEndpoints(count: number, key: string): Promise<void> {
  const cipher = createCipher(key)
  for (let i = 0; i < count; i++) {
    const id = newId('ep')
    const headers = i % 2 === 0 ? null : cipher.encrypt(`headers ${i}`)
    await storage.pool.query('INSERT INTO endpoint (id, app_id, url, headers_cipher) VALUES ($1, $1, $1, $2)', [id, headers])
    await storage.pool.query('INSERT INTO endpoint_secret (endpoint_id, secret_cipher) VALUES ($1, $2)', [
      id,
      cipher.encrypt(`secret ${i}`),
    ])
  }
}

async function plainTexts(key: string): Promise<readonly string[]> {
  const { rows } = await storage.pool.query<{ value: Buffer }>(
    'SELECT secret_cipher AS value FROM endpoint_secret UNION ALL SELECT headers_cipher FROM endpoint WHERE headers_cipher IS NOT NULL',
  )
  return rows.map(({ value }) => createCipher(key).decrypt(value)).sort()
}

test('what a previous key encrypted is encrypted with the current one, by several processes at once', async () => {
  await addEndpoints(250, OLD)
  await addEndpoints(3, NEW)
  const cipher = createCipher(NEW, [OLD])
  const counts = await Promise.all([1, 2, 3].map(() => renewEncryption(storage.pool, cipher, never)))
  const texts = await plainTexts(NEW)
  assert.equal(texts.length, 250 + 125 + 3 + 1)
  assert.ok(texts.includes('secret 249') && texts.includes('headers 249'))
  assert.ok(counts.reduce((sum, count) => sum + count) >= 375)
  assert.equal(await renewEncryption(storage.pool, cipher, never), 0)
})

test('a value of a key that nobody knows any more stops it, and is left', async () => {
  await addEndpoints(2, OLD)
  await assert.rejects(renewEncryption(storage.pool, createCipher(NEW), never), CipherError)
  assert.equal((await plainTexts(OLD)).length, 3)
})

test('an answer of each of two days is renewed for itself, whatever is cut between them', async () => {
  const old = createCipher(OLD)
  for (let i = 0; i < 250; i++) {
    for (const day of ['2026-01-01', '2026-01-02']) {
      await storage.pool.query('INSERT INTO idempotency_key (hash, day, status, body_cipher, expires_at) VALUES ($1, $2, 200, $3, now())', [
        `key ${i}`,
        day,
        old.encrypt(`${day} ${i}`),
      ])
    }
  }
  const cipher = createCipher(NEW, [OLD])
  assert.equal(await renewEncryption(storage.pool, cipher, never), 500)
  const { rows } = await storage.pool.query<{ hash: string; day: string; value: Buffer }>(
    'SELECT hash, day::text AS day, body_cipher AS value FROM idempotency_key',
  )
  for (const { hash, day, value } of rows) assert.equal(createCipher(NEW).decrypt(value), `${day} ${hash.slice(4)}`)
})

test('it ends when it is stopped', async () => {
  await addEndpoints(2, OLD)
  assert.equal(await renewEncryption(storage.pool, createCipher(NEW, [OLD]), () => true), 0)
})

test('every encrypted column of the schema is renewed', async () => {
  const { rows } = await storage.pool.query<{ name: string }>(
    `SELECT table_name || '.' || column_name AS name FROM information_schema.columns
     WHERE table_schema = 'public' AND column_name LIKE '%cipher%'
       AND NOT (SELECT relispartition FROM pg_class WHERE oid = table_name::regclass) ORDER BY 1`,
  )
  assert.deepEqual(
    rows.map(({ name }) => name),
    CIPHER_COLUMNS.map(({ table, column }) => `${table}.${column}`).sort(),
  )
})
