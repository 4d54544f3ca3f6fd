import { notifyConfigChange } from './config-changes.ts'
import { inTransaction, type Pool } from './pool.ts'

/** Disables an endpoint that asked for it with 410; no effect where it is disabled already. */
export async function disableEndpoint(pool: Pool, endpointId: string, appId: string): Promise<void> {
  await inTransaction(pool, async (client) => {
    const { rowCount } = await client.query(
      'UPDATE endpoint SET disabled = true, disabled_at = now(), updated_at = now() WHERE id = $1 AND NOT disabled',
      [endpointId],
    )
    if (rowCount === 1) await notifyConfigChange(client, appId)
  })
}
