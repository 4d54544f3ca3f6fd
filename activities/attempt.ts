import type { Logger } from 'pino'
import { nextDelayMs, spreadOf, type RetryPolicy } from '../domain/backoff.ts'
import { dress, type Dress } from '../domain/cloud-event.ts'
import { successRateOf, type HealthRules } from '../domain/health.ts'
import { newId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Lane } from '../domain/names.ts'
import {
  asksToBeDisabled,
  STATUS_FAIL,
  STATUS_SUCCESS,
  TRIGGER_SCHEDULED,
  type AttemptOutcome,
  type AttemptTrigger,
} from '../domain/outcome.ts'
import type { OutgoingClient } from '../http/client.ts'
import { signerFor, signMessage } from '../http/signing.ts'
import type { CachedEndpoint } from '../storage/config-cache.ts'
import type { EndpointHealth } from '../storage/endpoint-health.ts'
import type { StoredMessage } from '../storage/messages.ts'
import type { Recorder } from '../storage/recorder.ts'
import type { DeliveryChange } from '../storage/records.ts'
import type { Load } from './load.ts'

/**
 * What became of a delivery by one attempt, recorded when it is returned. `interrupted`: nothing was recorded, the process
 * stops and another has to send it. `ended`: no further attempt, though not delivered (dead-lettered, or a single attempt).
 */
export type Disposition =
  | { readonly kind: 'delivered' | 'ended' | 'parked' | 'interrupted' }
  | { readonly kind: 'retrying'; readonly nextAtMs: number; readonly reason: string }

export interface AttemptInput {
  readonly message: StoredMessage
  readonly endpoint: CachedEndpoint
  readonly lane: Lane
  readonly groupId: string
  readonly runId: string
  /** Of an attempt that was begun with the start of its fan-out: resolves when its run is known. It is not recorded before. */
  readonly begun?: Promise<void>
  readonly attemptsBefore: number
  /** Whether a row of this delivery waits, or may be left from an earlier fan-out. */
  readonly hadRow: boolean
  readonly trigger: AttemptTrigger
  readonly retried: boolean
  /** No activity of a fan-out holds a timer for this delivery: however short the wait, the mailbox has it. */
  readonly parkAlways?: boolean
  /** Asked right before the request is written: where it may not be any more, the delivery is `interrupted`. */
  readonly mayStart?: () => boolean
  /** Of a batch: how many events it carries, and how many of them a request that failed has left undelivered. */
  readonly batch?: { readonly events: number; failed(): number } | undefined
  readonly signal?: AbortSignal | undefined
  /** Aborted when Temporal has given the work to another process: what waits for its slot is not sent here any more. */
  readonly lost?: AbortSignal | undefined
}

/** Looks on at attempts: metrics, traces, the log line of each. It must not throw, and does no I/O. */
export interface AttemptWatch {
  /** @returns headers for the request, and what is told the end of the attempt */
  begin(input: AttemptInput, startedAtMs: number): WatchedAttempt
}

export interface WatchedAttempt {
  readonly headers?: Readonly<Record<string, string>> | undefined
  ended(end: AttemptEnd): void
}

export interface AttemptEnd {
  readonly outcome: AttemptOutcome
  /** What it made of the delivery, as recorded; undefined where nothing was, as it was interrupted. */
  readonly change?: DeliveryChange | undefined
  /** Of the attempt that was recorded. */
  readonly attemptId?: string | undefined
}

export interface AttemptDependencies {
  readonly client: Pick<OutgoingClient, 'post'>
  readonly recorder: Recorder
  readonly health: Pick<EndpointHealth, 'begin' | 'window'>
  readonly healthRules: HealthRules
  readonly policy: RetryPolicy
  readonly retryTimeScale: number
  readonly requestTimeoutMs: number
  readonly svixHeaders: boolean
  readonly disableEndpoint: (endpointId: string, appId: string) => Promise<void>
  readonly load: Pick<Load, 'firstRequest'>
  readonly watch?: AttemptWatch | undefined
  readonly log: Logger
}

/** The outcome is given before the record is committed, so that a slot is free as soon as the endpoint has answered. */
export interface AttemptHandle {
  readonly answered: Promise<AttemptOutcome>
  readonly done: Promise<Disposition>
}

export type MakeAttempt = (input: AttemptInput) => AttemptHandle

const GONE: AttemptOutcome = { kind: 'blocked', statusCode: 0, body: 'the payload has expired or was expunged', durationMs: 0 }

