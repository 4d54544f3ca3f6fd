import { createHash } from 'node:crypto'
import type { Logger } from 'pino'
import type { HandedMessage, Handover, HandoverAnswer } from '../domain/handover.ts'
import { LIMITS } from '../domain/limits.ts'
import { TRIGGER_SCHEDULED } from '../domain/outcome.ts'
import { mayHold, type Region, type Regions } from '../domain/regions.ts'
import { RegionCallError, type RegionClient } from '../http/region-client.ts'
import { dropHandedOver, readToHandOver, settleHandedOver, type HandOverOf, type ToHandOver } from '../storage/handed-over.ts'
import type { ConfigCache } from '../storage/config-cache.ts'
import type { Pool } from '../storage/pool.ts'

export interface HandOverDependencies {
  readonly pool: Pool
  readonly configCache: ConfigCache
  /** Undefined: there is no other region. */
  readonly regions: Regions | undefined
  readonly regionClient: Pick<RegionClient, 'call'> | undefined
  /** Multiplies how long a region is waited for; 1 outside tests. */
  readonly retryTimeScale: number
  /** Told of messages that a region has taken, or that are attempted here after all. */
  readonly onHandedOver?: ((region: string, result: 'handed' | 'here', messages: number) => void) | undefined
  readonly log: Logger
  /** Aborted when the process stops. */
  readonly stopping: AbortSignal
}

/** One group on its way to one region. */
export interface Handing extends HandOverOf {
  /** Of one call. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
  /** Told of each answer, and of each call that had none, in time or at all. */
  readonly onAnswer: () => void
  readonly onNone: (reason: string, late: boolean) => void
}

/** Why something waits. */
export interface Waits {
  readonly reason: string
  /** The region did not answer. False: it answered that it does not take something yet. */
  readonly isAway: boolean
}

/** Hands over all that waits of a group, in as many calls as it takes. @returns undefined where nothing waits any more */
export async function handAll(deps: HandOverDependencies, handing: Handing): Promise<Waits | undefined> {
  const { region } = handing
  // It has left the regions file meanwhile.
  if (deps.regions?.has(region) !== true) {
    await keepAll(deps, handing)
    return undefined
  }
  const to = deps.regions.get(region)
  const untaken: string[] = []
  for (;;) {
    const batch = await readToHandOver(deps.pool, handing, { except: untaken, maxBytes: LIMITS.handOverBytes })
    if (batch.length === 0) break
    const toSend = await sortOut(deps, handing, to, batch)
    if (toSend.length === 0) continue
    try {
      const answer = await call(deps, handing, to, toSend)
      untaken.push(...(await settleAnswer(deps, handing, toSend, answer)))
    } catch (error) {
      if (!(error instanceof RegionCallError)) throw error
      if (!deps.stopping.aborted) handing.onNone(error.message, error.code === 'timeout' || handing.signal.aborted)
      return { reason: error.message, isAway: true }
    }
    handing.onAnswer()
  }
  if (untaken.length === 0) return undefined
  return { reason: `the region ${region} does not know all endpoints of ${untaken.length} messages yet`, isAway: false }
}

/** Nobody waits for the region any more. */
export async function keepAll(deps: HandOverDependencies, of: HandOverOf): Promise<void> {
  tell(deps, of, 'here', await settleHandedOver(deps.pool, of, null, 'here'))
}

/** Takes out what is not for the region: what it may not have, what has waited too long, and what has nothing to be sent any more. */
async function sortOut(deps: HandOverDependencies, handing: Handing, to: Region, batch: readonly ToHandOver[]): Promise<Sendable[]> {
  const late = lateIds(batch, LIMITS.handOverWaitMaxMs * deps.retryTimeScale)
  const [dropped, kept, toSend]: [string[], string[], Sendable[]] = [[], [], []]
  for (const message of batch) {
    if (message.cancelled && message.trigger === TRIGGER_SCHEDULED) dropped.push(message.id)
    // That its payload is gone is recorded as for any endpoint.
    else if (!isSendable(message) || late.has(message.id) || !mayHold(to, message.residency)) kept.push(message.id)
    else toSend.push(message)
  }
  if (dropped.length > 0) await dropHandedOver(deps.pool, handing, dropped)
  await settle(deps, handing, kept, 'here')
  return toSend
}

type Sendable = ToHandOver & { readonly payload: string }

const isSendable = (message: ToHandOver): message is Sendable => message.payload !== null

function lateIds(messages: readonly ToHandOver[], maxMs: number): Set<string> {
  return new Set(messages.filter(({ sinceMs }) => sinceMs > maxMs).map(({ id }) => id))
}

/**
 * What another region knows a group by. Its id is that of a message, perhaps of an application that must not leave the zone, whose
 * messages were fanned out together with others.
 */
export function toldGroupId(groupId: string): string {
  return createHash('sha256').update(groupId).digest('base64url')
}

async function call(deps: HandOverDependencies, handing: Handing, to: Region, messages: readonly Sendable[]): Promise<HandoverAnswer> {
  const { groupId, timeoutMs, signal } = handing
  const { trigger, retried, chosen } = messages[0]!
  const body: Handover = {
    groupId: toldGroupId(groupId),
    from: deps.regions!.own.name,
    trigger,
    retried,
    chosen,
    messages: messages.map(toHanded),
  }
  const answer = await deps.regionClient!.call(to, { path: '/handover', body, timeoutMs, signal })
  if (!isAnswer(answer)) throw new RegionCallError('invalid', to.name, 'answered with what is not understood here')
  return answer
}

function isAnswer(answer: unknown): answer is HandoverAnswer {
  return typeof answer === 'object' && answer !== null && 'unknown' in answer && 'refused' in answer
}

function toHanded(message: Sendable): HandedMessage {
  const { id, appId, eventType, eventId, channels, payload, createdAtMs, expiresAtMs, deliverAtMs } = message
  const { envelope, priority, orderingKey, traceparent, endpointIds } = message
  const sent = { id, appId, eventType, eventId, channels, payload, createdAtMs, expiresAtMs, deliverAtMs }
  return { ...sent, envelope, priority, orderingKey, traceparent, endpointIds }
}

/** @returns ids of messages that the region may take later */
async function settleAnswer(
  deps: HandOverDependencies,
  handing: Handing,
  sent: readonly Sendable[],
  { unknown, refused }: HandoverAnswer,
): Promise<readonly string[]> {
  const late = lateIds(sent, LIMITS.handOverUnknownMaxMs * deps.retryTimeScale)
  const untaken = new Set(unknown.filter((id) => !late.has(id)))
  const kept = new Set([...refused, ...unknown.filter((id) => late.has(id))])
  const ids = sent.map(({ id }) => id)
  const handed = ids.filter((id) => !kept.has(id) && !untaken.has(id))
  await settle(deps, handing, handed, 'handed')
  await settle(deps, handing, [...kept], 'here')
  return [...untaken]
}

async function settle(deps: HandOverDependencies, of: HandOverOf, ids: readonly string[], state: 'handed' | 'here'): Promise<void> {
  if (ids.length > 0) tell(deps, of, state, await settleHandedOver(deps.pool, of, ids, state))
}

function tell(
  { log, onHandedOver }: HandOverDependencies,
  { groupId, region }: HandOverOf,
  state: 'handed' | 'here',
  messages: number,
): void {
  if (messages === 0) return
  onHandedOver?.(region, state, messages)
  if (state === 'here') log.warn({ groupId, region, messages }, 'handover.kept-here')
}
