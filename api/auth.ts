import type { IncomingMessage, ServerResponse } from 'node:http'
import { errors, jwtVerify, type JWTPayload } from 'jose'
import { LRUCache } from 'lru-cache'
import { LIMITS } from '../domain/limits.ts'
import { isInternal } from '../http/region-token.ts'
import type { Revocations } from '../storage/revocations.ts'
import { ApiError } from './errors.ts'
import { createRateLimit, type Bucket } from './rate-limit.ts'

/** Who calls: a whole organisation, or one application of it (a customer's portal). */
export interface Caller {
  readonly orgId: string
  /** The token's `sub`, and its `jti` where it has one: who the audit log names. */
  readonly subject: string
  readonly tokenId: string | null
  /** Set for an application's token: nothing beyond this application is within reach. */
  readonly appId: string | null
  /** Event types that carry another flag are hidden from this caller. Undefined for organisations, which see all. */
  readonly featureFlags: readonly string[] | undefined
}

/** Tells who sent a request, and counts it: the answer is given the `RateLimit` fields. */
export type Authenticate = (request: IncomingMessage, response: ServerResponse) => Caller | Promise<Caller>

export interface AuthenticatorOptions {
  readonly secret: string
  /** Secrets before the current one, whose tokens are still good. */
  readonly previousSecrets: readonly string[]
  /** Requests a second of one token; 0 is no limit. */
  readonly rateLimit: number
  readonly revocations: Revocations
}

interface KnownToken {
  readonly caller: Caller
  /** `revocations.changes` when it was found not to be revoked. */
  readonly asOf: number
  readonly bucket: Bucket
}

const ORG_ID = /^org_[0-9A-Za-z]{1,64}$/
const APP_ID = /^app_[0-9A-Za-z]{1,64}$/

function refuse(): ApiError {
  return new ApiError('authentication_failed', 'Invalid token')
}

/**
 * Verifies bearer tokens: HS256 only, `exp` and `nbf` checked, `sub` an organisation or an application with `org`, not
 * revoked. Verified tokens are remembered until they expire, five minutes at most, because publishing is a hot path; a
 * revocation anywhere has all of them verified again.
 * @throws {ApiError} authentication_failed, too_many_requests, or bad_token for an application without an organisation
 */
export function createAuthenticator({ secret, previousSecrets, rateLimit, revocations }: AuthenticatorOptions): Authenticate {
  const keys = [secret, ...previousSecrets].map((text) => new TextEncoder().encode(text))
  const known = new LRUCache<string, KnownToken>({ max: LIMITS.tokenCacheEntries, ttl: LIMITS.tokenCacheMs })
  const limit = createRateLimit(rateLimit)
  async function verify(token: string, before: KnownToken | undefined): Promise<KnownToken> {
    const asOf = revocations.changes
    const payload = await verifySignature(token, keys)
    if (isInternal(payload)) throw refuse()
    const caller = callerOf(payload)
    const revokedAtMs = await revocations.endOf({
      orgId: caller.orgId,
      appId: caller.appId,
      tokenId: payload.jti ?? null,
      issuedAtMs: (payload.iat ?? 0) * 1000,
    })
    const endsAtMs = Math.min(payload.exp === undefined ? Infinity : payload.exp * 1000, revokedAtMs)
    const lastsMs = endsAtMs - Date.now()
    if (lastsMs <= 0) throw refuse()
    const fresh: KnownToken = { caller, asOf, bucket: before?.bucket ?? limit.newBucket() }
    known.set(token, fresh, { ttl: Math.ceil(Math.min(LIMITS.tokenCacheMs, lastsMs)) })
    return fresh
  }
  return (request, response) => {
    const { authorization } = request.headers
    if (authorization === undefined || !/^bearer /i.test(authorization)) throw refuse()
    const token = authorization.slice('bearer '.length).trim()
    if (token.length > LIMITS.tokenMaxChars) throw refuse()
    const found = known.get(token)
    if (found?.asOf === revocations.changes) {
      limit.take(found.bucket, response)
      return found.caller
    }
    return verify(token, found).then(({ caller, bucket }) => {
      limit.take(bucket, response)
      return caller
    })
  }
}

/** The signature is compared in constant time, by the system's HMAC. */
async function verifySignature(token: string, keys: readonly Uint8Array[]): Promise<JWTPayload> {
  for (const key of keys) {
    try {
      return (await jwtVerify(token, key, { algorithms: ['HS256'] })).payload
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw refuse()
    }
  }
  throw refuse()
}

function callerOf(claims: Readonly<Record<string, unknown>>): Caller {
  const { sub, org, feature_flags: flags, jti } = claims
  if (typeof sub !== 'string') throw refuse()
  const token = { subject: sub, tokenId: typeof jti === 'string' ? jti : null }
  if (ORG_ID.test(sub)) return { ...token, orgId: sub, appId: null, featureFlags: undefined }
  if (!APP_ID.test(sub)) throw refuse()
  if (typeof org !== 'string' || !ORG_ID.test(org)) throw new ApiError('bad_token', 'The token of an application needs its organisation')
  const featureFlags = Array.isArray(flags) ? flags.filter((flag) => typeof flag === 'string') : []
  return { ...token, orgId: org, appId: sub, featureFlags }
}
