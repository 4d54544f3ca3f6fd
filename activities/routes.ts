/** Where the deliveries of a group go. */
import type { FirstAttemptsInput, PlannedEndpoint } from '../domain/fan-out.ts'
import { handedTo } from '../domain/handover.ts'
import { LIMITS } from '../domain/limits.ts'
import { hasQueue } from '../domain/ordering.ts'
import type { Regions } from '../domain/regions.ts'
import { takes } from '../domain/routing.ts'
import type { CachedEndpoint, ConfigCache } from '../storage/config-cache.ts'
import { readHandedIn } from '../storage/handed-in.ts'
import { fixHandedOver, type HandedOver } from '../storage/handed-over.ts'
import type { StoredMessage } from '../storage/messages.ts'
import type { Pool } from '../storage/pool.ts'

/** The deliveries of one endpoint in one slice. */
export interface Target {
  readonly endpoint: CachedEndpoint
  readonly messages: StoredMessage[]
}

/** The endpoint as it is now, with what it is to get; undefined where it is gone or disabled. */
export async function targetOf(configCache: ConfigCache, endpointId: string, messages: StoredMessage[]): Promise<Target | undefined> {
  const first = messages[0]
  if (first === undefined) return undefined
  const endpoint = (await configCache.endpoints(first.appId)).byId.get(endpointId)
  return endpoint === undefined || endpoint.disabled ? undefined : { endpoint, messages }
}

/** What routing needs. */
export interface RoutesDependencies {
  readonly pool: Pool
  readonly configCache: ConfigCache
  /** Undefined: there is no other region. */
  readonly regions: Regions | undefined
}

/** All deliveries of a group, in the order of the endpoints' ids. */
export async function route(
  deps: RoutesDependencies,
  input: FirstAttemptsInput,
  messages: ReadonlyMap<string, StoredMessage>,
): Promise<Target[]> {
  if (input.endpointId !== undefined) {
    const target = await targetOf(deps.configCache, input.endpointId, [...messages.values()])
    return target === undefined ? [] : [target]
  }
  const handedIn = [...messages.values()].filter((message) => message.acceptedIn !== undefined).map((message) => message.id)
  const routed = handedIn.length === 0 ? NOTHING_ROUTED : await readHandedIn(deps.pool, handedIn)
  const targets = new Map<string, Target>()
  for (const message of messages.values()) {
    if (message.cancelled === true) continue
    for (const endpoint of await takersOf(deps.configCache, message, routed)) {
      const target = targets.get(endpoint.id)
      if (target === undefined) targets.set(endpoint.id, { endpoint, messages: [message] })
      else target.messages.push(message)
    }
  }
  return [...targets.values()].sort((a, b) => (a.endpoint.id < b.endpoint.id ? -1 : 1))
}

const NOTHING_ROUTED: ReadonlyMap<string, readonly string[]> = new Map()

/** What another region has handed over has been routed there. */
async function takersOf(
  configCache: ConfigCache,
  message: StoredMessage,
  routed: ReadonlyMap<string, readonly string[]>,
): Promise<readonly CachedEndpoint[]> {
  const endpoints = await configCache.endpoints(message.appId)
  if (message.acceptedIn === undefined) return endpoints.list.filter((endpoint) => takes(endpoint, message))
  const ids = routed.get(message.id) ?? []
  if (ids.some((id) => !endpoints.byId.has(id))) configCache.forget(message.appId)
  // Each was in the database when it was handed over: where it is not in memory, the news of it has not come yet, or it is deleted.
  const { byId } = await configCache.endpoints(message.appId)
  return ids.flatMap((id) => byId.get(id) ?? []).filter((endpoint) => !endpoint.disabled)
}

/** Deliveries of a group: those that are made here, and the names of the regions that the others are handed to. */
export interface Divided {
  readonly here: Target[]
  readonly elsewhere: readonly string[]
}

/**
 * Takes out what is another region's, and writes it down: whoever executes this again, or the next slice, divides as the first
 * did, whatever the endpoints are by then. What no row has is made here, so nothing is left to nobody.
 */
export async function divide(deps: RoutesDependencies, input: FirstAttemptsInput, targets: Target[]): Promise<Divided> {
  const { regions } = deps
  if (regions === undefined) return { here: targets, elsewhere: [] }
  const isFirst = input.afterEndpointId === undefined
  const { groupId, trigger, retried } = input
  const group = { groupId, trigger, retried, chosen: input.endpointId !== undefined }
  const fixed = await fixHandedOver(deps.pool, group, isFirst ? toHandOver(regions, targets) : [])
  if (fixed.length === 0) return { here: targets, elsewhere: [] }
  const handed = new Set(fixed.flatMap(({ messageId, endpointIds }) => endpointIds.map((id) => `${messageId} ${id}`)))
  const here = targets
    .map(({ endpoint, messages }) => ({ endpoint, messages: messages.filter(({ id }) => !handed.has(`${id} ${endpoint.id}`)) }))
    .filter(({ messages }) => messages.length > 0)
  return { here, elsewhere: isFirst ? [...new Set(fixed.map(({ region }) => region))].sort() : [] }
}

function toHandOver(regions: Regions, targets: readonly Target[]): HandedOver[] {
  const rows = new Map<string, HandedOver & { readonly endpointIds: string[] }>()
  for (const { endpoint, messages } of targets) {
    for (const message of messages) {
      const region = handedTo(regions, endpoint, message)
      if (region === undefined) continue
      const key = `${region} ${message.id}`
      const known = rows.get(key)
      if (known === undefined) rows.set(key, { region, messageId: message.id, endpointIds: [endpoint.id] })
      else known.endpointIds.push(endpoint.id)
    }
  }
  return [...rows.values()]
}

/**
 * An endpoint may have lost its queue since a message was accepted, with what was in it: the mailbox delivers that, as it
 * delivers to any endpoint.
 */
export function withoutPlaced(target: Target): Target {
  const isElsewhere = ({ placedWith }: StoredMessage) => !hasQueue(target.endpoint) && placedWith?.includes(target.endpoint.id) === true
  return target.messages.some(isElsewhere) ? { ...target, messages: target.messages.filter((one) => !isElsewhere(one)) } : target
}

/** How many they are. */
export const deliveriesTo = (targets: readonly Target[]) => targets.reduce((sum, target) => sum + target.messages.length, 0)

/** Whole endpoints after the given one, up to 1,000 deliveries: results of one workflow task must stay small. */
export function cutSlice(
  targets: readonly Target[],
  afterEndpointId: string | undefined,
): { targets: Target[]; nextAfterEndpointId?: string } {
  const slice: Target[] = []
  let deliveries = 0
  for (const target of targets) {
    if (afterEndpointId !== undefined && target.endpoint.id <= afterEndpointId) continue
    if (slice.length > 0 && deliveries + target.messages.length > LIMITS.deliveriesPerTask) {
      return { targets: slice, nextAfterEndpointId: slice.at(-1)!.endpoint.id }
    }
    slice.push(target)
    deliveries += target.messages.length
  }
  return { targets: slice }
}

export function toPlanned(target: Target): PlannedEndpoint {
  return { endpointId: target.endpoint.id, host: target.endpoint.host, messageIds: target.messages.map((message) => message.id) }
}
