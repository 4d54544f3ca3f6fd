import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'
import { createSigner } from '../../http/signing.ts'
import { SHAPE } from './names.ts'

/** `whsec_<base64>` or `whsk_<base64>`, checked by preparing it for signing. */
export const secret = z.string().superRefine((value, context) => {
  try {
    createSigner(value)
  } catch (error) {
    const message = error instanceof Error && error.name === 'SecretError' ? error.message : 'is not a key'
    context.addIssue({ code: 'custom', message, params: { whole: true } })
  }
})

export const secretRotateIn = z
  .object({
    key: secret.nullish(),
    gracePeriodSeconds: z
      .number()
      .refine((value) => Number.isInteger(value) && value >= 0, { params: SHAPE, error: 'expected u32', abort: true })
      .refine((value) => value <= LIMITS.secretGraceMaxS, `The grace period is at most ${LIMITS.secretGraceMaxS} seconds`)
      .nullish(),
  })
  .meta({ id: 'EndpointSecretRotateIn' })

export const secretOut = z.object({ key: z.string() }).meta({ id: 'EndpointSecretOut' })

export function newSecret(): string {
  return `whsec_${randomBytes(LIMITS.secretBytes).toString('base64')}`
}
