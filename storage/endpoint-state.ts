import { insertAuditEntry } from './audit-log.ts'
import { notifyConfigChange } from './config-changes.ts'
import { tellOfEndpoint } from './operational-events.ts'
import { inTransaction, type Pool } from './pool.ts'

/** What the audit log calls the service itself. */
const TIDINGS = 'tidings'

/** Disables an endpoint that asked for it with 410; no effect where it is disabled already. */
export async function disableEndpoint(pool: Pool, endpointId: string, appId: string): Promise<void> {
  await inTransaction(pool, async (client) => {
    const { rows } = await client.query<{ uid: string | null; appUid: string | null; orgId: string }>(
      `UPDATE endpoint e SET disabled = true, disabled_at = now(), updated_at = now() FROM application a
       WHERE e.id = $1 AND NOT e.disabled AND a.id = e.app_id RETURNING e.uid, a.uid AS "appUid", a.org_id AS "orgId"`,
      [endpointId],
    )
    const [disabled] = rows
    if (disabled === undefined) return
    const { orgId, uid, appUid } = disabled
    const operation = 'endpoint.disabled'
    await notifyConfigChange(client, appId)
    await insertAuditEntry(client, { orgId, appId, actor: TIDINGS, tokenId: null, operation, objectId: endpointId, fields: ['disabled'] })
    const more = { trigger: 'automatic' }
    await tellOfEndpoint(client, {
      type: operation,
      orgId,
      application: { id: appId, uid: appUid },
      endpoint: { id: endpointId, uid },
      more,
    })
  })
}
