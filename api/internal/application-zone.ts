import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'
import { forgetZones, keepZones, type ApplicationZone, type Untold } from '../../storage/application-zones.ts'
import { ApiError } from '../errors.ts'
import { regionName } from '../schemas/names.ts'
import { internalOperation } from './router.ts'

export const APPLICATION_ZONE_PATH = '/application-zone'

const id = z.string().regex(/^app_[0-9A-Za-z]{1,64}$/)
const told = z.object({
  id,
  orgId: z.string().min(1).max(LIMITS.nameMaxChars),
  uidHash: z.base64().max(64).nullable(),
  zone: regionName,
  version: z.int().min(0),
})
const applicationZoneIn = z.object({
  applications: z.array(told).max(LIMITS.applicationZonesTold),
  /** Ids of erased applications. */
  forgotten: z.array(id).max(LIMITS.applicationZonesTold),
})

/** What a region tells: all that may be known of its applications outside of their zone. */
export function tellingOf(untold: readonly Untold[]): z.input<typeof applicationZoneIn> {
  return {
    applications: untold.flatMap(({ zone }) => (zone === null ? [] : [{ ...zone, uidHash: zone.uidHash?.toString('base64') ?? null }])),
    forgotten: untold.filter(({ zone }) => zone === null).map(({ appId }) => appId),
  }
}

/** Hears of applications with a zone, from a region of that zone and no other. */
export const applicationZone = internalOperation(applicationZoneIn, async ({ deps, caller, body }) => {
  const { applications, forgotten } = body
  const { zone } = caller
  if (zone === null || applications.some((one) => one.zone !== zone)) {
    throw new ApiError('insufficient access', 'A region tells of the applications of its own zone')
  }
  const zones = applications.map((one): ApplicationZone => ({
    ...one,
    uidHash: one.uidHash === null ? null : Buffer.from(one.uidHash, 'base64'),
  }))
  if (zones.length > 0) await keepZones(deps.pool, zones)
  if (forgotten.length > 0) await forgetZones(deps.pool, forgotten, zone)
})
