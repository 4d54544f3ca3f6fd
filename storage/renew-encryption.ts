import { KEY_ID_BYTES, type Cipher } from './cipher.ts'
import { createOwnConfiguration, type Configuration } from './configuration.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'

interface CipherColumn {
  readonly table: string
  readonly key: string
  readonly keyType: 'text' | 'bigint'
  readonly column: string
  /** Of configuration, that is changed where it is written: whether a row is of an application of the zone `$3`. Else undefined. */
  readonly isResident: string | undefined
}

const ENDPOINT_RESIDES = 'EXISTS (SELECT FROM application a WHERE a.id = endpoint.app_id AND a.residency = $3)'
const SECRET_RESIDES = `EXISTS (
  SELECT FROM endpoint e JOIN application a ON a.id = e.app_id WHERE e.id = endpoint_secret.endpoint_id AND a.residency = $3)`

/** Every column that holds what a `Cipher` made; a test compares the list with the schema. */
export const CIPHER_COLUMNS: readonly CipherColumn[] = [
  { table: 'endpoint', key: 'id', keyType: 'text', column: 'headers_cipher', isResident: ENDPOINT_RESIDES },
  { table: 'endpoint', key: 'id', keyType: 'text', column: 'mtls_cipher', isResident: ENDPOINT_RESIDES },
  { table: 'endpoint', key: 'id', keyType: 'text', column: 'oauth2_cipher', isResident: ENDPOINT_RESIDES },
  { table: 'endpoint_secret', key: 'id', keyType: 'bigint', column: 'secret_cipher', isResident: SECRET_RESIDES },
  { table: 'idempotency_key', key: 'hash', keyType: 'text', column: 'body_cipher', isResident: undefined },
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
  let renewed = 0
  const renew = async (target: CipherColumn, transact: Transact, zone: string | null) => {
    for (let after: string | null = null; !isStopped();) {
      const keys = await renewBatch(transact, cipher, target, { after, zone })
      renewed += keys.length
      after = keys.at(-1) ?? null
      if (after === null) break
    }
  }
  const [settings, data] = [CIPHER_COLUMNS.filter(isConfiguration), CIPHER_COLUMNS.filter((target) => !isConfiguration(target))]
  for (const target of data) await renew(target, (work) => inTransaction(pool, work), null)
  for (const { place, zone } of configuration.places) {
    for (const target of settings) await renew(target, async (work) => (await place.change(({ client }) => work(client))).result, zone)
  }
  return renewed
}

const isConfiguration = ({ isResident }: CipherColumn) => isResident !== undefined

interface Batch {
  /** The key that it begins after; null: at the beginning. */
  readonly after: string | null
  /** Only what is of its applications; null: all. */
  readonly zone: string | null
}

/** @returns the keys of the rows that were renewed, in order, of each key all; rows that somebody else is changing wait for them */
async function renewBatch(transact: Transact, cipher: Cipher, target: CipherColumn, { after, zone }: Batch): Promise<string[]> {
  const { table, key, keyType, column, isResident } = target
  return transact(async (client) => {
    const { rows } = await client.query<{ key: string; stored: Buffer }>(
      `SELECT ${key}::text AS key, ${column} AS stored FROM ${table}
       WHERE substring(${column} FROM 1 FOR ${KEY_ID_BYTES}) <> $1 AND ($2::${keyType} IS NULL OR ${key} > $2)
         AND ($3::text IS NULL OR ${isResident ?? 'false'})
       ORDER BY ${table}.${key} FETCH FIRST ${BATCH} ROWS WITH TIES FOR UPDATE`,
      [cipher.keyId, after, zone],
    )
    await client.query(
      // An idempotency key may be in the tables of two days, with another answer in each.
      `UPDATE ${table} SET ${column} = renewed.value FROM unnest($1::${keyType}[], $2::bytea[], $3::bytea[]) AS renewed (key, stored, value)
       WHERE ${table}.${key} = renewed.key AND ${table}.${column} = renewed.stored`,
      [rows.map((row) => row.key), rows.map(({ stored }) => stored), rows.map(({ stored }) => cipher.encrypt(cipher.decrypt(stored)))],
    )
    return rows.map((row) => row.key)
  })
}
