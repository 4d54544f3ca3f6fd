/** What a region is, and which may hold what. Design: docs/regions.md. */

/** Of regions and of zones. */
export const REGION_NAME = /^[a-z0-9-]{1,32}$/

/** An endpoint may be given this instead of a region: then it is measured which is the nearest. No region is named so. */
export const NEAREST_REGION = 'nearest'

/** One region: its own API, workers, Postgres and Temporal. */
export interface Region {
  /** As `TIDINGS_REGION`; its Temporal namespace is `tidings-<name>`. */
  readonly name: string
  /** Of residency; null: none. */
  readonly zone: string | null
  /** A standby takes no traffic of its own: it is there for the regions whose peer it is. */
  readonly role: 'active' | 'standby'
  /** Regions that its data is replicated to, the first to take over named first. All are in its zone where it has one. */
  readonly peers: readonly string[]
  /** Base URL of its API, without a slash at its end. */
  readonly apiUrl: string
  /** host:port of its Temporal. */
  readonly temporalAddress: string
}

/** All regions, as one of them sees them. */
export interface Regions {
  readonly own: Region
  readonly all: readonly Region[]
  /** @throws {RangeError} where there is none of that name */
  get(name: string): Region
  has(name: string): boolean
  /** Round trip between two regions in milliseconds; 0 to itself. */
  distanceMs(from: string, to: string): number
}

/** Names of two regions with a `|` between, in either order, and milliseconds of a round trip. */
export type Distances = Readonly<Record<string, number>>

/** A distance that nobody has given: further than any that somebody has. */
const UNKNOWN_DISTANCE_MS = 1000

/** @throws {RangeError} where `own` is none of them */
export function createRegions(all: readonly Region[], own: string, distances: Distances): Regions {
  const byName = new Map(all.map((region) => [region.name, region]))
  const get = (name: string) => {
    const region = byName.get(name)
    if (region === undefined) throw new RangeError(`there is no region ${JSON.stringify(name)}`)
    return region
  }
  return {
    own: get(own),
    all,
    get,
    has: (name) => byName.has(name),
    distanceMs: (from, to) => (from === to ? 0 : (distances[`${from}|${to}`] ?? distances[`${to}|${from}`] ?? UNKNOWN_DISTANCE_MS)),
  }
}

/** Whether a region may have what belongs to an application. @param residency the application's zone; null: it may be anywhere */
export function mayHold(region: Region, residency: string | null): boolean {
  return residency === null || region.zone === residency
}

/** Names of all regions but this one. */
export function otherRegions({ all, own }: Regions): string[] {
  return all.map(({ name }) => name).filter((name) => name !== own.name)
}

/** Names of all zones, in their order. */
export function zonesOf(regions: Regions): string[] {
  return [...new Set(regions.all.flatMap(({ zone }) => (zone === null ? [] : [zone])))].sort()
}

/**
 * Where what this region may not hold is to go: the nearest active region of the zone. Undefined where the zone has none.
 * @param residency the application's zone
 */
export function homeOf(regions: Regions, residency: string): Region | undefined {
  const candidates = regions.all.filter((region) => region.zone === residency && region.role === 'active')
  return nearest(regions, candidates)
}

/** The nearest of some regions to this one, the first of equals; undefined of none. */
export function nearest(regions: Regions, candidates: readonly Region[]): Region | undefined {
  const distance = (region: Region) => regions.distanceMs(regions.own.name, region.name)
  return candidates.reduce<Region | undefined>(
    (best, one) => (best !== undefined && distance(best) <= distance(one) ? best : one),
    undefined,
  )
}

/**
 * The region with the least connect time, the nearer to this one of equals; this one where nothing was measured.
 * @param measured milliseconds by the region's name
 */
export function nearestMeasured(regions: Regions, measured: ReadonlyMap<string, number>): Region {
  const leastMs = Math.min(...measured.values())
  return (
    nearest(
      regions,
      regions.all.filter(({ name }) => measured.get(name) === leastMs),
    ) ?? regions.own
  )
}

/** Zones of several active regions, each with their names. */
export function crowdedZones(all: readonly Region[]): ReadonlyMap<string, readonly string[]> {
  const active = all.filter(({ zone, role }) => zone !== null && role === 'active')
  const byZone = Map.groupBy(active, ({ zone }) => zone!)
  return new Map([...byZone].filter(([, some]) => some.length > 1).map(([zone, some]) => [zone, some.map(({ name }) => name)]))
}

/** What speaks against a set of regions, a line for each problem; each names where it is. */
export function problemsOfRegions(all: readonly Region[], distances: Distances): string[] {
  const byName = new Map(all.map((region) => [region.name, region]))
  const problems: string[] = []
  for (const { name, peers, zone } of all) {
    if (name === NEAREST_REGION) problems.push(`regions.${name}: no region may be named so: endpoints ask for their nearest region by it`)
    for (const peer of peers) {
      const other = byName.get(peer)
      if (other === undefined) problems.push(`regions.${name}.peers: there is no region ${JSON.stringify(peer)}`)
      else if (peer === name) problems.push(`regions.${name}.peers: a region is not its own peer`)
      else if (zone !== null && other.zone !== zone) {
        problems.push(`regions.${name}.peers: ${peer} is not in the zone ${JSON.stringify(zone)}, which the data of ${name} must not leave`)
      }
    }
    if (new Set(peers).size < peers.length) problems.push(`regions.${name}.peers: a peer is named twice`)
  }
  for (const pair of Object.keys(distances)) {
    const names = pair.split('|')
    const unknown = names.filter((name) => !byName.has(name))
    if (names.length !== 2) problems.push(`distancesMs.${pair}: must be two regions with a | between`)
    else if (unknown.length > 0) problems.push(`distancesMs.${pair}: there is no region ${JSON.stringify(unknown[0])}`)
  }
  return problems
}
