/** What the workflow of a background task is started with; all else is in the task's row. */
export interface TaskInput {
  /** `qtask_…` */
  readonly taskId: string
}

/** How far a step of a background task has come. */
export interface TaskStep {
  readonly done: boolean
  /** What is left can only be done after this time. */
  readonly waitMs?: number
}
