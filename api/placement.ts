/** Where applications and endpoints may be, by the regions file. */
import { mayHold, NEAREST_REGION, zonesOf, type Regions } from '../domain/regions.ts'
import type { Application } from '../storage/applications.ts'
import type { ApiDependencies, Regional } from './dependencies.ts'
import { ElsewhereError } from './elsewhere.ts'
import { ruleError } from './errors.ts'
import { nearestRegion } from './internal/connect-time.ts'

const listed = (names: readonly string[]): string => (names.length === 0 ? 'there are none' : `there are ${names.join(', ')}`)

/** @throws {ValidationError} where the field needs a regions file and there is none */
function requireRegional({ regional }: Pick<ApiDependencies, 'regional'>, loc: readonly string[]): Regional {
  if (regional === undefined) throw ruleError(loc, 'This server knows of no regions (TIDINGS_REGIONS_FILE)')
  return regional
}

/**
 * Says that an application with this residency may be created here.
 * @throws {ValidationError} where there is no such zone
 * @throws {ElsewhereError} where it is another one than that of this region
 */
export function requireResidency(deps: Pick<ApiDependencies, 'regional'>, residency: string | null): void {
  if (residency === null) return
  const loc = ['body', 'residency']
  const { regions } = requireRegional(deps, loc)
  const zones = zonesOf(regions)
  if (!zones.includes(residency)) throw ruleError(loc, `There is no zone ${JSON.stringify(residency)}: ${listed(zones)}`)
  if (!mayHold(regions.own, residency)) throw new ElsewhereError([residency])
}

/**
 * The region that an endpoint is given.
 * @param given as asked for; null: none; `nearest`: measured now
 * @throws {ValidationError} where the regions file names no such region, or it may not have what belongs to the application, or
 * takes no traffic
 */
export async function placeEndpoint(
  deps: Pick<ApiDependencies, 'regional'>,
  { residency }: Pick<Application, 'residency'>,
  given: string | null,
  url: string,
): Promise<string | null> {
  if (given === null) return null
  const regional = requireRegional(deps, REGION)
  if (given === NEAREST_REGION) return nearestRegion(regional, url, residency)
  requireRegion(regional.regions, given, residency)
  return given
}

const REGION = ['body', 'region']

function requireRegion(regions: Regions, name: string, residency: string | null): void {
  if (!regions.has(name)) {
    throw ruleError(REGION, `There is no region ${JSON.stringify(name)}: ${listed(regions.all.map((region) => region.name))}`)
  }
  const region = regions.get(name)
  if (!mayHold(region, residency))
    throw ruleError(REGION, `The region ${name} is not in the zone ${residency}, which the application does not leave`)
  if (region.role !== 'active') throw ruleError(REGION, `The region ${name} is a standby, which delivers nothing of its own`)
}
