import { z } from 'zod'
import type { Application } from '../../storage/applications.ts'
import { metadata, text, throttleRate, uid } from './names.ts'

const applicationName = text.refine((value) => value.length > 0, 'Application names must be at least one character')

export const applicationIn = z.object({
  uid: uid('app').nullish().default(null),
  name: applicationName,
  throttleRate: throttleRate.nullish().default(null),
  metadata: metadata.default({}),
})

/** Absent leaves a field as it is, null clears it where it may be empty. */
export const applicationPatch = z.object({
  uid: uid('app').nullable().optional(),
  name: applicationName.optional(),
  throttleRate: throttleRate.nullable().optional(),
  metadata: metadata.optional(),
})

/** What older clients call the fields. */
export const APPLICATION_ALIASES = { rateLimit: 'throttleRate' } as const

export function showApplication(application: Application) {
  return {
    id: application.id,
    uid: application.uid,
    name: application.name,
    throttleRate: application.throttleRate,
    rateLimit: application.throttleRate,
    metadata: application.metadata,
    createdAt: application.createdAt.toISOString(),
    updatedAt: application.updatedAt.toISOString(),
  }
}
