import { setTimeout as delay } from 'node:timers/promises'

const POLL_MS = 200

export interface Deadline {
  /** What is waited for, for the error. */
  readonly what: string
  readonly withinMs: number
  /** What is known when it did not come, for the error. */
  readonly told?: () => string
}

/**
 * Asks again and again until the answer is something. What `ask` throws is an answer not yet given: servers are away here.
 * @throws when the deadline passes, with the last thing thrown as the cause
 */
export async function eventually<T>(deadline: Deadline, ask: () => Promise<T | undefined | false> | T | undefined | false): Promise<T> {
  const end = performance.now() + deadline.withinMs
  let cause: unknown
  for (;;) {
    try {
      const answer = await ask()
      if (answer !== undefined && answer !== false) return answer
    } catch (error) {
      cause = error
    }
    if (performance.now() > end) {
      const told = deadline.told === undefined ? '' : `: ${deadline.told()}`
      throw new Error(`${deadline.what} did not come about in ${deadline.withinMs} ms${told}`, { cause })
    }
    await delay(POLL_MS)
  }
}
