import { KEY_ID_BYTES, type Cipher } from './cipher.ts'
import { inTransaction, type Pool } from './pool.ts'

interface CipherColumn {
  readonly table: string
  readonly key: string
  readonly keyType: 'text' | 'bigint'
  readonly column: string
}

/** Every column that holds what a `Cipher` made; a test compares the list with the schema. */
export const CIPHER_COLUMNS: readonly CipherColumn[] = [
  { table: 'endpoint', key: 'id', keyType: 'text', column: 'headers_cipher' },
  { table: 'endpoint', key: 'id', keyType: 'text', column: 'mtls_cipher' },
  { table: 'endpoint', key: 'id', keyType: 'text', column: 'oauth2_cipher' },
  { table: 'endpoint_secret', key: 'id', keyType: 'bigint', column: 'secret_cipher' },
  { table: 'idempotency_key', key: 'hash', keyType: 'text', column: 'body_cipher' },
]

const BATCH = 200

/**
 * Encrypts with the current key what a previous one encrypted, in short transactions. Several processes may do it at once.
 * @param isStopped asked before each batch
 * @returns how many values were renewed
 * @throws {CipherError} where a value was encrypted with a key that is not known any more
 */
export async function renewEncryption(pool: Pool, cipher: Cipher, isStopped: () => boolean): Promise<number> {
  let renewed = 0
  for (const target of CIPHER_COLUMNS) {
    let after: string | null = null
    do {
      const keys: string[] = isStopped() ? [] : await renewBatch(pool, cipher, target, after)
      renewed += keys.length
      after = keys.at(-1) ?? null
    } while (after !== null)
  }
  return renewed
}

/** @returns the keys of the rows that were renewed, in order; rows that somebody else is changing wait for them */
async function renewBatch(pool: Pool, cipher: Cipher, target: CipherColumn, after: string | null): Promise<string[]> {
  const { table, key, keyType, column } = target
  return inTransaction(pool, async (client) => {
    const { rows } = await client.query<{ key: string; stored: Buffer }>(
      `SELECT ${key}::text AS key, ${column} AS stored FROM ${table}
       WHERE substring(${column} FROM 1 FOR ${KEY_ID_BYTES}) <> $1 AND ($2::${keyType} IS NULL OR ${key} > $2)
       ORDER BY ${table}.${key} LIMIT ${BATCH} FOR UPDATE`,
      [cipher.keyId, after],
    )
    await client.query(
      `UPDATE ${table} SET ${column} = renewed.value FROM unnest($1::${keyType}[], $2::bytea[]) AS renewed (key, value)
       WHERE ${table}.${key} = renewed.key`,
      [rows.map((row) => row.key), rows.map(({ stored }) => cipher.encrypt(cipher.decrypt(stored)))],
    )
    return rows.map((row) => row.key)
  })
}
