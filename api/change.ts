import type { PoolClient } from 'pg'
import { notifyConfigChange } from '../storage/config-changes.ts'
import { inTransaction } from '../storage/pool.ts'
import type { ApiDependencies } from './dependencies.ts'

/**
 * Runs a change of configuration in one transaction. `touched(appId)` names the application that it changes: every process
 * hears of it when the transaction commits, and this one has forgotten the old state before the caller is answered.
 */
export async function changeConfiguration<T>(
  deps: Pick<ApiDependencies, 'pool' | 'configCache'>,
  work: (client: PoolClient, touched: (appId: string) => Promise<void>) => Promise<T>,
): Promise<T> {
  const changed = new Set<string>()
  const result = await inTransaction(deps.pool, (client) =>
    work(client, async (appId) => {
      changed.add(appId)
      await notifyConfigChange(client, appId)
    }),
  )
  for (const appId of changed) deps.configCache.forget(appId)
  return result
}
