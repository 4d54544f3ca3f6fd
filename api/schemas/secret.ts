import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'
import { createSigner } from '../../http/signing.ts'
import { SHAPE } from './names.ts'

/** `whsec_<base64>` or `whsk_<base64>`, checked by preparing it for signing. */
export const secret = z
  .string()
  .superRefine((value, context) => {
    try {
      createSigner(value)
    } catch (error) {
      const message = error instanceof Error && error.name === 'SecretError' ? error.message : 'is not a key'
      context.addIssue({ code: 'custom', message, params: { whole: true } })
    }
  })
  .meta({
    pattern: '^(whsec_[a-zA-Z0-9+/]{32,101}|whsk_([a-zA-Z0-9+/]{43}|[a-zA-Z0-9+/]{86}))={0,2}$',
    description:
      'Base64 behind its prefix: `whsec_` and 24 to 75 bytes (HMAC-SHA256), or `whsk_` and 32 or 64 bytes (ed25519). Absent or null makes one',
    example: 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD',
  })

export const secretRotateIn = z
  .object({
    key: secret.nullish(),
    gracePeriodSeconds: z
      .number()
      .refine((value) => Number.isInteger(value) && value >= 0, { params: SHAPE, error: 'expected u32', abort: true })
      .refine((value) => value <= LIMITS.secretGraceMaxS, `The grace period is at most ${LIMITS.secretGraceMaxS} seconds`)
      .meta({
        type: 'integer',
        format: 'uint32',
        minimum: 0,
        maximum: LIMITS.secretGraceMaxS,
        description: 'How long the old secret still signs',
      })
      .nullish()
      .meta({ default: LIMITS.secretGraceDefaultS }),
  })
  .meta({ id: 'EndpointSecretRotateIn' })

export const secretOut = z.object({ key: z.string().regex(/^(whsec|whpk)_[a-zA-Z0-9+/]+={0,2}$/) }).meta({ id: 'EndpointSecretOut' })

export function newSecret(): string {
  return `whsec_${randomBytes(LIMITS.secretBytes).toString('base64')}`
}
