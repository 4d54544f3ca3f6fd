import type { AutoscaleView } from '../domain/autoscale.ts'
import { activeOverride } from '../domain/scaling-control.ts'
import { countText, durationText, percentText, workersText } from '../domain/scaling-texts.ts'
import type { ScalingDecision } from '../domain/scaling.ts'

const LAST_DECISIONS = 10

/** What `status` prints. */
export function statusText(view: AutoscaleView): string {
  const { state, control, target, pool, rules, sample, decisions } = view
  const workers = state.workers === null ? 'unknown' : workersText(state.workers)
  const override = activeOverride(control, Date.now())
  const lines = [
    `pool ${pool} at the target ${target}: ${workers} (${countText(rules.min)} to ${countText(rules.max)})`,
    ...(control.paused ? ['paused by an operator'] : []),
    ...(override === null ? [] : [`${workersText(override.workers)} by an operator until ${untilText(override.untilMs)}`]),
    ...(view.refused === undefined ? [] : [`refused: ${view.refused}`]),
    ...sampleLines(sample),
  ]
  return [...lines, '', decisionTable(decisions.slice(0, LAST_DECISIONS))].join('\n')
}

function sampleLines(sample: AutoscaleView['sample']): string[] {
  if (sample === null) return ['no sample yet']
  const at = new Date(sample.atMs).toISOString()
  if ('missing' in sample) return [`no sample at ${at}: ${sample.missing}`]
  const { depth, oldestMs, rateLimited, utilisation, firstRequestP99Ms, attempts, endpointFailures, ownFailures } = sample
  const share = (failures: number) => (attempts === 0 ? '-' : percentText(failures / attempts))
  return [
    `at ${at}: ${countText(sample.ready)} run, ${countText(depth)} wait (the oldest ${durationText(oldestMs)}), ${countText(rateLimited)} for their endpoints`,
    `utilisation ${utilisation === null ? '-' : percentText(utilisation)}, p99 to the first request ${firstRequestP99Ms === null ? '-' : durationText(firstRequestP99Ms)}, ` +
      `failures ${share(endpointFailures)} by endpoints and ${share(ownFailures)} of our own of ${countText(attempts)} requests`,
  ]
}

/** One decision a line, the newest first. */
export function decisionTable(decisions: readonly ScalingDecision[]): string {
  if (decisions.length === 0) return 'no decisions yet'
  return decisions
    .map(({ atMs, action, from, to, rule, reason }) => {
      const workers = action === 'hold' ? `${to ?? '?'}` : `${from ?? '?'} -> ${to ?? '?'}`
      return `${new Date(atMs).toISOString()}  ${action.padEnd(4)}  ${workers.padEnd(14)}  ${rule.padEnd(17)}  ${reason}`
    })
    .join('\n')
}

function untilText(untilMs: number | null): string {
  return untilMs === null ? 'it is cleared' : new Date(untilMs).toISOString()
}
