import { batchBody, cutBatch, failedOf } from '../domain/batch.ts'
import { newId } from '../domain/ids.ts'
import { isDue, type Batching } from '../domain/ordering.ts'
import { STATUS_FAIL, STATUS_SUCCESS, TRIGGER_SCHEDULED, type AttemptOutcome } from '../domain/outcome.ts'
import type { CachedEndpoint } from '../storage/config-cache.ts'
import { adoptBatch, fixBatch, readForBatch, readSizes, recordBatch, type BatchEvent, type Placed } from '../storage/batches.ts'
import { endDeliveries } from '../storage/deliveries.ts'
import type { QueuedDelivery } from '../storage/mailbox-queue.ts'
import { readMessages, type StoredMessage } from '../storage/messages.ts'
import type { Record } from '../storage/records.ts'
import { createMakeAttempt } from './attempt.ts'
import { createLaneSender } from './lane-sender.ts'
import type { QueueWatch } from './queue-hints.ts'
import type { QueueRun, QueueSender, Step } from './queue-run.ts'
import { recordWithTurn } from './queue-recorder.ts'

const DETACH_AFTER_MS = 1000
// Looking at every message that comes would cost more than the wait for a few.
const LOOK_EVERY_MS = 10
// What is tried again comes into a page with the next read from the front, and so does, where no order is kept, what commits late.
const FRONT_EVERY_MS = 500

/** A batch with what it carries. */
interface Batch {
  readonly id: string
  readonly events: readonly Event[]
}

interface Event {
  readonly one: QueuedDelivery
  readonly message: StoredMessage
  readonly payload: string
}

interface State {
  readonly run: QueueRun
  /** The front of the queue as it was read last, without what has been sent since. */
  page: (Placed & { readonly bytes: number })[]
  /** When the queue was last read from its front, and the number of what has left it last. */
  frontAtMs: number
  sentSeq: number
  /** What is added to the queue, and how much of it was there when the page was read. */
  readonly watch: QueueWatch
  addedAtRead: number
  /** A batch may be fixed whose request nobody has recorded. */
  inDoubt: boolean
}

/**
 * Sends a queue in batches, one request at a time. Of an ordered endpoint a batch that failed holds up the next. A page is read
 * from the front of the queue and cut into full batches before the next is read: what commits meanwhile with a lower number was
 * not answered when the page was read, so nothing in the page has to wait for it.
 */
export function createBatches(run: QueueRun): QueueSender {
  const watch = run.deps.hints.watch(run.endpointId)
  const state: State = { run, page: [], frontAtMs: 0, sentSeq: 0, watch, addedAtRead: 0, inDoubt: false }
  return {
    step: (endpoint) => step(state, endpoint),
    finish() {
      watch.stop()
      return Promise.resolve()
    },
  }
}

async function step(state: State, endpoint: CachedEndpoint): Promise<Step> {
  const batching = endpoint.batching!
  let cut = cutBatch(state.page, batching)
  if (!cut.full) await gather(state, batching)
  if (!cut.full || Date.now() > state.frontAtMs + FRONT_EVERY_MS) {
    if (!(await readNext(state, endpoint))) return { kind: 'waits' }
    cut = cutBatch(state.page, batching)
  }
  const [first] = state.page
  if (first === undefined) return { kind: 'empty' }
  if (!isDue(first, Date.now())) {
    fromFront(state)
    return { kind: 'waits', untilMs: first.nextAtMs }
  }
  if (first.batchId !== null) {
    const { batchId } = first
    const fixed = state.page.filter((one) => one.batchId === batchId)
    // There may be another.
    fromFront(state)
    return send(state, endpoint, { id: batchId, fixed: true }, fixed)
  }
  // The next step gathers.
  if (!cut.full && lingerLeft(first, batching) > 0) return { kind: 'went', sent: 0 }
  const chosen = state.page.splice(0, cut.count)
  state.sentSeq = chosen.at(-1)!.seq
  return send(state, endpoint, { id: newId('batch'), fixed: false }, chosen)
}

/** Has the next read begin at the front of the queue. */
function fromFront(state: State): void {
  state.page = []
  state.frontAtMs = 0
}

