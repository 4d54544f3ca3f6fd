import { LRUCache } from 'lru-cache'
import { LIMITS } from '../domain/limits.ts'
import type { Lane } from '../domain/names.ts'
import type { AttemptOutcome } from '../domain/outcome.ts'
import type { Answer, OutgoingClient, OutgoingRequest } from './client.ts'
import { headerOf } from './exchange.ts'
import { createSingleFlight } from './single-flight.ts'

export interface Permissions {
  /** @returns why the endpoint may not be sent to, as an outcome; undefined where it has allowed it */
  ask(lane: Lane, request: OutgoingRequest, endpointId: string): Promise<AttemptOutcome | undefined>
}

/**
 * Asks endpoints whether they take deliveries, and remembers for a day that they do (HTTP 1.1 Web Hooks for Event Delivery,
 * section 4: https://github.com/cloudevents/spec). No rate is asked for, and no callback offered.
 * @param http bound by the address guard
 * @param origin the host name that this sender is known by
 */
export function createPermissions(http: Pick<OutgoingClient, 'options'>, origin: string): Permissions {
  const allowed = new LRUCache<string, true>({ max: LIMITS.permissionsKept, ttl: LIMITS.permissionKeptMs })
  const alone = createSingleFlight<AttemptOutcome | undefined>()
  return {
    ask(lane, request, endpointId) {
      const key = `${endpointId} ${request.url}`
      if (allowed.has(key)) return Promise.resolve(undefined)
      return alone(key, async () => {
        const refusal = refusalOf(await http.options(lane, askingRequest(request, origin)), origin)
        if (refusal === undefined) allowed.set(key, true)
        return refusal
      })
    },
  }
}

/** It carries none of the endpoint's headers: it gives permission, and is no delivery. */
function askingRequest({ url, timeoutMs, signal, access }: OutgoingRequest, origin: string): OutgoingRequest {
  return {
    url,
    headers: { 'user-agent': 'Tidings/0.1', 'webhook-request-origin': origin },
    body: '',
    timeoutMs: Math.min(timeoutMs, LIMITS.accessTimeoutMs),
    signal,
    access,
  }
}

function refusalOf({ outcome, headers }: Answer, origin: string): AttemptOutcome | undefined {
  const { kind, statusCode, body } = outcome
  if (kind === 'interrupted') return outcome
  if (kind === 'unreachable' || kind === 'blocked') return { ...outcome, body: `no permission to deliver: ${body}` }
  const granted = headerOf(headers, 'webhook-allowed-origin')?.trim().toLowerCase()
  if (kind === 'delivered' && (granted === '*' || granted === origin.toLowerCase())) return undefined
  const how = kind === 'delivered' ? `without WebHook-Allowed-Origin: ${origin}` : String(statusCode)
  // Without a status code: no delivery was made that it could be of.
  return { ...outcome, kind: 'unreachable', statusCode: 0, body: `no permission to deliver: the endpoint answered OPTIONS ${how}` }
}