/** Signs, sends, decides what follows, and records it: the one place where a webhook leaves. */
export function createMakeAttempt(deps: AttemptDependencies): MakeAttempt {
  return (input) => {
    const startedAtMs = Date.now()
    if (waitedForUsAlone(input)) deps.load.firstRequest(startedAtMs - (input.message.deliverAtMs ?? input.message.createdAtMs))
    const watched = deps.watch?.begin(input, startedAtMs)
    const made: Made = { input, startedAtMs, watched }
    const { payload } = input.message
    const answered = payload === null ? Promise.resolve(GONE) : send(deps, made, payload)
    return { answered, done: settle(deps, made, answered) }
  }
}

/** An attempt under way. */
interface Made {
  readonly input: AttemptInput
  readonly startedAtMs: number
  readonly watched: WatchedAttempt | undefined
}

/** What was parked, is slow, is sent again on request, or comes from another region has waited for its endpoint or for somebody else. */
function waitedForUsAlone({ attemptsBefore, lane, trigger, parkAlways, message }: AttemptInput): boolean {
  return attemptsBefore === 0 && message.acceptedIn === undefined && lane !== 'slow' && trigger === TRIGGER_SCHEDULED && parkAlways !== true
}

function send(deps: AttemptDependencies, { input, startedAtMs: nowMs, watched }: Made, payload: string): Promise<AttemptOutcome> {
  const { endpoint, message } = input
  const dressed = withBytesShared(message, payload, dress(message, payload, endpoint.format))
  let headers: Record<string, string>
  try {
    headers = requestHeaders(endpoint, message.id, dressed, nowMs, deps.svixHeaders)
  } catch (error) {
    deps.log.error({ endpointId: endpoint.id, messageId: message.id, err: error }, 'attempt.unsignable')
    return Promise.resolve({ kind: 'blocked', statusCode: 0, body: 'the endpoint has no secret that can sign', durationMs: 0 })
  }
  const ended = deps.health.begin(endpoint)
  const sent = deps.client.post(input.lane, {
    url: endpoint.url,
    headers: watched?.headers === undefined ? headers : { ...headers, ...watched.headers },
    body: dressed.body,
    timeoutMs: endpoint.timeoutMs ?? deps.requestTimeoutMs,
    signal: input.signal,
    mayStart: input.mayStart,
    access: endpoint.access,
  })
  return sent.then((outcome) => {
    ended(outcome)
    return outcome
  })
}

/** Payloads of which each signature and each request would make bytes of its own are made bytes once for all endpoints. */
const SHARED_FROM_CHARS = 16_384

const sharedBytes = new WeakMap<StoredMessage, Buffer>()

function withBytesShared(message: StoredMessage, payload: string, dressed: Dress): Dress {
  if (payload.length < SHARED_FROM_CHARS || dressed.body !== payload) return dressed
  let body = sharedBytes.get(message)
  if (body === undefined) {
    body = Buffer.from(payload)
    sharedBytes.set(message, body)
  }
  return { ...dressed, body }
}

function requestHeaders(endpoint: CachedEndpoint, messageId: string, dressed: Dress, nowMs: number, svix: boolean): Record<string, string> {
  const isLive = ({ expiresAtMs }: { readonly expiresAtMs: number | null }) => expiresAtMs === null || expiresAtMs > nowMs
  const live = endpoint.secrets.every(isLive) ? endpoint.secrets : endpoint.secrets.filter(isLive)
  if (live.length === 0) throw new Error('no live secret')
  const signers = live.map((one) => signerFor(one.secret))
  const signed = signMessage(signers, messageId, Math.floor(nowMs / 1000), dressed.body)
  const headers: Record<string, string> = {
    ...endpoint.headers,
    ...dressed.headers,
    'user-agent': 'Tidings/0.1',
    ...signed,
  }
  if (svix) {
    headers['svix-id'] = signed['webhook-id']
    headers['svix-timestamp'] = signed['webhook-timestamp']
    headers['svix-signature'] = signed['webhook-signature']
  }
  return headers
}

