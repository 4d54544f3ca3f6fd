import type { PoolClient } from 'pg'
import { MANAGEMENT_ORGANISATION, OPERATIONAL_EVENT_TYPES } from '../domain/operational.ts'
import type { ConfigChange } from '../storage/configuration.ts'
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
  readonly deps: Pick<ApiDependencies, 'configuration' | 'regional' | 'history' | 'configCache' | 'wakeMailbox' | 'launchTask'>
  readonly caller: Caller
}

/** What a change leads to in message data (`ConfigChange`). */
export type Effect = ConfigChange['effect']

type Work<T> = (client: PoolClient, changed: Changed, effect: Effect) => Promise<T>

/**
 * Runs a change of configuration in one transaction. `changed(…)` tells what it changes: every process hears of it when the
 * transaction commits, with it the audit log and operational endpoints, and this process has forgotten the old state
 * before the caller is answered.
 */
export async function changeConfiguration<T>(context: ChangeContext, work: Work<T>): Promise<T> {
  return make(context, 'change', work)
}

/** Runs a change of message data of this region that the audit log tells of like one of configuration. */
export async function changeMessageData<T>(context: ChangeContext, work: Work<T>): Promise<T> {
  return make(context, 'changeHere', work)
}

async function make<T>({ deps, caller }: ChangeContext, way: 'change' | 'changeHere', work: Work<T>): Promise<T> {
  const applications = new Set<string>()
  const made = deps.configuration[way]((making) => {
    const changed: Changed = async (change) => {
      if (change.application !== undefined) {
        applications.add(change.application.id)
        await making.changed(change.application.id)
        if (ZONE_CHANGES.has(change.operation)) {
          await deps.regional?.zones.changed(making.client, change.application.id, change.operation === 'application.erased')
        }
      }
      await audit(making, caller, change)
      await tell(making, caller, change)
    }
    return work(making.client, changed, (effect) => making.effect(effect))
  })
  // Also where it fails: its commit may be what was not answered. Lists of history show endpoints too.
  const { result, wakes, tasks } = await made.finally(() => applications.forEach((appId) => deps.history.wrote(appId)))
  for (const appId of applications) deps.configCache.forget(appId)
  for (const endpointId of new Set(wakes)) deps.wakeMailbox({ endpointId, wakeAtMs: Date.now() })
  await Promise.all(tasks.map((task) => deps.launchTask(task)))
  await deps.regional?.zones.tell([...applications])
  return result
}

/** What changes who an application is, which other regions are told of where it has a zone. */
const ZONE_CHANGES: ReadonlySet<Change['operation']> = new Set([
  'application.created',
  'application.updated',
  'application.deleted',
  'application.erased',
] as const)

async function audit(making: ConfigChange, caller: Caller, change: Change): Promise<void> {
  const { application, endpoint, operation } = change
  // Operational endpoints are the organisation's own, though they are kept in the management organisation.
  const orgId = caller.orgId === MANAGEMENT_ORGANISATION ? (application?.uid ?? caller.orgId) : caller.orgId
  const objectId = change.objectId ?? endpoint?.id ?? application?.id ?? ''
  const by = { actor: caller.subject, tokenId: caller.tokenId }
  await making.audit({ orgId, appId: application?.id ?? null, ...by, operation, objectId, fields: change.fields ?? [] })
}

async function tell(making: ConfigChange, caller: Caller, change: Change): Promise<void> {
  if (caller.orgId === MANAGEMENT_ORGANISATION) return making.operationalChanged()
  const { application, endpoint, operation } = change
  const type = OPERATIONAL_EVENT_TYPES.find((one) => one === operation)
  if (type === undefined || application === undefined || endpoint === undefined) return
  const more = type === 'endpoint.disabled' ? { trigger: 'manual' } : {}
  const { orgId } = caller
  const named = { application: { id: application.id, uid: application.uid }, endpoint: { id: endpoint.id, uid: endpoint.uid } }
  await making.effect({ kind: 'told', event: { type, orgId, ...named, more } })
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
