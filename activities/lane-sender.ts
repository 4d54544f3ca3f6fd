import { tallyOf } from '../domain/health.ts'
import { QUICK_MS, SLOW_ABOVE_MS } from '../domain/lanes.ts'
import type { AttemptOutcome } from '../domain/outcome.ts'
import { combine, DEFAULT_PRIORITY } from '../domain/priority.ts'
import type { EndpointHealth } from '../storage/endpoint-health.ts'
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
    const granted = slotFor(slots, input)
    const slot = unlessLost(granted instanceof Promise ? await granted : granted, input)
    return typeof slot === 'string' ? slot : begin(slot, input, { makeAttempt, slow })
  }
}

export interface Gate {
  readonly admission: Admission
  readonly health: Pick<EndpointHealth, 'tipping'>
  readonly recorder: Recorder
}

/**
 * Asks before a slot is taken, and looks again when it has one: a breaker may have opened while the request waited, or open
 * by what was answered meanwhile. What may not be sent now is left to the endpoint's mailbox.
 */
export function createGatedSender(
  slots: RequestSlots,
  makeAttempt: MakeAttempt,
  { slow, gate }: { slow: SlowEndpoints; gate: Gate },
): LaneSender {
  return async (input) => {
    const purpose = input.attemptsBefore > 0 ? 'retry' : 'first'
    const checked = gate.admission.check(input.endpoint, purpose)
    const held = checked === undefined ? undefined : await checked
    if (held !== undefined) return parked(gate.recorder, input, held)
    const granted = slotFor(slots, input)
    const slot = unlessLost(granted instanceof Promise ? await granted : granted, input)
    if (typeof slot === 'string') return slot
    const tipping = input.endpoint.circuitBreaker ? gate.health.tipping(input.endpoint.id) : undefined
    if (tipping !== undefined) await tipping
    const heldSince = gate.admission.look(input.endpoint, purpose)
    if (heldSince === undefined) return begin(slot, input, { makeAttempt, slow })
    slot.release('slowly')
    return parked(gate.recorder, input, heldSince)
  }
}

function slotFor(slots: RequestSlots, { endpoint, message }: AttemptInput): ReturnType<RequestSlots['acquire']> {
  return slots.acquire(endpoint.id, endpoint.host, combine(message.priority ?? DEFAULT_PRIORITY, endpoint.priority))
}

function unlessLost(slot: Slot | Refusal, { lost }: AttemptInput): Slot | Refusal {
  if (lost?.aborted !== true || typeof slot === 'string') return slot
  slot.release('slowly')
  return 'busy'
}

function parked(recorder: Recorder, input: AttemptInput, held: Held): Sending {
  return { sentAtMs: Date.now(), done: leaveToMailbox(recorder, input, held.untilMs), detach: () => undefined }
}

/** Parks a delivery until then. No request was made, so none is counted. */
export async function leaveToMailbox(recorder: Recorder, input: AttemptInput, untilMs: number): Promise<Disposition> {
  const { message, endpoint, trigger, groupId, retried } = input
  const change = { state: 'parked', attempts: input.attemptsBefore, nextAtMs: untilMs, retried } as const
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

/** An endpoint that fails gets no more requests at a time, however quickly it does. */
function speedOf(outcome: AttemptOutcome): Answered {
  if (outcome.durationMs < QUICK_MS) return outcome.kind === 'delivered' ? 'quickly' : 'slowly'
  return outcome.statusCode > 0 ? 'slowly' : 'never'
}
