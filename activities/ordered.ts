import { LIMITS } from '../domain/limits.ts'
import { headsOf, type Ordering } from '../domain/ordering.ts'
import { TRIGGER_SCHEDULED } from '../domain/outcome.ts'
import type { CachedEndpoint } from '../storage/config-cache.ts'
import { endDeliveries } from '../storage/deliveries.ts'
import { createGroupCommit, createLine } from '../storage/group-commit.ts'
import { readQueue, recordQueued, type QueuedDelivery } from '../storage/mailbox-queue.ts'
import { readMessages, type StoredMessage } from '../storage/messages.ts'
import type { Record } from '../storage/records.ts'
import { createMakeAttempt } from './attempt.ts'
import { createLaneSender, type LaneSender } from './lane-sender.ts'
import type { QueueRun, QueueSender, Step } from './queue-run.ts'
import { recordWithTurn } from './queue-recorder.ts'

const ROWS_PER_READ = 100
const NEXT_CHECKED = 20
const DETACH_AFTER_MS = 1000

interface State {
  readonly run: QueueRun
  readonly send: LaneSender
  /** The front of the queue as it was read last, without what has been sent since. */
  page: QueuedDelivery[]
  messages: ReadonlyMap<string, StoredMessage>
  readonly inFlight: Map<string, { readonly one: QueuedDelivery; readonly done: Promise<void> }>
  /** Keys whose first delivery waits, and until when. */
  readonly blocked: Map<string, number>
  sent: number
}

/**
 * Sends a queue in order: one at a time, or one at a time for each key. A page is read from the front of the queue and sent to
 * its end before the next is read: what commits meanwhile with a lower number was not answered when the page was read, so
 * nothing in the page has to wait for it.
 */
export function createOrdered(run: QueueRun): QueueSender {
  const writes = createGroupCommit<Record, undefined>({
    max: LIMITS.attemptsPerFlush,
    queue: createLine(),
    onPassingFault: 'retry',
    async write(records) {
      const next = state.page.slice(0, NEXT_CHECKED).map((one) => one.messageId)
      const waiting = await recordWithTurn(run, records, (db, turn) => recordQueued(db, turn, { records, next }))
      // Cancelled or skipped meanwhile.
      if (waiting !== undefined) state.page = state.page.filter(({ messageId }) => waiting.has(messageId) || !next.includes(messageId))
      for (const record of records) learn(state, record)
      return records.map(() => undefined)
    },
  })
  const recorder = { record: (record: Record) => writes.add(record), forgetGroup: () => undefined, drained: () => writes.drained() }
  const send = createLaneSender(run.deps.slots, createMakeAttempt({ ...run.deps, recorder }))
  const state: State = { run, send, page: [], messages: new Map(), inFlight: new Map(), blocked: new Map(), sent: 0 }
  return {
    step: (endpoint) => step(state, endpoint),
    async finish() {
      await Promise.allSettled([...state.inFlight.values()].map(({ done }) => done))
      await writes.drained()
    },
  }
}

/** What is tried again holds up its key until then. */
function learn({ inFlight, blocked }: State, { messageId, change }: Record): void {
  const key = inFlight.get(messageId)?.one.orderingKey ?? null
  if (change.state === 'parked' && key !== null) blocked.set(key, change.nextAtMs)
}

async function step(state: State, endpoint: CachedEndpoint): Promise<Step> {
  const { run, inFlight } = state
  const ordering = endpoint.ordering === 'fifo-by-key' ? 'fifo-by-key' : 'fifo'
  let heads = nextHeads(state, ordering)
  if (heads.length === 0 && inFlight.size === 0) {
    if (!(await readPage(state, ordering))) return { kind: 'waits' }
    if (state.page.length === 0) return state.blocked.size === 0 ? { kind: 'empty' } : { kind: 'waits' }
    heads = nextHeads(state, ordering)
    if (heads.length === 0) return blockWaiting(state, ordering)
  }
  const turn = heads.length === 0 ? { now: [] } : await run.deps.pace.ask(endpoint, heads)
  for (const head of turn.now) begin(state, endpoint, head)
  if (inFlight.size === 0) {
    const held = 'held' in turn ? turn.held : undefined
    // The page grows old while it waits.
    state.page = []
    return { kind: 'waits', ...(held === undefined ? {} : { untilMs: held.untilMs, reason: held.reason }) }
  }
  await Promise.race([...inFlight.values()].map(({ done }) => done))
  const { sent } = state
  state.sent = 0
  return { kind: 'went', sent }
}

