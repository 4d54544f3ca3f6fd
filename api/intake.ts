import { EventIdConflictError, OverloadedError, RepeatedKeyError } from '../domain/errors.ts'
import { createFairQueue } from '../domain/fair-queue.ts'
import type { Crowding } from '../domain/crowding.ts'
import type { InHand } from '../domain/in-hand.ts'
import { handedTo, type HandedMessage, type Handover, type HandoverAnswer } from '../domain/handover.ts'
import { DEFAULT_PRIORITY, DEFAULT_WEIGHTS, lineOf, type PriorityWeights } from '../domain/priority.ts'
import { newId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { NewMessage, Redelivery } from '../domain/message.ts'
import type { Regions } from '../domain/regions.ts'
import { takes } from '../domain/routing.ts'
import type { ConfigCache } from '../storage/config-cache.ts'
import { createGroupCommit } from '../storage/group-commit.ts'
import { storeHandover } from '../storage/handed-in.ts'
import type { MessageCache } from '../storage/messages.ts'
import { acceptMessages, UNROUTED, type QueuePlace, type Routing } from '../storage/accept.ts'
import { enqueueRedeliveries, notifyOutbox } from '../storage/outbox.ts'
import type { Pool } from '../storage/pool.ts'
import type { MailboxWake } from '../storage/records.ts'
import { storeTogether } from '../storage/scheduled.ts'
import type { Intake } from './dependencies.ts'
import { createPublishTurns } from './publish-turns.ts'

/** What the intake needs of a dispatcher in the same process. */
export interface CoLocatedDispatcher {
  readonly idle: boolean
  startGroup(groupId: string, messages: readonly NewMessage[]): void
  offer(messages: readonly NewMessage[]): void
  wake(): void
}

/** What makes publishers wait. */
export interface Load {
  readonly crowding: Crowding
  /** Absent: deliveries are made elsewhere, and Postgres is what holds them. */
  readonly inHand?: InHand | undefined
}

export interface IntakeDependencies {
  readonly pool: Pool
  readonly messages: MessageCache
  /** Absent: dispatchers of other processes are woken through Postgres. */
  readonly dispatcher?: CoLocatedDispatcher | undefined
  /** Absent: what is scheduled waits for the sweep of another process. */
  readonly schedule?: { wake(wakeAtMs: number): void } | undefined
  /** Tells where messages go. Absent: every message is fanned out, and takes its places in queues then. */
  readonly configCache?: Pick<ConfigCache, 'endpoints'> | undefined
  /** Absent: there is no other region. */
  readonly regions?: Regions | undefined
  /** Absent: mailboxes wait for the sweep of another process. */
  readonly wakeMailbox?: ((wake: MailboxWake) => void) | undefined
  readonly groupLeaseMs: number
  /** As of a group commit. */
  readonly gapMs?: (() => number) | undefined
  readonly weights?: PriorityWeights | undefined
  /** Absent: nobody waits for others. */
  readonly load?: Load | undefined
}

type Acceptance = 'accepted' | 'conflict' | 'repeated'

/**
 * Commits messages in groups: at once when idle, else all that came while the commit before was under way, each application
 * and priority in its turn. A message is answered after its commit.
 */
export function createIntake(deps: IntakeDependencies): Intake & { drained(): Promise<void> } {
  const { pool, dispatcher, weights = DEFAULT_WEIGHTS } = deps
  const queue = createFairQueue<NewMessage>()
  const turns = deps.load === undefined ? undefined : createPublishTurns({ ...deps.load, weights })
  const commits = createGroupCommit<NewMessage, Acceptance>({
    max: LIMITS.messagesPerCommit,
    gapMs: deps.gapMs,
    queue: {
      get size() {
        return queue.size
      },
      push(message) {
        const { appId, priority = DEFAULT_PRIORITY } = message
        queue.push(lineOf(appId, priority), message, weights[priority])
      },
      take: (max) => queue.take(max),
    },
    // A publisher is better served by an error now than by an answer after its own timeout.
    onPassingFault: 'reject',
    write: (messages) => commit(deps, messages),
  })
  const within = createBound()
  const accept = async (message: NewMessage): Promise<void> => {
    const turn = turns?.turn({ appId: message.appId, priority: message.priority, messages: 1 })
    if (turn !== undefined) await turn
    const isPlain = message.deliverAtMs === undefined && message.envelope === undefined
    const acceptance = isPlain ? await commits.add(message) : (await commitTogether(deps, [message]))[0]
    if (acceptance === 'repeated') throw new RepeatedKeyError('a message was published with this idempotency key before')
    if (acceptance === 'conflict') throw new EventIdConflictError(`a message with eventId ${message.eventId} exists already`)
  }
  const acceptAll = async (messages: readonly NewMessage[]): Promise<number[]> => {
    const [first] = messages
    if (first !== undefined) await turns?.turn({ appId: first.appId, priority: first.priority, messages: messages.length })
    const acceptances = await commitTogether(deps, messages)
    return messages.flatMap((_, i) => (acceptances[i] === 'accepted' ? [] : [i]))
  }
  return {
    accept: (message) => within([message], () => accept(message)),
    acceptAll: (messages) => within(messages, () => acceptAll(messages)),
    async sendAgain(redeliveries: readonly Redelivery[]) {
      await enqueueRedeliveries(pool, redeliveries, newId('out'))
      if (dispatcher === undefined) await notifyOrLeave(pool)
      else dispatcher.wake()
    },
    takeOver: (handover, mayHold) => takeOver(deps, handover, mayHold),
    drained: () => commits.drained(),
  }
}

/** Bounds what publishers wait for in this process, which holds it in memory meanwhile. */
function createBound() {
  let publishes = 0
  let bytes = 0
  return async <T>(messages: readonly NewMessage[], accept: () => Promise<T>): Promise<T> => {
    // In UTF-16 units: at most twice as many bytes are held.
    const size = messages.reduce((sum, { payload }) => sum + payload.length, 0)
    if (publishes >= LIMITS.publishesWaitingMax || bytes + size > LIMITS.publishesWaitingMaxBytes) throw new OverloadedError('overloaded')
    publishes++
    bytes += size
    try {
      return await accept()
    } finally {
      publishes--
      bytes -= size
    }
  }
}

async function commit(deps: IntakeDependencies, messages: NewMessage[]): Promise<Acceptance[]> {
  const { pool, dispatcher } = deps
  const grouped = dispatcher?.idle === true && messages.length <= LIMITS.groupMaxMessages
  const routing = await routingOf(deps, messages)
  const result = await acceptMessages(pool, messages, grouped, deps.groupLeaseMs, routing)
  remember(
    deps.messages,
    messages.filter(({ id }) => result.accepted.has(id)),
    routing,
  )
  wakeAll(deps, result.wakes)
  const waiting = messages.filter((message) => result.fannedOut.has(message.id))
  takeInHand(deps, messages, { ...routing, fannedOut: result.fannedOut })
  if (waiting.length > 0) {
    if (dispatcher === undefined) await notifyOrLeave(pool)
    else if (result.groupId !== undefined) dispatcher.startGroup(result.groupId, waiting)
    else dispatcher.offer(waiting)
  }
  return messages.map(({ id }) => (result.accepted.has(id) ? 'accepted' : result.repeated.has(id) ? 'repeated' : 'conflict'))
}

/** Keeps accepted messages in memory: most are delivered from there. */
function remember(cache: MessageCache, accepted: readonly NewMessage[], { places }: Routing): void {
  const placedWith = new Map<string, string[]>()
  for (const { messageId, endpointId } of places) placedWith.set(messageId, [...(placedWith.get(messageId) ?? []), endpointId])
  for (const message of accepted) {
    const placed = placedWith.get(message.id)
    cache.set(message.id, placed === undefined ? message : { ...message, placedWith: placed })
  }
}

/** Commits messages all or none, apart from the groups: rare ways in take nothing from the one that everybody uses. */
async function commitTogether(deps: IntakeDependencies, messages: readonly NewMessage[]): Promise<Acceptance[]> {
  const immediate = messages.filter((message) => message.deliverAtMs === undefined)
  const routing = await routingOf(deps, immediate)
  const { accepted, repeated, fannedOut, wakeAtMs, wakes } = await storeTogether(deps.pool, messages, routing)
  wakeAll(deps, wakes)
  if (accepted.size === messages.length) {
    remember(deps.messages, immediate, routing)
    if (wakeAtMs !== undefined) deps.schedule?.wake(wakeAtMs)
    const waiting = immediate.filter((message) => fannedOut.has(message.id))
    takeInHand(deps, messages, { ...routing, fannedOut })
    if (waiting.length > 0) {
      if (deps.dispatcher === undefined) await notifyOrLeave(deps.pool)
      else deps.dispatcher.offer(waiting)
    }
  }
  return messages.map(({ id }) => (accepted.has(id) ? 'accepted' : repeated.has(id) ? 'repeated' : 'conflict'))
}

/** What is stored is this region's from then on. What of it comes again is answered as if it had been new. */
async function takeOver(
  { pool, dispatcher, messages }: IntakeDependencies,
  handover: Handover,
  mayHold: (zone: string) => boolean,
): Promise<HandoverAnswer> {
  const { stored, unknown, refused } = await storeHandover(pool, handover, mayHold)
  const taken = stored.map((message) => toNewMessage(message))
  for (const message of taken) messages.set(message.id, { ...message, acceptedIn: handover.from })
  if (taken.length > 0) {
    if (dispatcher === undefined) await notifyOrLeave(pool)
    else if (handover.chosen) dispatcher.wake()
    else dispatcher.offer(taken)
  }
  return { unknown, refused }
}

function toNewMessage({ endpointIds: _endpointIds, deliverAtMs, envelope, orderingKey, traceparent, ...rest }: HandedMessage): NewMessage {
  return {
    ...rest,
    deliverAtMs: deliverAtMs ?? undefined,
    envelope: envelope ?? undefined,
    orderingKey: orderingKey ?? undefined,
    traceparent: traceparent ?? undefined,
  }
}

/** Where messages go: a look into memory. Those that no endpoint without a queue takes need no fan-out. */
async function routingOf(
  { configCache, regions }: IntakeDependencies,
  messages: readonly NewMessage[],
): Promise<Routing & { readonly firstAttempts?: ReadonlyMap<string, number> }> {
  if (configCache === undefined) return UNROUTED
  const places: QueuePlace[] = []
  const routed = new Set<string>()
  const firstAttempts = new Map<string, number>()
  for (const message of messages) {
    const { queued, unqueued } = await configCache.endpoints(message.appId)
    for (const endpoint of queued) {
      const eager = endpoint.ordering !== 'fifo'
      if (takes(endpoint, message)) places.push({ messageId: message.id, endpointId: endpoint.id, eager })
    }
    const taking = unqueued.filter((endpoint) => takes(endpoint, message))
    if (taking.length === 0) routed.add(message.id)
    const here = regions === undefined ? taking : taking.filter((endpoint) => handedTo(regions, endpoint, message) === undefined)
    firstAttempts.set(message.id, here.length)
  }
  return { places, routed, firstAttempts }
}

/** Of all that was committed: what has no fan-out was expected too, and leads to nothing. */
function takeInHand(
  { load }: IntakeDependencies,
  messages: readonly NewMessage[],
  { firstAttempts, fannedOut }: { firstAttempts?: ReadonlyMap<string, number>; fannedOut: ReadonlySet<string> },
): void {
  if (load?.inHand === undefined || firstAttempts === undefined) return
  const nowMs = Date.now()
  for (const { id } of messages) load.inHand.add(id, fannedOut.has(id) ? (firstAttempts.get(id) ?? 0) : 0, nowMs)
}

function wakeAll({ wakeMailbox }: IntakeDependencies, wakes: readonly MailboxWake[]): void {
  if (wakeMailbox !== undefined) for (const wake of wakes) wakeMailbox(wake)
}

/** What is stored is accepted, whether or not a dispatcher can be told: it looks on its own when it has reconnected. */
async function notifyOrLeave(pool: Pool): Promise<void> {
  await notifyOutbox(pool).catch(() => undefined)
}
