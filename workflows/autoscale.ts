import {
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  isCancellation,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow'
import type { AutoscaleActivities } from '../activities/autoscale.ts'
import type { AutoscaleInput, AutoscaleMemory, AutoscaleSettings, AutoscaleView } from '../domain/autoscale.ts'
import { activeOverride, decideUnder, isOverride, NO_CONTROL } from '../domain/scaling-control.ts'
import { workersText } from '../domain/scaling-texts.ts'
import { FRESH_STATE, type MissingSample, type ScalingDecision, type ScalingSample } from '../domain/scaling.ts'

export const pause = defineSignal('pause')
export const resume = defineSignal('resume')
/** So many workers, whatever the rules say; until then (ISO 8601), or until `clear`. */
export const override = defineSignal<[{ readonly workers: number; readonly until?: string | undefined }]>('override')
export const clear = defineSignal('clear')
/** The autoscaler's process has started, perhaps with other settings. */
export const configure = defineSignal<[AutoscaleSettings]>('configure')
export const state = defineQuery<AutoscaleView>('state')

const DECISIONS_REMEMBERED = 20
const UNKEPT_MAX = 50
/** The server takes 400 bytes of a summary; signs of reasons are ASCII. */
const SUMMARY_MAX_CHARS = 200

const ACTIVITY = { startToCloseTimeout: '30s', scheduleToCloseTimeout: '1m', retry: { maximumAttempts: 3 } } as const
const { sampleFleet, keepDecisions } = proxyActivities<AutoscaleActivities>(ACTIVITY)

/** Keeps a pool of workers as large as its work needs: looks, decides by the rules, acts, and remembers why. Never ends. */
export async function autoscale(input: AutoscaleInput): Promise<void> {
  const { pool } = input
  let { target, rules } = input
  let memory: AutoscaleMemory = input.memory ?? { state: FRESH_STATE, control: NO_CONTROL, sample: null, decisions: [], unkept: [] }
  let poked = false
  const change = (changes: Partial<AutoscaleMemory>) => {
    memory = { ...memory, ...changes }
    setCurrentDetails(detailsOf(memory, target))
  }
  const control = (changes: Partial<AutoscaleMemory['control']>) => {
    change({ control: { ...memory.control, ...changes }, refused: undefined })
    poked = true
  }
  setHandler(state, () => {
    const { state: now, control: said, sample, decisions, refused } = memory
    return { pool, target, rules, state: now, control: said, sample, decisions, refused }
  })
  setHandler(pause, () => control({ paused: true }))
  setHandler(resume, () => control({ paused: false }))
  setHandler(clear, () => control({ override: null }))
  setHandler(override, (asked) => {
    const untilMs = asked?.until === undefined ? null : Date.parse(asked.until)
    const isTime = untilMs === null || untilMs > Date.now()
    if (isOverride(asked?.workers, rules) && isTime) control({ override: { workers: asked.workers, untilMs } })
    else change({ refused: `override ${JSON.stringify(asked)}: needs workers from 0 to ${rules.max}, and until a time to come or nothing` })
  })
  setHandler(configure, (settings) => {
    target = settings.target
    rules = settings.rules
    poked = true
  })
  for (;;) {
    const beganAtMs = Date.now()
    poked = false
    const sample = await takeSample()
    const decided = decideUnder(memory.control, memory.state, sample, rules)
    const after = await act(decided.decision)
    const acted = after === decided.decision
    const { scaledUpAtMs, scaledDownAtMs } = acted ? decided.state : memory.state
    const workers = acted ? decided.state.workers : after.to
    change({ sample, state: { ...decided.state, workers, scaledUpAtMs, scaledDownAtMs }, ...withDecision(memory, after, sample) })
    if (activeOverride(memory.control, Date.now()) === null && memory.control.override !== null) control({ override: null })
    await keep(memory, change)
    const waitMs = Math.max(1, rules.intervalMs - (Date.now() - beganAtMs))
    await condition(() => poked, waitMs, { summary: short(`${after.action} at ${after.to ?? 'unknown'}, ${after.rule}: ${after.reason}`) })
    if (workflowInfo().continueAsNewSuggested && !poked) await continueAsNew<typeof autoscale>({ pool, target, rules, memory })
  }
}

/** The activity says itself what it could not see; it fails only where its process is gone. */
async function takeSample(): Promise<ScalingSample | MissingSample> {
  try {
    return await sampleFleet()
  } catch (error) {
    if (isCancellation(error)) throw error
    return { atMs: Date.now(), missing: 'the activity did not end' }
  }
}

/** Does what was decided. @returns the decision; or a hold that says that it could not be done, and is tried at the next sample */
async function act(decision: ScalingDecision): Promise<ScalingDecision> {
  if (decision.action === 'hold' || decision.to === null) return decision
  const { action, from, to, rule, reason } = decision
  const summary = short(`${action} ${from ?? 'unknown'} to ${to}, ${rule}: ${reason}`)
  try {
    await proxyActivities<AutoscaleActivities>({ ...ACTIVITY, summary }).scaleFleet({ workers: to })
    return decision
  } catch (error) {
    if (isCancellation(error)) throw error
    return {
      ...decision,
      action: 'hold',
      to: from,
      rule: 'target',
      reason: `the target could not be told to go to ${workersText(to)}: ${reason}`,
    }
  }
}

/** Remembers a change, and a hold that is not for the same rule as the decision before. */
function withDecision({ decisions, unkept }: AutoscaleMemory, decision: ScalingDecision, sample: ScalingSample | MissingSample) {
  const [last] = decisions
  if (decision.action === 'hold' && last?.action === 'hold' && last.rule === decision.rule && last.to === decision.to) return {}
  const kept = { decision, sample: 'missing' in sample ? null : sample }
  return { decisions: [decision, ...decisions].slice(0, DECISIONS_REMEMBERED), unkept: [...unkept, kept].slice(-UNKEPT_MAX) }
}

/** Puts what is not in Postgres there; while Postgres is away it is tried again at each sample. */
async function keep({ unkept }: AutoscaleMemory, change: (changes: Partial<AutoscaleMemory>) => void): Promise<void> {
  if (unkept.length === 0) return
  try {
    await keepDecisions({ decisions: unkept })
    change({ unkept: [] })
  } catch (error) {
    if (isCancellation(error)) throw error
  }
}

/** What the Web UI shows of the workflow. */
function detailsOf({ control, state: { workers }, decisions, refused }: AutoscaleMemory, target: string): string {
  const lines = [`**${workers === null ? 'unknown' : workersText(workers)}** at the target ${target}${control.paused ? ', paused' : ''}`]
  if (control.override !== null) lines.push(`an operator asked for ${workersText(control.override.workers)}`)
  if (refused !== undefined) lines.push(`refused: ${refused}`)
  const table = decisions.map(({ atMs, action, from, to, rule, reason }) => {
    const change = action === 'hold' ? `${to ?? '?'}` : `${from ?? '?'} to ${to ?? '?'}`
    return `| ${new Date(atMs).toISOString()} | ${action} | ${change} | ${rule} | ${reason} |`
  })
  return [...lines, '', '| time | decision | workers | rule | reason |', '| --- | --- | --- | --- | --- |', ...table].join('\n')
}

function short(text: string): string {
  return text.length <= SUMMARY_MAX_CHARS ? text : `${text.slice(0, SUMMARY_MAX_CHARS - 1)}…`
}
