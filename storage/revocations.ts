import type { Pool, Queryable } from './pool.ts'

/** Channel on which every process hears that tokens were revoked; without a payload. */
export const TOKENS_CHANNEL = 'tidings_tokens'

/** What is known of a token by its claims. */
export interface IssuedToken {
  readonly orgId: string
  /** Null for an organisation's token. */
  readonly appId: string | null
  /** `jti`; null for a token that cannot be named. */
  readonly tokenId: string | null
  readonly issuedAtMs: number
}

/**
 * Revoked tokens. What was found out about one holds while `changes` stays the same: callers remember both, so that a
 * remembered token costs no query and a revocation is heard by every process at once.
 */
export interface Revocations {
  readonly changes: number
  /** Something was revoked, or may have been: the connection that listens was lost. */
  changed(): void
  /** When the token is refused, in Unix milliseconds; Infinity for one that was not revoked. */
  endOf(token: IssuedToken): Promise<number>
}

export function createRevocations(pool: Pool): Revocations {
  let changes = 0
  return {
    get changes() {
      return changes
    },
    changed: () => void changes++,
    endOf: (token) => endOf(pool, token),
  }
}

async function endOf(pool: Pool, token: IssuedToken): Promise<number> {
  if (token.appId === null && token.tokenId === null) return Infinity
  const { rows } = await pool.query<{ end: Date | null }>({
    name: 'token-end',
    text: `SELECT least(
        (SELECT effective_at FROM token_expired WHERE org_id = $1 AND token_id = $2),
        (SELECT min(effective_at) FROM application_tokens_expired WHERE org_id = $1 AND app_id = $3 AND issued_until >= $4)
      ) AS end`,
    values: [token.orgId, token.tokenId, token.appId, new Date(token.issuedAtMs)],
  })
  return rows[0]?.end?.getTime() ?? Infinity
}

/** Refuses one token from `effectiveAtMs` on, earlier where that was asked for before. Other processes hear of it on commit. */
export async function expireToken(db: Queryable, orgId: string, tokenId: string, effectiveAtMs: number): Promise<void> {
  await db.query(
    `WITH stored AS (
       INSERT INTO token_expired (org_id, token_id, effective_at) VALUES ($1, $2, $3)
       ON CONFLICT (org_id, token_id) DO UPDATE SET effective_at = least(token_expired.effective_at, excluded.effective_at)
     ) SELECT pg_notify($4, '')`,
    [orgId, tokenId, new Date(effectiveAtMs), TOKENS_CHANNEL],
  )
}

/**
 * Refuses every token of the application that was issued up to now, from `effectiveAtMs` on. Call it in a transaction. Earlier
 * rows that the new one makes needless go: of one application there are never more than those still in wait.
 */
export async function expireApplication(db: Queryable, orgId: string, appId: string, effectiveAtMs: number): Promise<void> {
  const now = new Date()
  const effectiveAt = new Date(effectiveAtMs)
  await db.query(
    `DELETE FROM application_tokens_expired
     WHERE org_id = $1 AND app_id = $2 AND issued_until <= $3 AND (effective_at >= $4 OR $4 <= $3)`,
    [orgId, appId, now, effectiveAt],
  )
  await db.query(
    'INSERT INTO application_tokens_expired (org_id, app_id, issued_until, effective_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING',
    [orgId, appId, now, effectiveAt],
  )
  await db.query("SELECT pg_notify($1, '')", [TOKENS_CHANNEL])
}
