import type { PoolClient } from 'pg'
import { MANAGEMENT_ORGANISATION, OPERATIONAL_EVENT_TYPES } from '../domain/operational.ts'
import { insertAuditEntry } from '../storage/audit-log.ts'
import { notifyConfigChange, notifyOperationalChange } from '../storage/config-changes.ts'
import { tellOfEndpoint } from '../storage/operational-events.ts'
import { inTransaction } from '../storage/pool.ts'
import type { Caller } from './auth.ts'
import type { ApiDependencies } from './dependencies.ts'

interface Named {
  readonly id: string
  readonly uid: string | null
}

/** One change of the configuration, as the audit log and the operational webhooks tell it. */
export interface Change {
  /** The object's kind and what became of it: `endpoint.updated`. Operational event types are told as such. */
  readonly operation: `${'application' | 'endpoint' | 'event-type' | 'token'}.${string}`
  /** The application that was changed, itself or one of its endpoints. */
  readonly application?: Named
  readonly endpoint?: Named
  /** Where it is neither of these: the object's id or name. */
  readonly objectId?: string
  /** Names of the fields that changed. */
  readonly fields?: readonly string[]
}

/** Tells of a change that the transaction makes. */
export type Changed = (change: Change) => Promise<void>

export interface ChangeContext {
  readonly deps: Pick<ApiDependencies, 'pool' | 'configCache'>
  readonly caller: Caller
}

/**
 * Runs a change of configuration in one transaction. `changed(…)` tells what it changes: every process hears of it when the
 * transaction commits, with it the audit log and operational endpoints, and this process has forgotten the old state
 * before the caller is answered.
 */
export async function changeConfiguration<T>(
  { deps, caller }: ChangeContext,
  work: (client: PoolClient, changed: Changed) => Promise<T>,
): Promise<T> {
  const applications = new Set<string>()
  const result = await inTransaction(deps.pool, (client) =>
    work(client, async (change) => {
      if (change.application !== undefined) {
        applications.add(change.application.id)
        await notifyConfigChange(client, change.application.id)
      }
      await audit(client, caller, change)
      await tell(client, caller, change)
    }),
  )
  for (const appId of applications) deps.configCache.forget(appId)
  return result
}

async function audit(client: PoolClient, caller: Caller, change: Change): Promise<void> {
  const { application, endpoint, operation } = change
  // Operational endpoints are the organisation's own, though they are kept in the management organisation.
  const orgId = caller.orgId === MANAGEMENT_ORGANISATION ? (application?.uid ?? caller.orgId) : caller.orgId
  const objectId = change.objectId ?? endpoint?.id ?? application?.id ?? ''
  const by = { actor: caller.subject, tokenId: caller.tokenId }
  await insertAuditEntry(client, { orgId, appId: application?.id ?? null, ...by, operation, objectId, fields: change.fields ?? [] })
}

async function tell(client: PoolClient, caller: Caller, change: Change): Promise<void> {
  if (caller.orgId === MANAGEMENT_ORGANISATION) return notifyOperationalChange(client)
  const { application, endpoint, operation } = change
  const type = OPERATIONAL_EVENT_TYPES.find((one) => one === operation)
  if (type === undefined || application === undefined || endpoint === undefined) return
  const more = type === 'endpoint.disabled' ? { trigger: 'manual' } : {}
  await tellOfEndpoint(client, { type, orgId: caller.orgId, application, endpoint, more })
}

/** Names of the fields that differ; times of change do not count. */
export function changedFields(before: object, after: object): string[] {
  const old = new Map<string, unknown>(Object.entries(before))
  const differs = ([field, value]: [string, unknown]) => JSON.stringify(old.get(field)) !== JSON.stringify(value)
  return Object.entries(after)
    .filter(differs)
    .map(([field]) => field)
    .filter((field) => field !== 'updatedAt')
    .sort()
}
