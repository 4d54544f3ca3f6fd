import { takes } from '../domain/routing.ts'
import { readHandedIn } from '../storage/handed-in.ts'
import { readMessages } from '../storage/messages.ts'
import type { EndpointsOf } from './group-starter.ts'
import type { Parts } from './parts.ts'

/** Finds the endpoints of a row of the outbox as its fan-out would. */
export function createEndpointsOf({ pool, messages, configCache }: Pick<Parts, 'pool' | 'messages' | 'configCache'>): EndpointsOf {
  return async (row) => {
    if (row.endpointId !== null) return [row.endpointId]
    const message = (await readMessages(pool, messages, [row.messageId])).get(row.messageId)
    if (message === undefined) return []
    if (message.acceptedIn !== undefined) return (await readHandedIn(pool, [message.id])).get(message.id) ?? []
    const { list } = await configCache.endpoints(message.appId)
    return list.filter((endpoint) => takes(endpoint, message)).map((endpoint) => endpoint.id)
  }
}
