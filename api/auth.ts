import { jwtVerify } from 'jose'
import { LRUCache } from 'lru-cache'
import { LIMITS } from '../domain/limits.ts'
import { ApiError } from './errors.ts'

/** Who calls: a whole organisation, or one application of it (a customer's portal). */
export interface Caller {
  readonly orgId: string
  /** Set for an application's token: nothing beyond this application is within reach. */
  readonly appId: string | null
  /** Event types that carry another flag are hidden from this caller. Undefined for organisations, which see all. */
  readonly featureFlags: readonly string[] | undefined
}

export type Authenticate = (authorization: string | undefined) => Caller | Promise<Caller>

const ORG_ID = /^org_[0-9A-Za-z]{1,64}$/
const APP_ID = /^app_[0-9A-Za-z]{1,64}$/

function refuse(): ApiError {
  return new ApiError('authentication_failed', 'Invalid token')
}

/**
 * Verifies bearer tokens: HS256 only, `exp` and `nbf` checked, `sub` an organisation or an application with `org`.
 * Verified tokens are remembered until they expire, five minutes at most, because publishing is a hot path.
 * @throws {ApiError} authentication_failed, or bad_token for an application without an organisation
 */
export function createAuthenticator(secret: string): Authenticate {
  const key = new TextEncoder().encode(secret)
  const known = new LRUCache<string, Caller>({ max: LIMITS.tokenCacheEntries, ttl: LIMITS.tokenCacheMs })
  async function verify(token: string): Promise<Caller> {
    const { payload } = await jwtVerify(token, key, { algorithms: ['HS256'] }).catch(() => {
      throw refuse()
    })
    const caller = callerOf(payload)
    const untilExpiryMs = payload.exp === undefined ? LIMITS.tokenCacheMs : payload.exp * 1000 - Date.now()
    if (untilExpiryMs > 0) known.set(token, caller, { ttl: Math.min(LIMITS.tokenCacheMs, untilExpiryMs) })
    return caller
  }
  return (authorization) => {
    if (authorization === undefined || !/^bearer /i.test(authorization)) throw refuse()
    const token = authorization.slice('bearer '.length).trim()
    if (token.length > LIMITS.tokenMaxChars) throw refuse()
    return known.get(token) ?? verify(token)
  }
}

function callerOf(claims: Readonly<Record<string, unknown>>): Caller {
  const { sub, org, feature_flags: flags } = claims
  if (typeof sub !== 'string') throw refuse()
  if (ORG_ID.test(sub)) return { orgId: sub, appId: null, featureFlags: undefined }
  if (!APP_ID.test(sub)) throw refuse()
  if (typeof org !== 'string' || !ORG_ID.test(org)) throw new ApiError('bad_token', 'The token of an application needs its organisation')
  const featureFlags = Array.isArray(flags) ? flags.filter((flag) => typeof flag === 'string') : []
  return { orgId: org, appId: sub, featureFlags }
}
