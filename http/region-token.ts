import { errors, jwtVerify, SignJWT, type JWTPayload } from 'jose'

/** Whom the tokens of regions are for. What is for this audience is nobody's token elsewhere. */
export const INTERNAL_AUDIENCE = 'tidings-internal'

const SUBJECT = /^region:([a-z0-9-]{1,32})$/
const LIFE_S = 60
/** Clocks of regions may be so far apart. */
const CLOCK_TOLERANCE_S = 30

/**
 * Makes the token with which one region calls another: HS256, 60 s of life.
 * @param secret `TIDINGS_JWT_SECRET`, which all regions have
 * @param region the name of the one that calls
 */
export function createRegionToken(secret: string, region: string): Promise<string> {
  const nowS = Math.floor(Date.now() / 1000)
  return new SignJWT({})
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setSubject(`region:${region}`)
    .setAudience(INTERNAL_AUDIENCE)
    .setIssuedAt(nowS)
    .setExpirationTime(nowS + LIFE_S)
    .sign(new TextEncoder().encode(secret))
}

/**
 * Verifies the token of a region: signature, audience, life.
 * @param secrets the current one and those before it
 * @returns the name of the region that calls, whether or not there is one; undefined where the token is not good
 */
export async function readRegionToken(token: string, secrets: readonly string[]): Promise<string | undefined> {
  for (const secret of secrets) {
    try {
      const { payload } = await jwtVerify(token, new TextEncoder().encode(secret), {
        algorithms: ['HS256'],
        audience: INTERNAL_AUDIENCE,
        requiredClaims: ['exp', 'iat', 'sub'],
        clockTolerance: CLOCK_TOLERANCE_S,
        maxTokenAge: LIFE_S,
      })
      return SUBJECT.exec(payload.sub ?? '')?.[1]
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) return undefined
    }
  }
  return undefined
}

/** Whether verified claims are those of a region's token. */
export function isInternal({ aud }: Pick<JWTPayload, 'aud'>): boolean {
  return aud !== undefined && [aud].flat().includes(INTERNAL_AUDIENCE)
}
