import type { Queryable } from './pool.ts'

/** @returns the encrypted current secret of an endpoint */
export async function readCurrentSecret(db: Queryable, endpointId: string): Promise<Buffer | undefined> {
  const { rows } = await db.query<{ cipher: Buffer }>(
    'SELECT secret_cipher AS cipher FROM endpoint_secret WHERE endpoint_id = $1 AND expires_at IS NULL',
    [endpointId],
  )
  return rows[0]?.cipher
}

export async function insertSecret(db: Queryable, endpointId: string, cipher: Buffer): Promise<void> {
  await db.query('INSERT INTO endpoint_secret (endpoint_id, secret_cipher) VALUES ($1, $2)', [endpointId, cipher])
}

/** @returns how many old secrets of this endpoint still sign */
export async function countLiveOldSecrets(db: Queryable, endpointId: string): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    'SELECT count(*) AS count FROM endpoint_secret WHERE endpoint_id = $1 AND expires_at > now()',
    [endpointId],
  )
  return rows[0]!.count
}

/** Makes `cipher` the current secret; the one before signs `graceS` seconds longer. Expired ones are removed. Run it in a transaction. */
export async function rotateSecret(db: Queryable, endpointId: string, cipher: Buffer, graceS: number): Promise<void> {
  await db.query('DELETE FROM endpoint_secret WHERE endpoint_id = $1 AND expires_at <= now()', [endpointId])
  await db.query(
    'UPDATE endpoint_secret SET expires_at = now() + make_interval(secs => $2) WHERE endpoint_id = $1 AND expires_at IS NULL',
    [endpointId, graceS],
  )
  await insertSecret(db, endpointId, cipher)
}
