import type { PlannedEndpoint } from '../domain/fan-out.ts'
import { LIMITS } from '../domain/limits.ts'
import { hasQueue } from '../domain/ordering.ts'
import { NO_RUN, TRIGGER_SCHEDULED } from '../domain/outcome.ts'
import type { ConfigCache } from '../storage/config-cache.ts'
import type { MessageCache } from '../storage/messages.ts'
import type { AttemptInput } from './attempt.ts'
import type { LaneSender, Sending } from './lane-sender.ts'
import type { Refusal } from './request-slots.ts'
import { targetOf, withoutPlaced } from './routes.ts'

/** What became of one: on its way, or refused by the lane. Undefined: it was not begun after all, and is to be sent as any other. */
type Begun = Sending | Refusal | undefined

/**
 * First attempts that were begun with the start of their fan-out, while Temporal starts it (ADR 38). They are recorded when
 * the fan-out takes them over, under its run. What no run has taken over after `begunUnrecordedMs` is recorded under none, and
 * given up where it is unanswered: by then another process may have the fan-out, and looks in Postgres.
 */
export interface BegunAttempts {
  /** @returns whether the group's first attempts are under way; false where too many wait for their fan-out, or the process stops */
  begin(groupId: string, planned: readonly PlannedEndpoint[]): boolean
  /** Gives one of the group to the run that takes the group over, once; undefined where there is none for it. */
  take(of: { readonly groupId: string; readonly runId: string }, messageId: string, endpointId: string): Promise<Begun> | undefined
  /**
   * Temporal will never start the group. What is on its way has a second to be answered.
   * @returns endpoints that need nothing more: they have it, or their mailbox has it for them
   */
  refused(groupId: string): Promise<readonly string[]>
  /** Begins no more, and has what no run has taken over recorded, as far as it is answered. */
  stop(): Promise<void>
}

export interface BegunAttemptsDependencies {
  readonly messages: MessageCache
  readonly configCache: ConfigCache
  readonly sendFast: LaneSender
  /** Aborted when requests in flight are to be given up. */
  readonly stopping: AbortSignal
}

/** The first attempts of one group. */
class BegunGroup {
  /** Under which they are recorded; undefined until that is known. */
  runId: string | undefined
  /** The run that has taken them over. */
  takenBy: string | undefined
  readonly giveUp = new AbortController()
  readonly attempts = new Map<string, Promise<Begun>>()
  readonly begunAtMs = performance.now()
  readonly known: Promise<void>
  #tell: () => void = () => undefined

  constructor() {
    this.known = new Promise((resolve) => {
      this.#tell = resolve
    })
  }

  recordUnder(runId: string): void {
    if (this.runId !== undefined) return
    this.runId = runId
    this.#tell()
  }

  /** Recorded without a run: what is answered now, and nothing that is still in flight. */
  settle(): void {
    if (this.runId !== undefined) return
    this.giveUp.abort()
    this.recordUnder(NO_RUN)
  }

  ageMs(): number {
    return performance.now() - this.begunAtMs
  }
}

const LOOK_EVERY_MS = 1000

export function createBegunAttempts(deps: BegunAttemptsDependencies): BegunAttempts {
  const groups = new Map<string, BegunGroup>()
  let stopped = false
  let looking: NodeJS.Timeout | undefined

  const look = () => {
    for (const [groupId, group] of groups) {
      const ageMs = group.ageMs()
      if (ageMs > LIMITS.begunUnrecordedMs) group.settle()
      if (ageMs > LIMITS.begunKeptMs) groups.delete(groupId)
    }
    if (groups.size > 0) return
    clearInterval(looking)
    looking = undefined
  }
  return {
    begin(groupId, planned) {
      if (stopped || groups.size >= LIMITS.begunGroupsMax) return false
      const group = new BegunGroup()
      groups.set(groupId, group)
      looking ??= setInterval(look, LOOK_EVERY_MS).unref()
      for (const { endpointId, messageIds } of planned) {
        for (const messageId of messageIds)
          group.attempts.set(keyOf(messageId, endpointId), send(deps, { groupId, group, messageId, endpointId }))
      }
      return true
    },
    take({ groupId, runId }, messageId, endpointId) {
      const group = groups.get(groupId)
      if (group === undefined) return undefined
      group.takenBy ??= runId
      // A run that was reset sends anew.
      if (group.takenBy !== runId) return undefined
      group.recordUnder(runId)
      const key = keyOf(messageId, endpointId)
      const begun = group.attempts.get(key)
      group.attempts.delete(key)
      if (group.attempts.size === 0) groups.delete(groupId)
      return begun
    },
    async refused(groupId) {
      const group = groups.get(groupId)
      if (group === undefined) return []
      group.recordUnder(NO_RUN)
      const late = setTimeout(() => group.giveUp.abort(), LIMITS.firstAttemptHoldMs)
      const ended = await Promise.all([...group.attempts].map(async ([key, begun]) => ((await isEnded(begun)) ? endpointOf(key) : [])))
      clearTimeout(late)
      return ended.flat()
    },
    async stop() {
      stopped = true
      clearInterval(looking)
      const left = [...groups.values()]
      for (const group of left) group.settle()
      const begun = await Promise.all(left.flatMap(({ attempts }) => [...attempts.values()]))
      await Promise.allSettled(begun.flatMap((one) => (typeof one === 'object' ? [one.done] : [])))
    },
  }
}

const keyOf = (messageId: string, endpointId: string) => `${messageId} ${endpointId}`
const endpointOf = (key: string) => key.slice(key.indexOf(' ') + 1)

async function isEnded(attempt: Promise<Begun>): Promise<boolean> {
  const begun = await attempt
  if (typeof begun !== 'object') return false
  const { kind } = await begun.done
  return kind !== 'retrying' && kind !== 'interrupted'
}

interface ToSend {
  readonly groupId: string
  readonly group: BegunGroup
  readonly messageId: string
  readonly endpointId: string
}

async function send(deps: BegunAttemptsDependencies, { groupId, group, messageId, endpointId }: ToSend): Promise<Begun> {
  try {
    const message = deps.messages.get(messageId)
    if (message === undefined || message.cancelled === true) return undefined
    const target = await targetOf(deps.configCache, endpointId, [message])
    if (target === undefined || hasQueue(target.endpoint) || withoutPlaced(target).messages.length === 0) return undefined
    const attempt: AttemptInput = {
      message,
      endpoint: target.endpoint,
      lane: 'fast',
      groupId,
      get runId() {
        return group.runId ?? NO_RUN
      },
      begun: group.known,
      attemptsBefore: 0,
      hadRow: false,
      trigger: TRIGGER_SCHEDULED,
      retried: true,
      // A process that stood still meanwhile is not the only one that may have the fan-out.
      mayStart: () => group.runId !== undefined || group.ageMs() < LIMITS.begunUnrecordedMs,
      signal: AbortSignal.any([deps.stopping, group.giveUp.signal]),
    }
    const sending = await deps.sendFast(attempt)
    // Whoever takes it over learns of it.
    if (typeof sending === 'object') sending.done.catch(() => undefined)
    return sending
  } catch {
    // No request was made: its activity tries again, and tells why where it fails too.
    return undefined
  }
}