function nextHeads(state: State, ordering: Exclude<Ordering, 'none'>): QueuedDelivery[] {
  const inFlight = [...state.inFlight.values()].map(({ one }) => one)
  const queue = state.page.filter(({ orderingKey }) => ordering === 'fifo' || orderingKey === null || !state.blocked.has(orderingKey))
  return headsOf({ queue, ordering, inFlight, room: LIMITS.endpointInFlightPerWorker, nowMs: Date.now() })
}

/** Nothing of the page may go: with `fifo-by-key` the next page leaves out the keys that hold it up. */
function blockWaiting(state: State, ordering: Ordering): Step {
  const known = state.blocked.size
  if (ordering === 'fifo-by-key') {
    for (const { orderingKey, nextAtMs } of state.page) {
      if (orderingKey !== null && !state.blocked.has(orderingKey)) state.blocked.set(orderingKey, nextAtMs)
    }
  }
  state.page = []
  return state.blocked.size > known ? { kind: 'went', sent: 0 } : { kind: 'waits' }
}

/** @returns false where the turn is lost */
async function readPage(state: State, ordering: Ordering): Promise<boolean> {
  const { deps, held } = state.run
  const nowMs = Date.now()
  for (const [key, untilMs] of state.blocked) if (untilMs <= nowMs) state.blocked.delete(key)
  const byKey = ordering === 'fifo-by-key' ? { blockedKeys: [...state.blocked.keys()] } : {}
  const page = await held.check((turn) => readQueue(deps.pool, turn, { limit: ROWS_PER_READ, ...byKey }))
  if (page === undefined) return false
  state.page = page
  state.messages = await readMessages(
    deps.pool,
    deps.messages,
    page.map((one) => one.messageId),
  )
  return true
}

function begin(state: State, endpoint: CachedEndpoint, one: QueuedDelivery): void {
  state.page = state.page.filter((other) => other !== one)
  const done = sendOne(state, endpoint, one).finally(() => state.inFlight.delete(one.messageId))
  // Whoever waits for it sees it fail; nobody may be waiting yet.
  done.catch(() => undefined)
  state.inFlight.set(one.messageId, { one, done })
}

async function sendOne(state: State, endpoint: CachedEndpoint, one: QueuedDelivery): Promise<void> {
  const { deps, held, runId } = state.run
  const { messageId, groupId, trigger, retried, attempts } = one
  const message = state.messages.get(messageId)
  const cancelled = message?.cancelled === true && trigger === TRIGGER_SCHEDULED
  if (message === undefined || cancelled) {
    await endDeliveries(deps.pool, { endpointId: endpoint.id, messageIds: [messageId], groupId, state: cancelled ? 'cancelled' : 'dead' })
    return
  }
  const attempt = {
    message,
    endpoint,
    lane: 'retry',
    groupId,
    runId,
    attemptsBefore: attempts,
    hadRow: attempts > 0,
    trigger,
    retried,
  } as const
  const sending = await state.send({ ...attempt, parkAlways: true, mayStart: () => held.mayStart(), signal: deps.stopping })
  if (typeof sending === 'string') return
  const timer = setTimeout(() => sending.detach(), DETACH_AFTER_MS)
  const { kind } = await sending.done.finally(() => clearTimeout(timer))
  // Read again from the front: it is the first still.
  if (kind === 'parked' || kind === 'interrupted') state.page = []
  else state.sent++
  if (sending.answered !== undefined) await deps.pace.answered(endpoint.id, [await sending.answered])
}
