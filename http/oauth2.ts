import { LRUCache } from 'lru-cache'
import type { OAuth2Client } from '../domain/endpoint-access.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Lane } from '../domain/names.ts'
import type { AttemptOutcome } from '../domain/outcome.ts'
import type { OutgoingClient, OutgoingRequest } from './client.ts'
import { createSingleFlight } from './single-flight.ts'

/** A token, or why there is none: an outcome as of a delivery, its reason fit for the endpoint's owner. */
export type TokenResult = { readonly token: string } | { readonly failure: AttemptOutcome }

export interface Tokens {
  /**
   * The endpoint's token, fetched where none is kept. Tokens are kept until shortly before they expire.
   * @param request the delivery that wants it, for its time limit and its signal
   */
  get(lane: Lane, request: OutgoingRequest, endpointId: string, client: OAuth2Client): Promise<TokenResult>
  /** The endpoint has refused this token: it is not given again. */
  forget(endpointId: string, client: OAuth2Client, token: string): void
}

interface Grant {
  readonly token: string
  readonly lifetimeMs: number
}

/** Fetches and keeps tokens by the client credentials grant (RFC 6749, section 4.4). @param http bound by the address guard */
export function createTokens(http: Pick<OutgoingClient, 'post'>): Tokens {
  const kept = new LRUCache<string, string>({ max: LIMITS.oauth2TokensKept })
  const alone = createSingleFlight<TokenResult>()
  const keyOf = (endpointId: string, client: OAuth2Client): string => `${endpointId} ${client.key}`

  async function fetchToken(key: string, lane: Lane, request: OutgoingRequest, client: OAuth2Client): Promise<TokenResult> {
    const outcome = await http.post(lane, tokenRequest(client, request))
    const grant = outcome.kind === 'delivered' ? readGrant(outcome.body) : undefined
    if (grant === undefined) return { failure: failureOf(outcome) }
    const keptMs = grant.lifetimeMs - Math.min(LIMITS.oauth2RenewBeforeMs, grant.lifetimeMs / 2)
    if (keptMs >= 1) kept.set(key, grant.token, { ttl: Math.floor(keptMs) })
    return { token: grant.token }
  }

  return {
    get(lane, request, endpointId, client) {
      const key = keyOf(endpointId, client)
      const token = kept.get(key)
      return token === undefined ? alone(key, () => fetchToken(key, lane, request, client)) : Promise.resolve({ token })
    },
    forget(endpointId, client, token) {
      const key = keyOf(endpointId, client)
      if (kept.get(key) === token) kept.delete(key)
    },
  }
}

function tokenRequest(client: OAuth2Client, { timeoutMs, signal }: OutgoingRequest): OutgoingRequest {
  const inBody = client.authMethod === 'client_secret_post'
  const form = new URLSearchParams({
    grant_type: 'client_credentials',
    ...(client.scopes.length === 0 ? {} : { scope: client.scopes.join(' ') }),
    ...(client.audience === null ? {} : { audience: client.audience }),
    ...(inBody ? { client_id: client.clientId, client_secret: client.clientSecret } : {}),
  })
  return {
    url: client.tokenUrl,
    headers: {
      accept: 'application/json',
      'content-type': 'application/x-www-form-urlencoded',
      'user-agent': 'Tidings/0.1',
      ...(inBody ? {} : { authorization: basicOf(client) }),
    },
    body: form.toString(),
    timeoutMs: Math.min(timeoutMs, LIMITS.accessTimeoutMs),
    signal,
  }
}

/** RFC 6749, section 2.3.1: both parts are form-encoded first. */
function basicOf({ clientId, clientSecret }: OAuth2Client): string {
  const [id, secret] = [clientId, clientSecret].map((text) => new URLSearchParams({ '': text }).toString().slice(1))
  return `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`
}

/** What can stand behind `Bearer ` in a header. */
const TOKEN = /^[\x21-\x7e]{1,8192}$/
const LIFETIME_MAX_S = 86_400

function readGrant(body: string): Grant | undefined {
  const fields = parseObject(body)
  const { access_token: token, token_type: type, expires_in: lifetime } = fields
  if (typeof token !== 'string' || !TOKEN.test(token)) return undefined
  if (typeof type === 'string' && type.toLowerCase() !== 'bearer') return undefined
  const lifetimeS = Number(lifetime ?? NaN)
  return { token, lifetimeMs: Number.isNaN(lifetimeS) ? LIMITS.oauth2TokenDefaultMs : Math.min(lifetimeS, LIFETIME_MAX_S) * 1000 }
}

function parseObject(body: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(body)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}

/** RFC 6749, section 5.2. Other texts of the answer are not repeated: they may hold anything. */
const ERRORS = new Set([
  'invalid_request',
  'invalid_client',
  'invalid_grant',
  'unauthorized_client',
  'unsupported_grant_type',
  'invalid_scope',
])

/** Without a status code: it was not the endpoint that answered. */
function failureOf(outcome: AttemptOutcome): AttemptOutcome {
  const { kind, statusCode, body } = outcome
  switch (kind) {
    case 'interrupted':
      return outcome
    case 'unreachable':
    case 'blocked':
      return { ...outcome, body: `no OAuth2 token: ${body}` }
    case 'delivered':
      return { ...outcome, kind: 'unreachable', statusCode: 0, body: 'no OAuth2 token: the answer of the token server has no bearer token' }
    case 'rejected': {
      const { error } = parseObject(body)
      const named = typeof error === 'string' && ERRORS.has(error) ? ` (${error})` : ''
      return { ...outcome, kind: 'unreachable', statusCode: 0, body: `no OAuth2 token: the token server answered ${statusCode}${named}` }
    }
  }
}
