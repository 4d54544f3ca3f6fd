import { z } from 'zod'
import type { Application } from '../../storage/applications.ts'
import { freeText, metadata, throttleRate, uid } from './names.ts'
import { aliased } from './parse.ts'
import { listOf, shownId, shownMetadata, shownName, shownRate, shownTime } from './replies.ts'

const applicationName = freeText(1)

/** What older clients call the fields. */
const ALIASES = { rateLimit: 'throttleRate' } as const

export const applicationIn = aliased(
  ALIASES,
  z.object({
    uid: uid('app').nullish().default(null),
    name: applicationName,
    throttleRate: throttleRate.nullish().default(null),
    metadata: metadata.default({}).meta({ default: {} }),
  }),
).meta({ id: 'ApplicationIn' })

/** Absent leaves a field as it is, null clears it where it may be empty. */
export const applicationPatch = aliased(
  ALIASES,
  z.object({
    uid: uid('app').nullable().optional(),
    name: applicationName.optional(),
    throttleRate: throttleRate.nullable().optional(),
    metadata: metadata.optional(),
  }),
).meta({ id: 'ApplicationPatch' })

export const applicationOut = z
  .object({
    id: shownId('app'),
    uid: shownName.nullable(),
    name: z.string(),
    throttleRate: shownRate.nullable(),
    rateLimit: shownRate.nullable(),
    metadata: shownMetadata,
    createdAt: shownTime,
    updatedAt: shownTime,
  })
  .meta({ id: 'ApplicationOut' })
export const applicationList = listOf('ApplicationOut', applicationOut)

export function showApplication(application: Application): z.output<typeof applicationOut> {
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
