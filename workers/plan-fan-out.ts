import type { PlannedEndpoint } from '../domain/fan-out.ts'
import { handedTo } from '../domain/handover.ts'
import { LIMITS } from '../domain/limits.ts'
import { takes } from '../domain/routing.ts'
import type { OutboxRow } from '../storage/outbox.ts'
import type { Parts } from './parts.ts'

/**
 * Routes a group before it is started, so that its workflow can make the first attempts at once instead of asking for its
 * routes first. Undefined where it has many deliveries, one goes through a queue or to another region, or a message is not in memory or
 * has been handed over by another region.
 */
export type PlanFanOut = (rows: readonly OutboxRow[]) => Promise<readonly PlannedEndpoint[] | undefined>

export function createPlanFanOut({ config, messages, configCache }: Pick<Parts, 'config' | 'messages' | 'configCache'>): PlanFanOut {
  const { regions } = config
  return async (rows) => {
    const planned = new Map<string, PlannedEndpoint & { readonly messageIds: string[] }>()
    let deliveries = 0
    for (const { messageId, endpointId } of rows) {
      const message = messages.get(messageId)
      if (message === undefined || message.acceptedIn !== undefined || endpointId !== null) return undefined
      const { queued, unqueued } = await configCache.endpoints(message.appId)
      if (queued.some((endpoint) => takes(endpoint, message))) return undefined
      for (const endpoint of unqueued.filter((one) => takes(one, message))) {
        if (++deliveries > LIMITS.activityPerEndpointMaxDeliveries) return undefined
        if (handedTo(regions, endpoint, message) !== undefined) return undefined
        const { id, host } = endpoint
        const known = planned.get(id)
        if (known === undefined) planned.set(id, { endpointId: id, host, messageIds: [messageId] })
        else known.messageIds.push(messageId)
      }
    }
    // With nobody to deliver to, the group's rows are left to an activity as always.
    return planned.size === 0 ? undefined : [...planned.values()]
  }
}
