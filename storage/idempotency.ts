import { LIMITS } from '../domain/limits.ts'
import { messageColumns, type StoredMessage } from './history/messages.ts'
import type { Queryable } from './pool.ts'

/** What is known of a key that is not free. */
export type KnownKey = { readonly state: 'claimed' } | { readonly state: 'answered'; readonly status: number; readonly bodyCipher: Buffer }

interface KeyRow {
  status: number | null
  body_cipher: Buffer | null
}

/**
 * Takes a key for a request that is about to be served. A claim that has expired (its process died, or is too slow) is taken over.
 * @returns undefined where the key is the caller's now
 */
export async function claimKey(db: Queryable, hash: string, claim: string): Promise<KnownKey | undefined> {
  const claimed = await db.query({
    name: 'idempotency-claim',
    text: `INSERT INTO idempotency_key (hash, claim, expires_at) VALUES ($1, $2, now() + $3 * interval '1 ms')
      ON CONFLICT (hash) DO UPDATE SET claim = excluded.claim, message_id = NULL, status = NULL, body_cipher = NULL, expires_at = excluded.expires_at
      WHERE idempotency_key.expires_at <= now()`,
    values: [hash, claim, LIMITS.idempotencyWaitMs],
  })
  if (claimed.rowCount === 1) return undefined
  const { rows } = await db.query<KeyRow>({
    name: 'idempotency-read',
    text: 'SELECT status, body_cipher FROM idempotency_key WHERE hash = $1 AND expires_at > now()',
    values: [hash],
  })
  const row = rows[0]
  // Given back or expired in between: the next claim gets it.
  if (row === undefined || row.status === null || row.body_cipher === null) return { state: 'claimed' }
  return { state: 'answered', status: row.status, bodyCipher: row.body_cipher }
}

/** Keeps the answer of the request that has the claim; another request that took the key over is left alone. */
export async function answerKey(db: Queryable, hash: string, claim: string, status: number, bodyCipher: Buffer): Promise<void> {
  await db.query({
    name: 'idempotency-answer',
    text: `UPDATE idempotency_key SET status = $3, body_cipher = $4, expires_at = now() + $5 * interval '1 ms' WHERE hash = $1 AND claim = $2`,
    values: [hash, claim, status, bodyCipher, LIMITS.idempotencyKeptMs],
  })
}

/** Gives a key back whose request failed: the next one with it is served. */
export async function releaseKey(db: Queryable, hash: string, claim: string): Promise<void> {
  await db.query({
    name: 'idempotency-release',
    text: 'DELETE FROM idempotency_key WHERE hash = $1 AND claim = $2 AND status IS NULL',
    values: [hash, claim],
  })
}

/** @returns the message that was published with this key, undefined where there is none */
export async function findPublished(db: Queryable, hash: string): Promise<StoredMessage | undefined> {
  const { rows } = await db.query<StoredMessage>({
    name: 'idempotency-published',
    text: `SELECT ${messageColumns(true)} FROM idempotency_key k JOIN message m ON m.id = k.message_id WHERE k.hash = $1 AND k.expires_at > now()`,
    values: [hash],
  })
  return rows[0]
}

/** Gives back the keys of messages that were not stored after all (their event ids are taken). */
export async function releasePublished(db: Queryable, keys: readonly { hash: string; messageId: string }[]): Promise<void> {
  await db.query({
    name: 'idempotency-unpublish',
    text: `DELETE FROM idempotency_key k USING unnest($1::text[], $2::text[]) AS t (hash, message_id)
      WHERE k.hash = t.hash AND k.message_id = t.message_id`,
    values: [keys.map((key) => key.hash), keys.map((key) => key.messageId)],
  })
}

/** Removes some keys that nothing remembers any more. @returns whether there are more */
export async function purgeKeys(db: Queryable): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'idempotency-purge',
    text: `DELETE FROM idempotency_key WHERE hash IN
      (SELECT hash FROM idempotency_key WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)`,
    values: [LIMITS.idempotencyPurgeBatch],
  })
  return rowCount === LIMITS.idempotencyPurgeBatch
}
