import { LIMITS } from '../domain/limits.ts'
import { messageColumns, type StoredMessage } from './history/messages.ts'
import type { Queryable } from './pool.ts'

// A key is in the table of the day (UTC) on which it was taken, and is kept for half a day: it is looked for in two tables.
const TODAY = `(key_time() AT TIME ZONE 'UTC')::date`
const OF_TWO_DAYS = `k.day BETWEEN ${TODAY} - 1 AND ${TODAY}`

// Two that take a key at the same time wait for each other at the unique index of a table, and nothing else tells them of each
// other. So they need a table that both write to, though it is another day for one of them: in the first hour of a day yesterday's
// is written too. What began before midnight and writes to yesterday's alone has ended by then, and its rows can be read.
const DAY_BEGINS = `(key_time() AT TIME ZONE 'UTC')::time < '01:00'`

/**
 * Text of `taken`, which takes those keys that are free, in the order of days and hashes: nobody who takes several waits in a ring.
 * @param asked a relation of keys, each once: `hash`, and the `message_id` or the `claim` that takes it
 * @param keptMs until they expire, in milliseconds
 */
export function takeKeys(asked: string, keptMs: number): string {
  const insert = (day: string) => `INSERT INTO idempotency_key AS k (day, hash, message_id, claim, expires_at)
  SELECT ${day}, hash, message_id, claim, key_time() + ${keptMs} * interval '1 ms' FROM ${asked} a`
  const takeOver = `ORDER BY hash COLLATE "C" ON CONFLICT (hash, day) DO UPDATE
  SET message_id = excluded.message_id, claim = excluded.claim, status = NULL, body_cipher = NULL, expires_at = excluded.expires_at
  WHERE k.expires_at <= key_time()`
  return `taken_early AS (
  ${insert(`${TODAY} - 1`)} WHERE ${DAY_BEGINS} ${takeOver} RETURNING hash
), taken AS (
  ${insert(TODAY)} WHERE CASE WHEN ${DAY_BEGINS} THEN hash IN (SELECT hash FROM taken_early)
    ELSE NOT EXISTS (SELECT FROM idempotency_key y WHERE y.hash = a.hash AND y.day = ${TODAY} - 1 AND y.expires_at > key_time()) END
  ${takeOver} RETURNING message_id
)`
}

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
    text: `WITH asked AS (SELECT $1::text AS hash, NULL::text AS message_id, $2::uuid AS claim), ${takeKeys('asked', LIMITS.idempotencyWaitMs)}
      SELECT FROM taken`,
    values: [hash, claim],
  })
  if (claimed.rowCount === 1) return undefined
  const { rows } = await db.query<KeyRow>({
    name: 'idempotency-read',
    text: `SELECT status, body_cipher FROM idempotency_key k WHERE hash = $1 AND ${OF_TWO_DAYS} AND expires_at > key_time() ORDER BY day DESC LIMIT 1`,
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
    text: `UPDATE idempotency_key k SET status = $3, body_cipher = $4, expires_at = key_time() + $5 * interval '1 ms'
      WHERE hash = $1 AND claim = $2 AND ${OF_TWO_DAYS}`,
    values: [hash, claim, status, bodyCipher, LIMITS.idempotencyKeptMs],
  })
}

/** Gives a key back whose request failed: the next one with it is served. */
export async function releaseKey(db: Queryable, hash: string, claim: string): Promise<void> {
  await db.query({
    name: 'idempotency-release',
    text: `DELETE FROM idempotency_key k WHERE hash = $1 AND claim = $2 AND status IS NULL AND ${OF_TWO_DAYS}`,
    values: [hash, claim],
  })
}

/** @returns the message that was published with this key, undefined where there is none */
export async function findPublished(db: Queryable, hash: string): Promise<StoredMessage | undefined> {
  const { rows } = await db.query<StoredMessage>({
    name: 'idempotency-published',
    text: `SELECT ${messageColumns(true)} FROM idempotency_key k JOIN message m ON m.id = k.message_id
      WHERE k.hash = $1 AND ${OF_TWO_DAYS} AND k.expires_at > key_time() ORDER BY k.day DESC LIMIT 1`,
    values: [hash],
  })
  return rows[0]
}

/** Gives back the keys of messages that were not stored after all (their event ids are taken). */
export async function releasePublished(db: Queryable, keys: readonly { hash: string; messageId: string }[]): Promise<void> {
  await db.query({
    name: 'idempotency-unpublish',
    text: `WITH given_back AS MATERIALIZED (
      SELECT k.hash, k.day FROM idempotency_key k JOIN unnest($1::text[], $2::text[]) AS t (hash, message_id) USING (hash, message_id)
      WHERE ${OF_TWO_DAYS} ORDER BY k.day, k.hash FOR UPDATE OF k)
      DELETE FROM idempotency_key k USING given_back g WHERE k.hash = g.hash AND k.day = g.day AND ${OF_TWO_DAYS}`,
    values: [keys.map((key) => key.hash), keys.map((key) => key.messageId)],
  })
}
