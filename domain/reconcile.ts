/** Which messages a reconciliation looks through, and what it may do. */
export interface ReconcileRequest {
  /** ISO 8601; the first instant included. */
  readonly since: string
  /** ISO 8601; the first instant no longer included. What was accepted just now is under way. */
  readonly until: string
  /** Whether also what endpoints would get that were changed after the message is put into the outbox. */
  readonly changed: boolean
  /** Counts, and changes nothing. */
  readonly dryRun: boolean
}

export interface ReconcileCounts {
  /** Looked through. */
  readonly messages: number
  /** Deliveries of which nothing was known: put into the outbox again. */
  readonly put: number
  /** Deliveries that waited for a retry of a workflow that is not there: left to their endpoint's mailbox. */
  readonly parked: number
  /** Deliveries that were left alone because a fan-out that carries their message is open. */
  readonly carried: number
  /** Deliveries of which nothing is known to endpoints that were changed after the message: left alone unless asked for. */
  readonly changed: number
  /** Mailboxes with something due and without a workflow, which were woken. */
  readonly mailboxes: number
  /** Background tasks that had not ended and had no workflow, which are started again. */
  readonly tasks: number
}

/** How far a reconciliation is. */
export interface ReconcileProgress extends ReconcileCounts {
  readonly phase: 'messages' | 'mailboxes' | 'tasks' | 'over'
  /** The last message, or mailbox's endpoint, that was looked at. */
  readonly after: string
  /** Of the last message: the last endpoint that was looked at, where not all were. */
  readonly afterEndpointId: string | null
}

export function beginReconcile(firstId: string): ReconcileProgress {
  const none = { messages: 0, put: 0, parked: 0, carried: 0, changed: 0, mailboxes: 0, tasks: 0 }
  return { ...none, phase: 'messages', after: firstId, afterEndpointId: null }
}

/** A delivery whose whereabouts Postgres does not tell. */
export type Unsettled =
  | { readonly kind: 'missing' | 'changed'; readonly messageId: string; readonly endpointId: string }
  | {
      readonly kind: 'retrying'
      readonly messageId: string
      readonly endpointId: string
      readonly groupId: string
      /** Requests made. */
      readonly attempts: number
    }

/** Splits deliveries by whether an open fan-out carries their message, and those that none does by what is to be done. */
export function sortUnsettled(deliveries: readonly Unsettled[], carrying: ReadonlySet<string>) {
  const lost = deliveries.filter(({ messageId }) => !carrying.has(messageId))
  return {
    carried: deliveries.length - lost.length,
    missing: lost.filter((one) => one.kind !== 'retrying'),
    retrying: lost.filter((one) => one.kind === 'retrying'),
  }
}
