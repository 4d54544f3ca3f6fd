import { randomUUID } from 'node:crypto'
import { SignJWT } from 'jose'

const ISSUER = 'tidings'

export interface TokenInput {
  /** `TIDINGS_JWT_SECRET`. */
  readonly secret: string
  /** `org_…` for an organisation, `app_…` for one application. */
  readonly subject: string
  /** Organisation of an application's token. */
  readonly org?: string
  readonly featureFlags?: readonly string[]
  /** Default ten years, as the Svix server's own command gives. */
  readonly expiresInS?: number
}

const TEN_YEARS_S = 315_360_000

/** Makes a bearer token (HS256 JWT) with a `jti` of its own. `iat` has milliseconds: tokens are ended by when they were issued. */
export async function createToken(input: TokenInput): Promise<string> {
  const issuedAtMs = Date.now()
  const nowS = Math.floor(issuedAtMs / 1000)
  const claims = {
    ...(input.org === undefined ? {} : { org: input.org }),
    ...(input.featureFlags === undefined ? {} : { feature_flags: [...input.featureFlags] }),
  }
  return new SignJWT(claims)
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuer(ISSUER)
    .setSubject(input.subject)
    .setJti(randomUUID())
    .setIssuedAt(issuedAtMs / 1000)
    .setNotBefore(nowS)
    .setExpirationTime(nowS + (input.expiresInS ?? TEN_YEARS_S))
    .sign(new TextEncoder().encode(input.secret))
}