async function settle(
  deps: AttemptDependencies,
  { input, startedAtMs, watched }: Made,
  answered: Promise<AttemptOutcome>,
): Promise<Disposition> {
  const outcome = await answered
  if (outcome.kind === 'interrupted') {
    watched?.ended({ outcome })
    return { kind: 'interrupted' }
  }
  const { message, endpoint } = input
  if (input.begun !== undefined) await input.begun
  const gone = asksToBeDisabled(outcome)
  if (gone) await disableOrLog(deps, endpoint)
  const change = decide(deps, input, outcome, gone)
  const delivery = {
    messageId: message.id,
    endpointId: endpoint.id,
    appId: message.appId,
    trigger: input.trigger,
    groupId: input.groupId,
  }
  const attempt = {
    id: newId('atmpt', startedAtMs),
    messageId: message.id,
    endpointId: endpoint.id,
    appId: message.appId,
    eventType: message.eventType,
    url: endpoint.url,
    status: outcome.kind === 'delivered' ? STATUS_SUCCESS : STATUS_FAIL,
    responseCode: outcome.statusCode,
    responseBody: outcome.body,
    durationMs: Math.round(outcome.durationMs),
    trigger: input.trigger,
    groupId: input.groupId,
    runId: input.runId,
    createdAtMs: startedAtMs,
  } as const
  try {
    await deps.recorder.record({ ...delivery, attempt, change })
  } catch (error) {
    // Postgres will never take this attempt as it is: the message is dead-lettered alone rather than sent for ever.
    deps.log.error({ ...delivery, err: error }, 'attempt.unrecordable')
    const dead = { state: 'dead', attempts: input.attemptsBefore + 1 } as const
    await deps.recorder.record({ ...delivery, change: dead })
    watched?.ended({ outcome, change: dead })
    return { kind: 'ended' }
  }
  watched?.ended({ outcome, change, attemptId: attempt.id })
  if (change.state === 'dead') {
    deps.log.warn(
      { messageId: message.id, endpointId: endpoint.id, attempts: change.attempts, code: outcome.statusCode },
      'delivery.dead-lettered',
    )
  }
  return dispositionOf(change, outcome)
}

/** An endpoint that stays enabled for now says 410 again at its next message. */
async function disableOrLog(deps: AttemptDependencies, endpoint: CachedEndpoint): Promise<void> {
  try {
    await deps.disableEndpoint(endpoint.id, endpoint.appId)
    deps.log.warn({ endpointId: endpoint.id, appId: endpoint.appId }, 'endpoint.disabled-by-410')
  } catch (error) {
    deps.log.error({ endpointId: endpoint.id, err: error }, 'endpoint.not-disabled')
  }
}

/** What the outcome makes of the delivery. */
function decide(deps: AttemptDependencies, input: AttemptInput, outcome: AttemptOutcome, gone: boolean): DeliveryChange {
  if (outcome.kind === 'delivered') return { state: 'delivered', hadRow: input.hadRow }
  const attempts = input.attemptsBefore + 1
  // A single attempt leaves nothing behind, unless it had to wait: then it has a row, which becomes a dead letter.
  if (!input.retried && input.parkAlways !== true) return { state: 'untracked' }
  if (gone || outcome === GONE || !input.retried) return { state: 'dead', attempts }
  const scheduleMs = input.endpoint.retryScheduleMs?.map((ms) => ms * deps.retryTimeScale)
  const window = deps.health.window(input.endpoint.id)
  const delayMs = nextDelayMs({
    policy: scheduleMs === undefined ? deps.policy : { ...deps.policy, scheduleMs },
    attempts,
    health: { successRate: window === undefined ? undefined : successRateOf(window, deps.healthRules) },
    outcome,
    random: spreadOf(attempts, input.groupId, input.endpoint.id),
  })
  if (delayMs === undefined) return { state: 'dead', attempts }
  const parked = input.parkAlways === true || delayMs > LIMITS.serverSideRetryMaxMs * deps.retryTimeScale
  return { state: parked ? 'parked' : 'retrying', attempts, nextAtMs: Date.now() + delayMs }
}

function dispositionOf(change: DeliveryChange, outcome: AttemptOutcome): Disposition {
  switch (change.state) {
    case 'delivered':
      return { kind: 'delivered' }
    case 'parked':
      return { kind: 'parked' }
    case 'retrying':
      return { kind: 'retrying', nextAtMs: change.nextAtMs, reason: reasonOf(outcome) }
    case 'dead':
    case 'skipped':
    case 'untracked':
      return { kind: 'ended' }
  }
}

/** What operators see of a failure: a status, or the short reason; never the endpoint's answer. */
function reasonOf(outcome: AttemptOutcome): string {
  return outcome.statusCode > 0 ? `the endpoint answered ${outcome.statusCode}` : outcome.body
}
