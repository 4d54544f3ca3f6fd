import { APPLICATION_ZONE_PATH, applicationZone } from './application-zone.ts'
import { connectTime } from './connect-time.ts'
import { handoverOperation } from './handover.ts'
import type { InternalOperation } from './router.ts'

/** What regions ask of each other, by path. */
export const INTERNAL_OPERATIONS: Readonly<Record<string, InternalOperation>> = {
  '/connect-time': connectTime,
  [APPLICATION_ZONE_PATH]: applicationZone,
  '/handover': handoverOperation,
}
