import { LIMITS } from '../domain/limits.ts'

const DAY_MS = 86_400_000
/** What is kept for nearly as long as its message stays with it. */
const SHORT_BELOW_MS = (LIMITS.payloadRetentionMaxDays - 1) * DAY_MS

/** Whether a payload is to be gone before its message: it has a table of its own then, by the day of its end. */
export function isShort(message: { readonly createdAtMs: number; readonly expiresAtMs: number }): boolean {
  return message.expiresAtMs - message.createdAtMs < SHORT_BELOW_MS
}

/** The same of rows with `created_ms` and `expires_ms`. */
export const IS_SHORT = `expires_ms - created_ms < ${SHORT_BELOW_MS}`

/** The part of a statement that stores short payloads. @param from rows with id, created_ms, expires_ms and payload */
export function shortPayloads(from: string): string {
  return `payloads AS (
  INSERT INTO message_payload (message_id, expires_at, payload)
  SELECT id, to_timestamp(expires_ms / 1000), payload FROM ${from} WHERE ${IS_SHORT}
  ON CONFLICT DO NOTHING
),`
}
