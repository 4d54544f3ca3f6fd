/** The regions of a drill, and what is done to them: those of the example in `config/regions.json`. */
import { join } from 'node:path'
import { readRegions } from '../../config/regions.ts'
import type { Region, Regions } from '../../domain/regions.ts'

const EXAMPLE = join(import.meta.dirname, '..', '..', 'config', 'regions.json')

/** The region that is lost, and the one that takes over. */
const HOME = 'us-east'
const PEER = 'us-west'

export interface DrillPlan {
  readonly regions: readonly Region[]
  /** The region that is killed. */
  readonly home: string
  /** The region that takes over. */
  readonly peer: string
  /** Two regions that are cut off from each other for a while. */
  readonly split: readonly [string, string]
  /** The region whose applications must not leave it; undefined: there is none. */
  readonly resident: string | undefined
  /** Where configuration is written, and the regions that confirm it: none where it is one server. */
  readonly configuration: { readonly leader: string; readonly confirming: readonly string[] }
  /** Round trip in milliseconds. */
  distanceMs(from: string, to: string): number
}

/**
 * Four regions as in the example: `us-west` is a standby. Two: `us-east` and `us-west`, both active and each other's peer.
 */
export function planDrill(count: 2 | 4): DrillPlan {
  const { regions: example, problems } = readRegions(EXAMPLE, HOME)
  if (example === undefined) throw new Error(`config/regions.json: ${problems.join('; ')}`)
  const regions = count === 4 ? example.all : [HOME, PEER].map((name) => activeOf(example, name))
  const confirming = regions.map(({ name }) => name).filter((name) => name !== PEER && mayConfirm(example, name))
  return {
    regions,
    home: HOME,
    peer: PEER,
    split: count === 4 ? [HOME, 'eu-west'] : [HOME, PEER],
    resident: regions.find(({ zone }) => zone !== null)?.name,
    configuration: { leader: PEER, confirming: count === 4 ? confirming : [] },
    distanceMs: (from, to) => example.distanceMs(from, to),
  }
}

function activeOf(example: Regions, name: string): Region {
  return { ...example.get(name), role: 'active', peers: [name === HOME ? PEER : HOME] }
}

/** Configuration without a zone is kept in regions without one. */
function mayConfirm(example: Regions, name: string): boolean {
  return example.get(name).zone === null
}

/** Regions that are published to. */
export function activeRegions({ regions }: DrillPlan): Region[] {
  return regions.filter(({ role }) => role === 'active')
}

/** How far an endpoint is from where its message was accepted. */
export type Reach = 'same' | 'cross' | 'global'

/** A region of each reach, as one region sees the others that deliver: the nearest, and the furthest where that is another. */
export function reachesFrom({ regions, distanceMs }: DrillPlan, from: string): { readonly reach: Reach; readonly region: string }[] {
  const others = regions.filter(({ name, role }) => name !== from && role === 'active')
  const byDistance = others.toSorted((a, b) => distanceMs(from, a.name) - distanceMs(from, b.name))
  const [near] = byDistance
  const far = byDistance.at(-1)
  return [
    { reach: 'same', region: from },
    ...(near === undefined ? [] : [{ reach: 'cross' as const, region: near.name }]),
    ...(far === undefined || far === near ? [] : [{ reach: 'global' as const, region: far.name }]),
  ]
}
