import { batchBody, cutBatch, failedOf } from '../domain/batch.ts'
import { newId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import { isDue, type Batching } from '../domain/ordering.ts'
import { STATUS_FAIL, STATUS_SUCCESS, TRIGGER_SCHEDULED, type AttemptOutcome } from '../domain/outcome.ts'
import type { CachedEndpoint } from '../storage/config-cache.ts'
import { endDeliveries } from '../storage/deliveries.ts'
import { fixBatch, readForBatch, type QueuedDelivery } from '../storage/mailbox-queue.ts'
import { readMessages, type StoredMessage } from '../storage/messages.ts'
import type { Record } from '../storage/records.ts'
import { createMakeAttempt } from './attempt.ts'
import { createLaneSender } from './lane-sender.ts'
import type { QueueRun, QueueSender, Step } from './queue-run.ts'
import { recordWithTurn } from './queue-recorder.ts'

const DETACH_AFTER_MS = 1000
// Looking at every message that comes would cost more than the wait for a few.
const LOOK_EVERY_MS = 10

/** A batch that is fixed, with what it carries. */
interface Batch {
  readonly id: string
  readonly events: readonly { readonly one: QueuedDelivery; readonly message: StoredMessage; readonly payload: string }[]
}

/** Sends a queue in batches, one request at a time. Of an ordered endpoint a batch that failed holds up the next. */
export function createBatches(run: QueueRun): QueueSender {
  return { step: (endpoint) => step(run, endpoint), finish: () => Promise.resolve() }
}

async function step(run: QueueRun, endpoint: CachedEndpoint): Promise<Step> {
  const { deps, held, endpointId } = run
  const batching = endpoint.batching!
  const front = await held.check((turn) => readForBatch(deps.pool, turn, endpoint.ordering !== 'none'))
  if (front === undefined) return { kind: 'waits' }
  const fixed = front.filter((one) => one.batchId !== null)
  const [first] = fixed.length > 0 ? fixed : front
  if (first === undefined) return { kind: 'empty' }
  if (!isDue(first, Date.now())) return { kind: 'waits', untilMs: first.nextAtMs }
  if (fixed.length > 0) return send(run, endpoint, first.batchId!, fixed)
  const cut = cutBatch(front, batching)
  const lingerMs = cut.full ? 0 : lingerLeft(first, batching)
  if (lingerMs > 0) {
    await deps.hints.wait(endpointId, Math.max(LOOK_EVERY_MS, lingerMs), deps.stopping)
    return { kind: 'went', sent: 0 }
  }
  const id = newId('batch')
  const chosen = front.slice(0, cut.count)
  const still = await held.check((turn) =>
    fixBatch(
      deps.pool,
      turn,
      id,
      chosen.map((one) => one.messageId),
    ),
  )
  if (still === undefined) return { kind: 'waits' }
  return send(
    run,
    endpoint,
    id,
    chosen.filter((one) => still.has(one.messageId)),
  )
}

/** What has failed has waited long enough. The clock that wrote the row may differ from this one. */
function lingerLeft(first: QueuedDelivery, { lingerMs }: Batching): number {
  return first.attempts > 0 ? 0 : Math.min(lingerMs, first.nextAtMs + lingerMs - Date.now())
}

async function send(run: QueueRun, endpoint: CachedEndpoint, id: string, chosen: readonly QueuedDelivery[]): Promise<Step> {
  const batch = await load(run, endpoint, id, chosen)
  const [first] = batch.events
  if (first === undefined) return { kind: 'went', sent: 0 }
  const turn = await run.deps.pace.ask(endpoint, [first.one])
  if (turn.now.length === 0)
    return { kind: 'waits', ...(turn.held === undefined ? {} : { untilMs: turn.held.untilMs, reason: turn.held.reason }) }
  const outcome = await sendBatch(run, endpoint, batch, first.one)
  if (outcome !== undefined) await run.deps.pace.answered(endpoint.id, [outcome])
  return { kind: 'went', sent: batch.events.length }
}

/** Reads what a batch carries. What cannot be sent any more ends. */
async function load(run: QueueRun, endpoint: CachedEndpoint, id: string, chosen: readonly QueuedDelivery[]): Promise<Batch> {
  const { deps } = run
  const messages = await readMessages(
    deps.pool,
    deps.messages,
    chosen.map((one) => one.messageId),
  )
  const isCancelled = (one: QueuedDelivery) => messages.get(one.messageId)?.cancelled === true && one.trigger === TRIGGER_SCHEDULED
  const events = chosen.flatMap((one) => {
    const message = messages.get(one.messageId)
    return message === undefined || message.payload === null || isCancelled(one) ? [] : [{ one, message, payload: message.payload }]
  })
  for (const one of chosen) {
    if (events.some((event) => event.one === one)) continue
    const state = isCancelled(one) ? 'cancelled' : 'dead'
    await endDeliveries(deps.pool, { endpointId: endpoint.id, messageIds: [one.messageId], groupId: one.groupId, state })
  }
  return { id, events }
}

/** Sends a batch as if it were one message, and records what came of it for each event. */
async function sendBatch(
  run: QueueRun,
  endpoint: CachedEndpoint,
  batch: Batch,
  first: QueuedDelivery,
): Promise<AttemptOutcome | undefined> {
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
    async record(record: Record) {
      const partly = failed !== 'all' && failed.size > 0
      const records = batch.events.map((event, i) => recordOf(record, event, partly && failed !== 'all' && !failed.has(i)))
      await recordWithTurn(run, { records, next: [], sameBatch: !partly })
    },
    forgetGroup: () => undefined,
    drained: () => Promise.resolve(),
  }
  const message = { ...batch.events[0]!.message, id: batch.id, payload: body, envelope: { contentType } }
  const { groupId, attempts, trigger } = first
  const delivery = { groupId, runId, attemptsBefore: attempts, hadRow: attempts > 0, trigger, retried: first.retried } as const
  const sending = await createLaneSender(
    deps.slots,
    createMakeAttempt({ ...deps, client, recorder }),
  )({
    ...delivery,
    message,
    endpoint: { ...endpoint, format: null },
    lane: 'retry',
    parkAlways: true,
    mayStart: () => held.mayStart(),
    signal: deps.stopping,
  })
  if (typeof sending === 'string') return undefined
  const timer = setTimeout(() => sending.detach(), DETACH_AFTER_MS)
  await sending.done.finally(() => clearTimeout(timer))
  return sending.answered
}

/** What an event's part in a batch is recorded as. @param taken whether the endpoint took it, though not all of the batch */
function recordOf(whole: Record, { one, message }: Batch['events'][number], taken: boolean): Record {
  const delivery = { messageId: message.id, trigger: one.trigger, groupId: one.groupId }
  const change = taken ? ({ state: 'delivered', hadRow: one.attempts > 0 } as const) : whole.change
  if (whole.attempt === undefined) return { ...whole, ...delivery, change }
  const delivered = change.state === 'delivered'
  const attempt = {
    ...whole.attempt,
    ...delivery,
    id: newId('atmpt', whole.attempt.createdAtMs),
    eventType: message.eventType,
    status: delivered ? STATUS_SUCCESS : STATUS_FAIL,
    responseBody: whole.attempt.responseBody.slice(0, LIMITS.batchResponseMaxChars),
  } as const
  return { ...whole, ...delivery, attempt, change }
}
