/** How urgent messages and endpoints are: shares of what can be done, never a strict order. */

/** The most urgent first. */
export const PRIORITIES = ['high', 'medium', 'low'] as const
export type Priority = (typeof PRIORITIES)[number]

/** Turns of each priority for as long as all of them wait: whole numbers from 1. */
export type PriorityWeights = Readonly<Record<Priority, number>>

export const DEFAULT_WEIGHTS: PriorityWeights = { high: 8, medium: 4, low: 1 }

/** What is not told is medium. */
export const DEFAULT_PRIORITY: Priority = 'medium'

const STEPS = { high: -1, medium: 0, low: 1 } as const satisfies Record<Priority, number>

/**
 * The priority of one message at one endpoint: an endpoint of high priority raises the message's by one step, one of low
 * priority lowers it by one, one of medium leaves it.
 */
export function combine(message: Priority, endpoint: Priority): Priority {
  return PRIORITIES[Math.min(2, Math.max(0, PRIORITIES.indexOf(message) + STEPS[endpoint]))]!
}

/** The more urgent of two. */
export function higher(a: Priority, b: Priority): Priority {
  return PRIORITIES.indexOf(a) <= PRIORITIES.indexOf(b) ? a : b
}

/** Whose turn it is: each application has one line for each of its priorities. */
export function lineOf(appId: string, priority: Priority): string {
  return priority === DEFAULT_PRIORITY ? appId : `${appId}:${priority}`
}
