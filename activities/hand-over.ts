import { activityInfo, ApplicationFailure, Context } from '@temporalio/activity'
import { ApplicationFailureCategory } from '@temporalio/common'
import type { Remaining } from '../domain/fan-out.ts'
import type { HandOverInput, HandOverResult } from '../domain/handover.ts'
import { LIMITS } from '../domain/limits.ts'
import type { ConfigCache } from '../storage/config-cache.ts'
import { readKeptHere, readWaitingGroups, type KeptHere } from '../storage/handed-over.ts'
import { handAll, keepAll, type HandOverDependencies } from './handing.ts'
import { createRegionsAway } from './regions-away.ts'

const HEARTBEAT_MS = 2000

/** The activity that hands deliveries to another region. */
export function createHandOver(deps: HandOverDependencies) {
  const { pool, stopping } = deps
  const away = createRegionsAway(deps.log, (region) => {
    drain(region).catch((error: unknown) => deps.log.warn({ region, err: error }, 'handover.drain-failed'))
  })
  const hand = (groupId: string, region: string, options: { timeoutMs: number; signal: AbortSignal }) =>
    handAll(deps, {
      groupId,
      region,
      ...options,
      onAnswer: () => away.answered(region),
      onNone: (reason, late) => away.didNotAnswer(region, reason, late),
    })

  /** What waits for a region that is back is handed to it, whosever it is: most groups would try again minutes later. */
  const drain = async (region: string) => {
    const options = { timeoutMs: LIMITS.handOverTimeoutMs, signal: stopping }
    const seen = new Set<string>()
    for (;;) {
      const groups = await readWaitingGroups(pool, region, { except: [...seen], limit: LIMITS.handOverDrainGroups })
      if (groups.length === 0 || stopping.aborted) return
      for (const id of groups) seen.add(id)
      const waits = await Promise.all(groups.map((groupId) => hand(groupId, region, options)))
      if (waits.some((one) => one?.isAway === true)) return
    }
  }

  return {
    /**
     * Hands what waits of a group to its region, and gives what the region does not take back to the fan-out. First tried as a
     * local activity, which waits for nothing and tells that something waits; then retried by the server until nothing does.
     */
    async handOver({ groupId, region, afterEndpointId, giveUp }: HandOverInput): Promise<HandOverResult> {
      const { isLocal, scheduledTimestampMs } = activityInfo()
      if (giveUp === true) await keepAll(deps, { groupId, region })
      else if (afterEndpointId === undefined) {
        const leftMs = scheduledTimestampMs + LIMITS.handOverWaitMaxMs * deps.retryTimeScale - Date.now()
        if (away.rests(region) && leftMs > 0 && (isLocal || !away.mayProbe(region, groupId))) {
          const reason = `the region ${region} did not answer others of late`
          if (isLocal) return { here: [], waits: reason }
          throw waitsFor(reason, Math.min(leftMs, LIMITS.handOverLongWaitMs * (0.8 + 0.2 * Math.random())))
        }
        const waits = await (isLocal ? handSoon(groupId, region) : handPatiently(groupId, region))
        if (waits !== undefined && isLocal) return { here: [], waits: waits.reason }
        if (waits !== undefined) throw waitsFor(waits.reason)
      }
      const kept = await readKeptHere(pool, { groupId, region }, afterEndpointId, LIMITS.deliveriesPerTask)
      return kept.length === 0 ? { here: [] } : toResult(deps.configCache, kept)
    },
  }

  function handSoon(groupId: string, region: string) {
    const timeoutMs = LIMITS.handOverFirstTimeoutMs
    return hand(groupId, region, { timeoutMs, signal: AbortSignal.any([AbortSignal.timeout(timeoutMs), stopping]) })
  }

  function handPatiently(groupId: string, region: string) {
    const context = Context.current()
    const beat = setInterval(() => context.heartbeat(), HEARTBEAT_MS)
    const signal = AbortSignal.any([context.cancellationSignal, stopping])
    return hand(groupId, region, { timeoutMs: LIMITS.handOverTimeoutMs, signal }).finally(() => clearInterval(beat))
  }
}

/** Whole endpoints, as many as a result may name. What is gone or disabled meanwhile gets nothing, as in any fan-out. */
async function toResult(configCache: ConfigCache, kept: readonly KeptHere[]): Promise<HandOverResult> {
  const here: Remaining[] = []
  let deliveries = 0
  for (const [i, { endpointId, appId, messageIds }] of kept.entries()) {
    deliveries += messageIds.length
    if (i > 0 && deliveries > LIMITS.deliveriesPerTask) return { here, afterEndpointId: kept[i - 1]!.endpointId }
    const endpoint = (await configCache.endpoints(appId)).byId.get(endpointId)
    if (endpoint !== undefined && !endpoint.disabled) here.push({ endpointId, host: endpoint.host, how: 'fast', messageIds })
  }
  return kept.length < LIMITS.deliveriesPerTask ? { here } : { here, afterEndpointId: kept.at(-1)!.endpointId }
}

/** @param nextRetryDelay milliseconds; absent: as the activity's policy has it */
function waitsFor(reason: string, nextRetryDelay?: number): ApplicationFailure {
  const more = nextRetryDelay === undefined ? {} : { nextRetryDelay: Math.ceil(nextRetryDelay) }
  const failure = ApplicationFailure.create({ type: 'RegionWaits', message: reason, category: ApplicationFailureCategory.BENIGN, ...more })
  failure.stack = ''
  return failure
}
