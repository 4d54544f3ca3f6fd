import { z } from 'zod'
import type { Application } from '../../storage/applications.ts'
import { freeText, metadata, regionName, throttleRate, uid } from './names.ts'
import { aliased } from './parse.ts'
import { listOf, shownId, shownMetadata, shownName, shownRate, shownTime } from './replies.ts'

const applicationName = freeText(1)
const residency = regionName.meta({
  description: 'A zone of the regions file: nothing of the application is kept outside of it. Set at creation and never changed',
})

/** What older clients call the fields. */
const ALIASES = { rateLimit: 'throttleRate' } as const

export const applicationIn = aliased(
  ALIASES,
  z.object({
    uid: uid('app').nullish().default(null),
    name: applicationName,
    throttleRate: throttleRate.nullish().default(null),
    metadata: metadata.default({}).meta({ default: {} }),
    residency: residency.nullish(),
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
    residency: residency.nullable().optional(),
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
    residency: residency.optional(),
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
    ...(application.residency === null ? {} : { residency: application.residency }),
    createdAt: application.createdAt.toISOString(),
    updatedAt: application.updatedAt.toISOString(),
  }
}
