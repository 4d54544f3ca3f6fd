import { tallyOf } from '../domain/health.ts'
import { QUICK_MS, SLOW_ABOVE_MS } from '../domain/lanes.ts'
import type { AttemptOutcome } from '../domain/outcome.ts'
import type { Recorder } from '../storage/recorder.ts'
import type { Admission, Held } from './admission.ts'
import type { AttemptInput, Disposition, MakeAttempt } from './attempt.ts'
import type { Answered, Refusal, RequestSlots, Slot } from './request-slots.ts'
import type { SlowEndpoints } from './slow-endpoints.ts'

/** One request on its way. */
export interface Sending {
  /** Unix milliseconds when the request was handed to the connection. */
  readonly sentAtMs: number
  /** Absent where no request was made: the delivery is parked. */
  readonly answered?: Promise<AttemptOutcome>
  readonly done: Promise<Disposition>
  /** The endpoint is silent: frees what other endpoints share while the request goes on. */
  detach(): void
}

/** Sends within the slots of one lane. */
export type LaneSender = (input: AttemptInput) => Promise<Sending | Refusal>

export function createLaneSender(slots: RequestSlots, makeAttempt: MakeAttempt, slow?: SlowEndpoints): LaneSender {
  return async (input) => {
    const granted = slots.acquire(input.endpoint.id, input.endpoint.host)
    const slot = granted instanceof Promise ? await granted : granted
    if (typeof slot === 'string') return slot
    return begin(slot, input, { makeAttempt, slow })
  }
}

/** Asks before a slot is taken; what may not be sent now is left to the endpoint's mailbox. */
export function createGate(send: LaneSender, deps: { admission: Admission; recorder: Recorder }): LaneSender {
  return async (input) => {
    const checked = deps.admission.check(input.endpoint, input.attemptsBefore > 0 ? 'retry' : 'first')
    const held = checked === undefined ? undefined : await checked
    return held === undefined ? send(input) : { sentAtMs: Date.now(), done: park(deps.recorder, input, held), detach: () => undefined }
  }
}

/** No request was made, so none is counted. */
async function park(recorder: Recorder, input: AttemptInput, held: Held): Promise<Disposition> {
  const { message, endpoint, trigger, groupId, retried } = input
  const change = { state: 'parked', attempts: input.attemptsBefore, nextAtMs: held.untilMs, retried } as const
  await recorder.record({ messageId: message.id, endpointId: endpoint.id, appId: message.appId, trigger, groupId, change })
  return { kind: 'parked' }
}

function begin(
  slot: Slot,
  input: AttemptInput,
  { makeAttempt, slow }: { makeAttempt: MakeAttempt; slow?: SlowEndpoints | undefined },
): Sending {
  const endpointId = input.endpoint.id
  const { answered, done } = makeAttempt(input)
  let silence: NodeJS.Timeout | undefined
  const ended = (speed: Answered, durationMs: number | undefined) => {
    clearTimeout(silence)
    slot.release(speed)
    if (durationMs !== undefined) slow?.observe(endpointId, speed === 'never' ? Infinity : durationMs)
  }
  answered.then(
    (outcome) => ended(speedOf(outcome), tallyOf(outcome) === undefined ? undefined : outcome.durationMs),
    () => ended('never', undefined),
  )
  const detach = () => {
    slot.detach()
    // An endpoint that hangs is moved before its request has run out of time.
    silence ??= setTimeout(() => slow?.observe(endpointId, Infinity), SLOW_ABOVE_MS - QUICK_MS).unref()
  }
  return { sentAtMs: Date.now(), answered, done, detach }
}

function speedOf(outcome: AttemptOutcome): Answered {
  if (outcome.durationMs < QUICK_MS) return 'quickly'
  return outcome.statusCode > 0 ? 'slowly' : 'never'
}
