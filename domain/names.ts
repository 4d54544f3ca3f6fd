/** Names that Temporal keeps for ever: workflow ids, task queues, search attributes. Built here and nowhere else. */

export const FAN_OUT_TASK_QUEUE = 'fan-out'

/** `fast` endpoints answer within a second, `slow` ones do not, `retry` carries what failed once. Design section 4. */
export const LANES = ['fast', 'slow', 'retry'] as const
export type Lane = (typeof LANES)[number]

export function deliverTaskQueue(lane: Lane, partition: number): string {
  return `deliver-${lane}-${partition}`
}

/** The task queue that only the process with a request in flight polls, so that an activity can attach to the request. */
export function attachTaskQueue(processId: string): string {
  return `attach-${processId}`
}

/** Carries what waits to be handed to one region: another that cannot be reached holds no places here. */
export function handOverTaskQueue(region: string): string {
  return `hand-over-${region}`
}

/** @param groupId id of the group's first message, or of the outbox row where one message is sent again */
export function fanOutWorkflowId(groupId: string, part = 0): string {
  return part === 0 ? `fan-out/${groupId}` : `fan-out/${groupId}/${part}`
}

/** What the id of an endpoint's mailbox begins with: the group of deliveries that no fan-out carries is named after it. */
export const MAILBOX_PREFIX = 'mailbox/'

export function mailboxWorkflowId(endpointId: string): string {
  return `${MAILBOX_PREFIX}${endpointId}`
}

/** The workflow that carries the deliveries of a group. */
export function workflowIdOfGroup(groupId: string): string {
  return groupId.startsWith(MAILBOX_PREFIX) ? groupId : fanOutWorkflowId(groupId)
}

export function replayWorkflowId(taskId: string): string {
  return `replay/${taskId}`
}

export function taskWorkflowId(taskId: string): string {
  return `task/${taskId}`
}

/** One for all messages that wait for their time. */
export const SCHEDULE_WORKFLOW_ID = 'schedule'

/** Of the Temporal Schedule that runs the retention, and of its runs, which Temporal tells apart by their times. */
export const RETENTION_SCHEDULE_ID = 'retention'
export const RETENTION_WORKFLOW_ID = 'retention'

/** What the autoscaler's process polls: its activities act where the workers are. */
export const AUTOSCALE_TASK_QUEUE = 'autoscale'

/** @param pool of workers that are scaled together */
export function autoscaleWorkflowId(pool: string): string {
  return `autoscale/${pool}`
}

/** Keyword lists: SQL visibility has room for three in a namespace. */
export const SEARCH_ATTRIBUTES = {
  messages: 'MessageIds',
  applications: 'ApplicationIds',
  eventTypes: 'EventTypes',
} as const

/** Same endpoint, same partition, so that a worker keeps its connections and its cache warm. FNV-1a, 32 bits. */
export function partitionOf(endpointId: string, partitions: number): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < endpointId.length; i++) hash = Math.imul(hash ^ endpointId.charCodeAt(i), 0x01000193)
  return (hash >>> 0) % partitions
}
