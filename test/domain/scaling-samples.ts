import type { ScalingSample } from '../../domain/scaling.ts'

export const T0 = 1_790_000_000_000

/** Of a fleet of which the rules want nothing. */
export const CALM: ScalingSample = {
  atMs: T0,
  workers: 100,
  ready: 100,
  depth: 5000,
  rateLimited: 0,
  oldestMs: 100,
  utilisation: 0.5,
  firstRequestP99Ms: 200,
  firstRequests: 1000,
  attempts: 1000,
  endpointFailures: 0,
  ownFailures: 0,
}
