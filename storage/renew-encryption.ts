import { KEY_ID_BYTES, type Cipher } from './cipher.ts'
import { createOwnConfiguration, type Configuration } from './configuration.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'

interface CipherColumn {
  readonly table: string
  readonly key: string
  readonly keyType: 'text' | 'bigint'
  readonly column: string
  /** Of the configuration, that is changed where it is written. */
  readonly configuration: boolean
}

/** Every column that holds what a `Cipher` made; a test compares the list with the schema. */
export const CIPHER_COLUMNS: readonly CipherColumn[] = [
  { table: 'endpoint', key: 'id', keyType: 'text', column: 'headers_cipher', configuration: true },
  { table: 'endpoint', key: 'id', keyType: 'text', column: 'mtls_cipher', configuration: true },
  { table: 'endpoint', key: 'id', keyType: 'text', column: 'oauth2_cipher', configuration: true },
  { table: 'endpoint_secret', key: 'id', keyType: 'bigint', column: 'secret_cipher', configuration: true },
  { table: 'idempotency_key', key: 'hash', keyType: 'text', column: 'body_cipher', configuration: false },
]

const BATCH = 200

type Transact = (work: (client: Queryable) => Promise<string[]>) => Promise<string[]>

/**
 * Encrypts with the current key what a previous one encrypted, in short transactions. Several processes may do it at once.
 * @param isStopped asked before each batch
 * @param configuration where configuration is written; this database's own where absent
 * @returns how many values were renewed
 * @throws {CipherError} where a value was encrypted with a key that is not known any more
 */
export async function renewEncryption(
  pool: Pool,
  cipher: Cipher,
  isStopped: () => boolean,
  configuration: Configuration = createOwnConfiguration(pool),
): Promise<number> {
  const inChange: Transact = async (work) => (await configuration.change(({ client }) => work(client))).result
  let renewed = 0
  for (const target of CIPHER_COLUMNS) {
    let after: string | null = null
    do {
      const keys: string[] = isStopped()
        ? []
        : await renewBatch(target.configuration ? inChange : (work) => inTransaction(pool, work), cipher, target, after)
      renewed += keys.length
      after = keys.at(-1) ?? null
    } while (after !== null)
  }
  return renewed
}

/** @returns the keys of the rows that were renewed, in order; rows that somebody else is changing wait for them */
async function renewBatch(transact: Transact, cipher: Cipher, target: CipherColumn, after: string | null): Promise<string[]> {
  const { table, key, keyType, column } = target
  return transact(async (client) => {
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
