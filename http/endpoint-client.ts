import type { EndpointAccess } from '../domain/endpoint-access.ts'
import type { Lane } from '../domain/names.ts'
import type { AttemptOutcome } from '../domain/outcome.ts'
import type { OutgoingClient, OutgoingRequest } from './client.ts'
import { createTokens } from './oauth2.ts'
import { createPermissions } from './permission.ts'

/** What is left of a request's time limit at least, when a token or a permission took most of it. */
const REST_MIN_MS = 100

const NOT_AUTHORISED = 401

/**
 * A client that first gets what an endpoint asks for, its permission and a token. All of it is one attempt, within the time
 * limit of the request.
 * @param origin the host name that this sender is known by
 */
export function createEndpointClient(client: OutgoingClient, origin: string): Pick<OutgoingClient, 'post'> {
  const permissions = createPermissions(client, origin)
  const tokens = createTokens(client)

  async function postWith(access: EndpointAccess, lane: Lane, request: OutgoingRequest): Promise<AttemptOutcome> {
    const { endpointId, oauth2 } = access
    const rest = restOf(request)
    const refusal = access.handshake ? await permissions.ask(lane, request, endpointId) : undefined
    if (refusal !== undefined) return refusal
    if (oauth2 === null) return client.post(lane, rest())
    const first = await tokens.get(lane, rest(), endpointId, oauth2)
    if ('failure' in first) return first.failure
    const outcome = await client.post(lane, withToken(rest(), first.token))
    if (outcome.statusCode !== NOT_AUTHORISED) return outcome
    tokens.forget(endpointId, oauth2, first.token)
    const second = await tokens.get(lane, rest(), endpointId, oauth2)
    return 'failure' in second ? second.failure : client.post(lane, withToken(rest(), second.token))
  }

  return {
    post(lane, request) {
      const { access } = request
      if (access === null || access === undefined || (access.oauth2 === null && !access.handshake)) return client.post(lane, request)
      const startedAt = performance.now()
      const timed = (outcome: AttemptOutcome) => ({ ...outcome, durationMs: Math.round(performance.now() - startedAt) })
      return postWith(access, lane, request).then(timed)
    },
  }
}

/** The request with what is left of its time limit. */
function restOf(request: OutgoingRequest): () => OutgoingRequest {
  const startedAt = performance.now()
  return () => ({ ...request, timeoutMs: Math.max(REST_MIN_MS, Math.round(request.timeoutMs - (performance.now() - startedAt))) })
}

/** A custom `authorization` gives way to the token. */
function withToken(request: OutgoingRequest, token: string): OutgoingRequest {
  const others = Object.entries(request.headers).filter(([name]) => name.toLowerCase() !== 'authorization')
  return { ...request, headers: { ...Object.fromEntries(others), authorization: `Bearer ${token}` } }
}