/** Waits until what is left of the page can be a full batch with what has been added, or has waited long enough. */
async function gather({ run, page, watch, addedAtRead }: State, batching: Batching): Promise<void> {
  const [first] = page
  if (first === undefined) return
  const lingerMs = lingerLeft(first, batching)
  const missing = batching.maxEvents - page.length - (watch.added - addedAtRead)
  if (lingerMs <= 0 || missing <= 0) return
  await run.deps.hints.wait(run.endpointId, Math.max(LOOK_EVERY_MS, lingerMs), run.deps.stopping, missing)
}

/** Reads on where no order is kept, but from the front now and then, and before the queue is taken for empty. */
async function readNext(state: State, endpoint: CachedEndpoint): Promise<boolean> {
  const readsOn = endpoint.ordering === 'none' && Date.now() <= state.frontAtMs + FRONT_EVERY_MS
  if (readsOn && !(await readPage(state, endpoint, state.sentSeq))) return false
  return (readsOn && state.page.length > 0) || readPage(state, endpoint)
}

/** @returns false where the turn is lost */
async function readPage(state: State, endpoint: CachedEndpoint, afterSeq?: number): Promise<boolean> {
  const { deps, held } = state.run
  state.page = []
  if (state.inDoubt) {
    if ((await held.check((turn) => adoptBatch(deps.pool, turn))) === undefined) return false
    state.inDoubt = false
  }
  if (afterSeq === undefined) state.frontAtMs = Date.now()
  state.addedAtRead = state.watch.added
  const rows = await held.check((turn) => readForBatch(deps.pool, turn, endpoint.ordering !== 'none', afterSeq))
  if (rows === undefined) return false
  const fixed = rows.filter((one) => one.batchId !== null)
  const front = fixed.length > 0 ? fixed : rows
  const sizeOf = await readSizes(
    deps.pool,
    deps.messages,
    front.map((one) => one.messageId),
  )
  state.page = front.map((one) => ({ ...one, bytes: sizeOf(one.messageId) }))
  return true
}

/** What has failed has waited long enough. The clock that wrote the row may differ from this one. */
function lingerLeft(first: QueuedDelivery, { lingerMs }: Batching): number {
  return first.attempts > 0 ? 0 : Math.min(lingerMs, first.nextAtMs + lingerMs - Date.now())
}

async function send(
  state: State,
  endpoint: CachedEndpoint,
  { id, fixed }: { id: string; fixed: boolean },
  chosen: readonly QueuedDelivery[],
): Promise<Step> {
  const { run } = state
  const events = await load(run, endpoint, chosen)
  const [first] = events
  if (first === undefined) return { kind: 'went', sent: 0 }
  const turn = await run.deps.pace.ask(endpoint, [first.one])
  if (turn.now.length === 0) {
    fromFront(state)
    return { kind: 'waits', ...(turn.held === undefined ? {} : { untilMs: turn.held.untilMs, reason: turn.held.reason }) }
  }
  const batch = { id, events: fixed ? events : await fix(state, id, events) }
  if (batch.events.length === 0) return run.held.lost ? { kind: 'waits' } : { kind: 'went', sent: 0 }
  const { outcome, ended } = await sendBatch(run, endpoint, batch)
  state.inDoubt = !ended
  // What is tried again holds up the rest, or is one of the next batch.
  if (!ended || outcome?.kind !== 'delivered') fromFront(state)
  if (outcome !== undefined) await run.deps.pace.answered(endpoint.id, [outcome])
  return { kind: 'went', sent: batch.events.length }
}

/** @returns those that still wait: others have been cancelled or skipped since they were read */
async function fix({ run }: State, id: string, events: readonly Event[]): Promise<Event[]> {
  const ids = events.map(({ one }) => one.messageId)
  const still = await run.held.check((turn) => fixBatch(run.deps.pool, turn, id, ids))
  return still === undefined ? [] : events.filter(({ one }) => still.has(one.messageId))
}

