import type { ScalingControl } from './scaling-control.ts'
import type { ScalingRules } from './scaling-rules.ts'
import type { MissingSample, ScalingDecision, ScalingSample, ScalingState } from './scaling.ts'

/** What the autoscaler's process says when it starts. */
export interface AutoscaleSettings {
  /** Name of the target. */
  readonly target: string
  readonly rules: ScalingRules
}

/** A decision, and the sample that it was made by; null where none could be taken. */
export interface KeptDecision {
  readonly decision: ScalingDecision
  readonly sample: ScalingSample | null
}

/** What a run of the workflow hands to the next. */
export interface AutoscaleMemory {
  readonly state: ScalingState
  readonly control: ScalingControl
  readonly sample: ScalingSample | MissingSample | null
  /** Changes and holds for a new reason, the newest first. */
  readonly decisions: readonly ScalingDecision[]
  /** Of them those that are not in Postgres yet, the oldest first. */
  readonly unkept: readonly KeptDecision[]
  /** The last thing that an operator asked for and that was no sensible request. */
  readonly refused?: string | undefined
}

export interface AutoscaleInput extends AutoscaleSettings {
  readonly pool: string
  readonly memory?: AutoscaleMemory
}

/** The answer to the query `state`. */
export interface AutoscaleView extends Omit<AutoscaleMemory, 'unkept'>, AutoscaleSettings {
  readonly pool: string
}
