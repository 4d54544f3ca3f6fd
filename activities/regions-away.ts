import type { Logger } from 'pino'
import { LIMITS } from '../domain/limits.ts'

/** Regions that did not answer of late, as this process knows. */
export interface RegionsAway {
  /** Whether a first try would be in vain. */
  rests(region: string): boolean
  /** Whether the group is one of the few that try a region that rests. */
  mayProbe(region: string, groupId: string): boolean
  answered(region: string): void
  /** @param late it may answer yet: a region that answers others meanwhile is slow, and not away */
  didNotAnswer(region: string, reason: string, late: boolean): void
}

interface Away {
  untilMs: number
  /** When each of the groups that try it did so last. */
  readonly probers: Map<string, number>
}

/** A region that has answered within this is there. */
const ANSWERS_FOR_MS = 5000
/** Its next try may be with another process. */
const PROBER_GONE_MS = 60_000

/** @param onBack told when a region answers that did not */
export function createRegionsAway(log: Logger, onBack: (region: string) => void): RegionsAway {
  const away = new Map<string, Away>()
  const answeredAtMs = new Map<string, number>()
  return {
    rests: (region) => (away.get(region)?.untilMs ?? 0) > Date.now(),
    mayProbe(region, groupId) {
      const probers = away.get(region)?.probers
      if (probers === undefined) return true
      const nowMs = Date.now()
      for (const [other, atMs] of probers) if (atMs < nowMs - PROBER_GONE_MS) probers.delete(other)
      if (!probers.has(groupId) && probers.size >= LIMITS.handOverProbers) return false
      probers.set(groupId, nowMs)
      return true
    },
    answered(region) {
      answeredAtMs.set(region, Date.now())
      if (!away.delete(region)) return
      log.info({ region }, 'handover.region-back')
      onBack(region)
    },
    didNotAnswer(region, reason, late) {
      if (late && (answeredAtMs.get(region) ?? 0) > Date.now() - ANSWERS_FOR_MS) return
      const known = away.get(region)
      const untilMs = Date.now() + LIMITS.handOverRestMs
      if (known !== undefined) known.untilMs = untilMs
      else away.set(region, { untilMs, probers: new Map() })
      if (known === undefined) log.warn({ region, reason }, 'handover.region-away')
    },
  }
}
