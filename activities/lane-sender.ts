import type { AttemptOutcome } from '../domain/outcome.ts'
import type { AttemptInput, Disposition, MakeAttempt } from './attempt.ts'
import type { Answered, Refusal, RequestSlots, Slot } from './request-slots.ts'

/** One request on its way. */
export interface Sending {
  /** Unix milliseconds when the request was handed to the connection. */
  readonly sentAtMs: number
  readonly done: Promise<Disposition>
  /** The endpoint is silent: frees what other endpoints share while the request goes on. */
  detach(): void
}

/** Sends within the slots of one lane. */
export type LaneSender = (input: AttemptInput) => Promise<Sending | Refusal>

const QUICK_MS = 1000

export function createLaneSender(slots: RequestSlots, makeAttempt: MakeAttempt): LaneSender {
  return async (input) => {
    const granted = slots.acquire(input.endpoint.id, input.endpoint.host)
    const slot = granted instanceof Promise ? await granted : granted
    if (typeof slot === 'string') return slot
    return begin(slot, input, makeAttempt)
  }
}

function begin(slot: Slot, input: AttemptInput, makeAttempt: MakeAttempt): Sending {
  const { answered, done } = makeAttempt(input)
  answered.then(
    (outcome) => slot.release(speedOf(outcome)),
    () => slot.release('never'),
  )
  return { sentAtMs: Date.now(), done, detach: () => slot.detach() }
}

function speedOf(outcome: AttemptOutcome): Answered {
  if (outcome.durationMs < QUICK_MS) return 'quickly'
  return outcome.statusCode > 0 ? 'slowly' : 'never'
}
