import type { ConfigChange } from './configuration.ts'
import type { Pool, Queryable } from './pool.ts'

/** What the audit log calls the service itself. */
const TIDINGS = 'tidings'

/** An endpoint that asked to be disabled with 410, or has failed for long. */
export interface Disabling {
  readonly endpointId: string
  readonly appId: string
  readonly failingSinceMs?: number | undefined
}

interface Owner {
  readonly orgId: string
  readonly uid: string | null
  readonly endpointUid: string | null
  readonly deleted: boolean
}

/**
 * Disables an endpoint, in a change of configuration; no effect where it is disabled already.
 * @param wantedAt an owner who has enabled it since then is obeyed
 */
export async function disableIn(change: ConfigChange, disabling: Disabling, wantedAt?: Date): Promise<void> {
  const { client } = change
  const { endpointId, appId, failingSinceMs } = disabling
  const { rowCount } = await client.query(
    `UPDATE endpoint SET disabled = true, disabled_at = now(), updated_at = now()
     WHERE id = $1 AND NOT disabled AND ($2::timestamptz IS NULL OR disabled_at IS NULL OR disabled_at <= $2)`,
    [endpointId, wantedAt ?? null],
  )
  if (rowCount === 0) return
  const { rows } = await client.query<Owner>(
    `SELECT a.org_id AS "orgId", a.uid, e.uid AS "endpointUid", e.deleted_at IS NOT NULL AS deleted
     FROM endpoint e JOIN application a ON a.id = $2 WHERE e.id = $1`,
    [endpointId, appId],
  )
  const { orgId, uid, endpointUid, deleted } = rows[0]!
  const operation = 'endpoint.disabled'
  await change.changed(appId)
  await change.audit({ orgId, appId, actor: TIDINGS, tokenId: null, operation, objectId: endpointId, fields: ['disabled'] })
  await change.effect({ kind: 'endpoint-disabled', endpointId })
  if (deleted) return
  const failSince = failingSinceMs === undefined ? {} : { failSince: new Date(failingSinceMs).toISOString() }
  const owned = { orgId, application: { id: appId, uid }, endpoint: { id: endpointId, uid: endpointUid } }
  await change.effect({ kind: 'told', event: { type: operation, ...owned, more: { trigger: 'automatic', ...failSince } } })
}

/** Remembers in this region that an endpoint is to be disabled: deliveries do not wait until that is written elsewhere. */
export async function wantDisabled(db: Queryable, { endpointId, appId, failingSinceMs }: Disabling): Promise<void> {
  await db.query('INSERT INTO endpoint_disabling (endpoint_id, app_id, failing_since_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING', [
    endpointId,
    appId,
    failingSinceMs ?? null,
  ])
}

const WANTED_PER_TURN = 20

/** Writes what was remembered, the oldest first. Several processes may: it is done once. @throws what `write` throws */
export async function writeWanted(pool: Pool, write: (disabling: Disabling, wantedAt: Date) => Promise<void>): Promise<void> {
  const { rows } = await pool.query<{ endpoint_id: string; app_id: string; failing_since_ms: number | null; wanted_at: Date }>({
    name: 'disabling-wanted',
    text: 'SELECT * FROM endpoint_disabling ORDER BY wanted_at LIMIT $1',
    values: [WANTED_PER_TURN],
  })
  for (const row of rows) {
    await write({ endpointId: row.endpoint_id, appId: row.app_id, failingSinceMs: row.failing_since_ms ?? undefined }, row.wanted_at)
    await pool.query('DELETE FROM endpoint_disabling WHERE endpoint_id = $1 AND wanted_at = $2', [row.endpoint_id, row.wanted_at])
  }
}