/** Reads what a batch carries. What cannot be sent any more ends. */
async function load({ deps }: QueueRun, endpoint: CachedEndpoint, chosen: readonly QueuedDelivery[]): Promise<Event[]> {
  const messages = await readMessages(
    deps.pool,
    deps.messages,
    chosen.map((one) => one.messageId),
  )
  const events: Event[] = []
  for (const one of chosen) {
    const message = messages.get(one.messageId)
    const cancelled = message?.cancelled === true && one.trigger === TRIGGER_SCHEDULED
    if (message !== undefined && message.payload !== null && !cancelled) {
      events.push({ one, message, payload: message.payload })
      continue
    }
    const ended = { endpointId: endpoint.id, messageIds: [one.messageId], groupId: one.groupId }
    await endDeliveries(deps.pool, { ...ended, state: cancelled ? 'cancelled' : 'dead' })
  }
  return events
}

/** Sends a batch as if it were one message, and records what came of it for each event. @returns `ended`: it is recorded */
async function sendBatch(
  run: QueueRun,
  endpoint: CachedEndpoint,
  batch: Batch,
): Promise<{ readonly outcome?: AttemptOutcome | undefined; readonly ended: boolean }> {
  const { deps, held, runId } = run
  const { body, contentType } = batchBody(batch.events, endpoint.format)
  let failed: ReadonlySet<number> | 'all' = new Set()
  const client = {
    post: async (...request: Parameters<typeof deps.client.post>) => {
      const outcome = await deps.client.post(...request)
      if (outcome.kind !== 'delivered') return outcome
      failed = failedOf(outcome.statusCode, outcome.body, batch.events.length)
      if (failed !== 'all' && failed.size === 0) return outcome
      return { ...outcome, kind: 'rejected' as const, partly: failed !== 'all' && failed.size < batch.events.length }
    },
  }
  const recorder = {
    record: (whole: Record) => record(run, batch, whole, failed),
    forgetGroup: () => undefined,
    drained: () => Promise.resolve(),
  }
  const { one: first, message } = batch.events[0]!
  const { groupId, attempts, trigger } = first
  const delivery = { groupId, runId, attemptsBefore: attempts, hadRow: attempts > 0, trigger, retried: first.retried } as const
  const sending = await createLaneSender(
    deps.slots,
    createMakeAttempt({ ...deps, client, recorder }),
  )({
    ...delivery,
    message: { ...message, id: batch.id, payload: body, envelope: { contentType } },
    endpoint: { ...endpoint, format: null },
    lane: 'retry',
    parkAlways: true,
    batch: { events: batch.events.length, failed: () => (failed === 'all' ? batch.events.length : failed.size || batch.events.length) },
    mayStart: () => held.mayStart(),
    signal: deps.stopping,
  })
  if (typeof sending === 'string') return { ended: false }
  const timer = setTimeout(() => sending.detach(), DETACH_AFTER_MS)
  const { kind } = await sending.done.finally(() => clearTimeout(timer))
  return { outcome: await sending.answered, ended: kind !== 'interrupted' }
}

/** Records every event's part in a batch. */
async function record(run: QueueRun, batch: Batch, whole: Record, failed: ReadonlySet<number> | 'all'): Promise<void> {
  const partly = failed !== 'all' && failed.size > 0
  const isTaken = (i: number) => whole.change.state === 'delivered' || (partly && !failed.has(i))
  const atMs = whole.attempt?.createdAtMs
  const events = batch.events.map(({ one, message }, i) => {
    const { groupId, trigger } = one
    return { messageId: message.id, eventType: message.eventType, groupId, trigger, attemptId: newId('atmpt', atMs), taken: isTaken(i) }
  })
  // What is plainly delivered nobody is told of.
  const told =
    whole.change.state === 'delivered' && !whole.change.hadRow ? [] : events.map((event, i) => recordOf(whole, event, batch.events[i]!))
  await recordWithTurn(run, told, (db, turn) => recordBatch(db, turn, { batchId: batch.id, whole, events, sameBatch: !partly }))
}

/** An event's part in a batch, as others are told of it. */
function recordOf(whole: Record, { attemptId, taken, ...event }: BatchEvent, { one }: Event): Record {
  const { messageId, groupId, trigger } = event
  const change = taken ? ({ state: 'delivered', hadRow: one.attempts > 0 } as const) : whole.change
  if (whole.attempt === undefined) return { ...whole, messageId, groupId, trigger, change }
  const attempt = { ...whole.attempt, ...event, id: attemptId, status: taken ? STATUS_SUCCESS : STATUS_FAIL } as const
  return { ...whole, messageId, groupId, trigger, attempt, change }
}
